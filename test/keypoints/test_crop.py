"""Crops by a virtual camera: exact map, upright, the same picture when the camera turns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from face_pose_ros.keypoints.crop import (
    crops_around_boxes,
    crops_around_keypoints,
    jittered,
    render_crops,
)
from helpers.cameras import DISTORTIONS, make_camera
from helpers.portraits import portrait_view

from face_pose_ros.geometry import so3
from face_pose_ros.virtual_camera import View, look_at, render_view

SIZE = 256
MIRROR = torch.tensor([-1.0, 1.0, 1.0]).double()
BOX = torch.tensor([[430.0, 250.0, 570.0, 400.0]])


def anchors(box, roll_deg):
    """Eyes, nose, mouth and ears of a frontal face in a box, turned in the picture."""
    centre, side = 0.5 * (box[:, :2] + box[:, 2:]), (box[:, 2:] - box[:, :2]).amax()
    layout = torch.tensor(
        [[-0.2, -0.2], [0.2, -0.2], [0, 0], [0, 0.25], [-0.45, -0.1], [0.45, -0.1]]
    )
    a = np.deg2rad(roll_deg)
    turn = torch.tensor([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]], dtype=torch.float32)
    return (centre + side * layout @ turn.T)[None]


@pytest.mark.parametrize('name', DISTORTIONS)
def test_every_crop_pixel_has_its_exact_ray(name, generator):
    camera = make_camera(name)
    crops = crops_around_boxes(BOX, anchors(BOX, 25), camera, SIZE, 1.5)
    uv_crop = SIZE * torch.rand(1, 50, 2, generator=generator, dtype=torch.float64)
    uv, valid = crops.to_image(uv_crop, camera)
    assert valid.all()
    rays = torch.nn.functional.normalize(crops.rays(uv_crop), dim=-1)
    torch.testing.assert_close(camera.unproject(uv).rays, rays, rtol=0, atol=1e-9)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_the_rendered_pixel_is_the_mapped_pixel(name):
    """A picture whose colours are its coordinates says where each crop pixel came from."""
    camera = make_camera(name)
    v, u = np.mgrid[: camera.height, : camera.width]
    # One grey level per pixel around the box's middle: linear, so interpolation is exact.
    picture = np.stack([u - 400, v - 230, 0 * u], -1).clip(0, 255).astype(np.uint8)
    crops = crops_around_boxes(BOX, anchors(BOX, 25), camera, SIZE, 1.5)
    crop = 255 * render_crops(torch.from_numpy(picture), crops, camera)[0]
    pixels = torch.tensor([[[80, 90], [170, 100], [128, 127], [90, 160]]])
    uv = crops.to_image(pixels.double(), camera)[0][0]
    column, row = pixels[0].T
    found = crop[:2, row, column].T.double() + torch.tensor([400.0, 230.0], dtype=torch.float64)
    torch.testing.assert_close(found, uv, rtol=0, atol=0.1)


@pytest.mark.parametrize('roll_deg', [0, 30, -75, 150])
def test_crops_stand_upright(roll_deg):
    camera = make_camera('plumb_bob_5')
    points = anchors(BOX, roll_deg)
    crops = crops_around_boxes(BOX, points, camera, SIZE, 1.5)
    rays = camera.unproject(points.double()).rays
    xyz_crop = rays @ crops.R_cam_crop
    eye_right, eye_left, _, mouth = xyz_crop[0, :4, :2] / xyz_crop[0, :4, 2:]
    across = eye_left - eye_right
    assert across[0] > 0
    assert abs(across[1] / across[0]) < 0.03
    assert mouth[1] > eye_right[1]


def test_the_box_fills_two_thirds_of_the_crop():
    camera = make_camera()
    crops = crops_around_boxes(BOX, None, camera, SIZE, 1.5)
    corners = torch.tensor([[[500.0, 250.0], [500.0, 400.0]]]).double()
    xyz = camera.unproject(corners).rays @ crops.R_cam_crop
    v = crops.focal_px * xyz[0, :, 1] / xyz[0, :, 2]
    assert float(v[1] - v[0]) == pytest.approx(SIZE / 1.5, rel=0.02)


def test_crops_around_keypoints_centre_them(generator):
    camera = make_camera('equidistant')
    uv = torch.tensor([300.0, 500.0]) + 120 * torch.rand(1, 468, 2, generator=generator)
    index = torch.arange(4)
    crops = crops_around_keypoints(
        uv, index, index + 4, index + 8, index + 12, camera, SIZE, margin=1.5
    )
    xyz = camera.unproject(uv.double()).rays @ crops.R_cam_crop
    xy = crops.focal_px[:, None, None] * xyz[..., :2] / xyz[..., 2:]
    low, high = xy[0].aminmax(dim=0)
    torch.testing.assert_close(low + high, torch.zeros(2).double(), rtol=0, atol=2.0)
    assert float((high - low).max()) == pytest.approx(SIZE / 1.5, rel=0.02)


def test_a_turned_camera_shows_the_network_the_same_picture():
    photo, photo_cam = portrait_view()
    box = torch.tensor([[172.0, 131.0, 355.0, 334.0]])
    points = anchors(box, 0)
    rays = photo_cam.unproject(points.double()).rays[0]
    aim = look_at(rays.mean(0).numpy())
    turn = so3.exp(torch.tensor([0.2, -0.25, 0.5], dtype=torch.float64)).numpy()
    pictures = []
    for R, name in ((aim, 'none'), (aim @ turn, 'plumb_bob_5')):
        view = View(R, make_camera(name))
        uv = view.camera.project(rays @ torch.from_numpy(R)).uv.float()
        crops = crops_around_keypoints(
            uv[None],
            torch.tensor([0]),
            torch.tensor([1]),
            torch.tensor([0, 1]),
            torch.tensor([3]),
            view.camera,
            SIZE,
            margin=2.0,
        )
        image = torch.from_numpy(render_view(photo, photo_cam, view))
        pictures.append(render_crops(image, crops, view.camera)[0])
    difference = (pictures[0] - pictures[1]).abs().mean()
    contrast = (pictures[0] - pictures[0].mean()).abs().mean()
    assert difference < 0.1 * contrast


def test_jitters_stay_within_their_bounds_and_prefer_no_side():
    plain = crops_around_boxes(BOX, None, make_camera('plumb_bob_5'), SIZE, 1.5)
    crops, mirrored = jittered(plain, 64)
    assert len(crops.focal_px) == 64
    assert mirrored.tolist() == 32 * [False, True]
    R = torch.where(mirrored[:, None, None], crops.R_cam_crop * MIRROR, crops.R_cam_crop)
    torch.testing.assert_close(so3.nearest(R), R)
    scale = (crops.focal_px / plain.focal_px).log()
    turn = plain.R_cam_crop.mT @ R
    shift = plain.focal_px * turn[:, :2, 2] / turn[:, 2:, 2] / SIZE
    roll = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
    assert 0.9 * np.log(1.08) < scale.abs().max() <= np.log(1.08)
    # The shift is of the jittered crop's side, which differs by up to 8 %.
    assert 0.035 < shift.abs().max() <= 0.04 * 1.081
    assert np.deg2rad(9) < roll.abs().max() < np.deg2rad(10.1)
    torch.testing.assert_close(scale[::2], -scale[1::2])
    torch.testing.assert_close(roll[::2], -roll[1::2], rtol=0, atol=2e-3)


def test_every_crop_is_jittered_alike_and_each_time_the_same():
    camera = make_camera()
    crops, _ = jittered(crops_around_boxes(BOX.expand(2, 4), None, camera, SIZE, 1.5), 6)
    torch.testing.assert_close(crops.R_cam_crop[:6], crops.R_cam_crop[6:])
    again, _ = jittered(crops_around_boxes(BOX, None, camera, SIZE, 1.5), 6)
    torch.testing.assert_close(again.focal_px, crops.focal_px[:6])


def test_a_mirrored_crop_shows_the_mirrored_picture_and_maps_back():
    photo, camera = portrait_view()
    box = torch.tensor([[172.0, 131.0, 355.0, 334.0]])
    plain = crops_around_boxes(box, None, camera, SIZE, 1.5)
    flipped = replace(plain, R_cam_crop=plain.R_cam_crop * MIRROR)
    image = torch.from_numpy(photo)
    torch.testing.assert_close(
        render_crops(image, flipped, camera),
        render_crops(image, plain, camera).flip(-1),
        rtol=0,
        atol=1e-3,
    )
    uv = torch.tensor([[[20.0, 90.0], [200.0, 31.0]]]).double()
    uv_flipped = torch.stack([255 - uv[..., 0], uv[..., 1]], -1)
    torch.testing.assert_close(
        flipped.to_image(uv_flipped, camera)[0], plain.to_image(uv, camera)[0]
    )


@pytest.mark.parametrize('name', DISTORTIONS)
def test_the_jacobian_is_the_derivative_of_the_map(name):
    camera = make_camera(name)
    crops = crops_around_boxes(BOX, anchors(BOX, 25), camera, SIZE, 1.5)
    middle = torch.full((1, 1, 2), 127.5, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(lambda uv: crops.to_image(uv, camera)[0], middle)
    torch.testing.assert_close(crops.jacobian(camera)[0], J[0, 0, :, 0, 0], rtol=1e-3, atol=1e-4)


def test_no_faces_no_crops():
    camera = make_camera()
    crops = crops_around_boxes(torch.zeros(0, 4), torch.zeros(0, 6, 2), camera, SIZE, 1.5)
    image = torch.zeros(camera.height, camera.width, 3, dtype=torch.uint8)
    assert render_crops(image, crops, camera).shape == (0, 3, SIZE, SIZE)


def test_a_crop_that_leaves_the_picture_repeats_its_border():
    camera = make_camera()
    image = torch.full((camera.height, camera.width, 3), 200, dtype=torch.uint8)
    box = torch.tensor([[-300.0, -250.0, 60.0, 90.0]])
    crop = render_crops(image, crops_around_boxes(box, None, camera, SIZE, 1.5), camera)
    torch.testing.assert_close(crop, torch.full_like(crop, 200 / 255))
