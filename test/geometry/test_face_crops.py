# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Crops by a virtual camera: OpenCV's pictures, exact map, upright, the same when turned."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.cameras import DISTORTIONS, make_camera
from helpers.portraits import portrait_view

from face_pose_ros.geometry.crops import (
    Crops,
    Upright,
    crops_around_boxes,
    crops_around_keypoints,
    render_crops,
)
from face_pose_ros.geometry.rotations import exp
from face_pose_ros.virtual_camera import View, look_at, render_view

SIZE = 256
MIRROR = np.array([-1.0, 1.0, 1.0])
BOX = np.array([[430.0, 250.0, 570.0, 400.0]])
UPRIGHT = Upright(*(np.array(index) for index in ([0, 1], [2, 3], [4, 5], [6, 7])))


def face_points(box, roll_deg):
    """(1, 8, 2) px: points of a frontal face that fills a box, ordered as UPRIGHT says, rolled."""
    centre, side = 0.5 * (box[:, :2] + box[:, 2:]), (box[:, 2:] - box[:, :2]).max()
    eyes = [[-0.3, -0.2], [-0.1, -0.2], [0.1, -0.2], [0.3, -0.2]]
    midline = [[0, -0.5], [0, -0.4], [0, 0.4], [0, 0.5]]
    a = np.deg2rad(roll_deg)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return (centre + side * np.array(eyes + midline) @ turn.T)[None]


def rolled_crop(box, roll_deg, camera):
    """The crop around a face that is rolled in the image."""
    return crops_around_keypoints(face_points(box, roll_deg), UPRIGHT, camera, SIZE, 1.5)


def keypoints(camera, rng, side_px):
    """Keypoints (3, 478, 2) px of three faces, one of them over the image's corner."""
    middle = np.array([[0.5, 0.5], [0.3, 0.7], [0.98, 0.97]]) * [camera.width, camera.height]
    return middle[:, None] + side_px * (rng.random((3, 478, 2)) - 0.5)


def noise(camera, rng):
    return rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)


def one(crops, i):
    return Crops(*(a[i : i + 1] for a in (crops.R_cam_crop, crops.focal_px, crops.valid)), SIZE)


def exact_pictures(image, crops, camera, scale):
    """`render_crops` by OpenCV from means of scale^2 pixels, the lens exact at every pixel."""
    axis = np.arange(crops.size_px)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(1, -1, 2)
    uv, _ = crops.to_image(np.repeat(grid, len(crops), 0), camera)
    uv = (uv.astype(np.float32).reshape(len(crops), len(axis), len(axis), 2) + 0.5) / scale - 0.5
    cells = np.pad(image, [(0, -n % scale) for n in image.shape[:2]] + [(0, 0)], 'edge')
    height, width = (n // scale for n in cells.shape[:2])
    halved = cells.astype(np.float32).reshape(height, scale, width, scale, 3).mean((1, 3))
    pictures = [
        cv2.remap(halved, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for x, y in np.moveaxis(uv, -1, 1)
    ]
    return np.stack(pictures).transpose(0, 3, 1, 2) / 255


@pytest.mark.parametrize(('side_px', 'scale'), [(60, 1), (150, 1), (300, 2), (700, 4)])
@pytest.mark.parametrize('name', ['none', 'plumb_bob_5', 'tilted_14', 'equidistant'])
def test_pictures_are_opencvs(name, side_px, scale, rng):
    camera = make_camera(name)
    image = cv2.GaussianBlur(noise(camera, rng), (0, 0), 3)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    u, v = camera.project([[0.02, -0.03, 1.0]]).uv[0]
    half = 0.5 * side_px
    crops = crops_around_boxes([[u - half, v - half, u + half, v + half]], camera, SIZE, 1.5)
    found = render_crops(image, crops, camera)
    expected = exact_pictures(image, crops, camera, scale)
    # OpenCV places samples to 1/32 px; a lens bends a little between nodes; means are rounded.
    assert np.abs(found - expected).max() < 0.02
    assert np.abs(found - expected).mean() < 0.0025


def test_a_pinholes_crop_is_a_homography(rng):
    camera = make_camera()
    image = cv2.GaussianBlur(noise(camera, rng), (0, 0), 3)
    crops = rolled_crop(BOX, 25, camera)
    f, middle = crops.focal_px[0], 0.5 * (SIZE - 1)
    K_crop = np.array([[f, 0, middle], [0, f, middle], [0, 0, 1]])
    H = camera.K @ crops.R_cam_crop[0] @ np.linalg.inv(K_crop)
    expected = cv2.warpPerspective(
        image.astype(np.float32), H, (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    found = 255 * render_crops(image, crops, camera)[0].transpose(1, 2, 0)
    assert np.abs(found - expected).max() < 3
    assert np.abs(found - expected).mean() < 0.2


@pytest.mark.parametrize('side_px', [60, 330])
def test_any_strides_and_read_only_images_are_taken(side_px, rng):
    camera = make_camera('plumb_bob_5')
    image = noise(camera, rng)
    crops = crops_around_keypoints(keypoints(camera, rng, side_px), UPRIGHT, camera, SIZE, 1.5)
    expected = render_crops(image, crops, camera)
    views = {
        'reversed channels': np.ascontiguousarray(image[..., ::-1])[..., ::-1],
        'upside down': np.ascontiguousarray(image[::-1])[::-1],
        'mirrored': np.ascontiguousarray(image[:, ::-1])[:, ::-1],
        'part of a wider one': np.pad(image, ((3, 2), (5, 7), (0, 0)))[3:-2, 5:-7],
        'of four channels': np.dstack([image, image[..., :1]])[..., :3],
        'by columns': np.asfortranarray(image),
        'read-only': image.copy(),
    }
    views['read-only'].flags.writeable = False
    for name, view in views.items():
        np.testing.assert_array_equal(render_crops(view, crops, camera), expected, err_msg=name)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_every_crop_pixel_has_its_exact_ray(name, rng):
    camera = make_camera(name)
    crops = rolled_crop(BOX, 25, camera)
    uv_crop = SIZE * rng.random((1, 50, 2))
    uv, valid = crops.to_image(uv_crop, camera)
    assert valid.all()
    rays = crops.rays(uv_crop)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    np.testing.assert_allclose(camera.unproject(uv).rays, rays, atol=1e-9)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_the_rendered_pixel_is_the_mapped_pixel(name):
    """A picture whose colours are its coordinates shows the source of each crop pixel."""
    camera = make_camera(name)
    v, u = np.mgrid[: camera.height, : camera.width]
    # One grey level per pixel around the box's middle: linear, so interpolation is exact.
    picture = np.stack([u - 400, v - 230, 0 * u], -1).clip(0, 255).astype(np.uint8)
    crops = rolled_crop(BOX, 25, camera)
    crop = 255 * render_crops(picture, crops, camera)[0]
    pixels = np.array([[80, 90], [170, 100], [128, 127], [90, 160]])
    uv = crops.to_image(pixels[None], camera)[0][0]
    column, row = pixels.T
    found = crop[:2, row, column].T + np.array([400, 230])
    np.testing.assert_allclose(found, uv, atol=0.1)


@pytest.mark.parametrize('roll_deg', [0, 30, -75, 150, 180])
def test_crops_stand_upright(roll_deg):
    camera = make_camera('plumb_bob_5')
    points = face_points(BOX, roll_deg)
    crops = rolled_crop(BOX, roll_deg, camera)
    xyz_crop = camera.unproject(points).rays @ crops.R_cam_crop
    xy_crop = xyz_crop[0, :, :2] / xyz_crop[0, :, 2:]
    across, down = xy_crop[3] - xy_crop[0], xy_crop[7] - xy_crop[4]
    assert across[0] > 0
    assert abs(across[1] / across[0]) < 0.03
    assert down[1] > 0
    assert abs(down[0] / down[1]) < 0.03


@pytest.mark.parametrize('name', ['none', 'plumb_bob_5', 'equidistant'])
def test_a_crop_around_a_box_is_upright_as_the_image(name):
    camera = make_camera(name)
    crops = crops_around_boxes(BOX, camera, SIZE, 1.5)
    uv, valid = crops.to_image([[[127.5, 127.5], [127.5, 40.0]]], camera)
    assert valid.all()
    np.testing.assert_allclose(uv[0, 0], [500, 325], atol=1)
    up = uv[0, 1] - uv[0, 0]
    assert up[1] < 0
    assert abs(up[0] / up[1]) < 0.03


def test_the_box_fills_two_thirds_of_the_crop():
    camera = make_camera()
    crops = crops_around_boxes(BOX, camera, SIZE, 1.5)
    xyz = camera.unproject([[500.0, 250.0], [500.0, 400.0]]).rays @ crops.R_cam_crop[0]
    v = crops.focal_px[0] * xyz[:, 1] / xyz[:, 2]
    assert v[1] - v[0] == pytest.approx(SIZE / 1.5, rel=0.02)


@pytest.mark.parametrize('roll_deg', [-40, 25])
def test_a_rolled_face_has_a_crop_of_the_same_scale(roll_deg):
    camera = make_camera('plumb_bob_5')
    level, rolled = rolled_crop(BOX, 0, camera), rolled_crop(BOX, roll_deg, camera)
    np.testing.assert_allclose(rolled.focal_px, level.focal_px, rtol=0.05)


@pytest.mark.parametrize('name', ['plumb_bob_5', 'equidistant'])
def test_crops_around_keypoints_centre_them(name, rng):
    camera = make_camera(name)
    uv = [300.0, 500.0] + 120 * rng.random((1, 468, 2))
    crops = crops_around_keypoints(uv, UPRIGHT, camera, SIZE, margin=1.5)
    xyz = camera.unproject(uv).rays @ crops.R_cam_crop
    xy = crops.focal_px[:, None, None] * xyz[..., :2] / xyz[..., 2:]
    low, high = xy[0].min(0), xy[0].max(0)
    np.testing.assert_allclose(low + high, 0, atol=2.0)
    assert (high - low).max() == pytest.approx(SIZE / 1.5, rel=0.02)


def test_a_crop_that_needs_rays_beyond_the_lens_is_not_valid():
    camera = replace(make_camera('plumb_bob_5'), range_max=0.3)
    boxes = np.concatenate([BOX, BOX + 350])
    assert crops_around_boxes(boxes, camera, SIZE, 1.5).valid.tolist() == [True, False]
    uv = np.stack([np.tile(box[:2], (8, 1)) for box in boxes]) + 30 * np.eye(8)[:, :2]
    assert crops_around_keypoints(uv, UPRIGHT, camera, SIZE, 1.5).valid.tolist() == [True, False]


def test_a_turned_camera_shows_the_network_the_same_picture():
    photo, photo_cam = portrait_view()
    rays = photo_cam.unproject(face_points(np.array([[172.0, 131.0, 355.0, 334.0]]), 0)).rays[0]
    aim = look_at(rays.mean(0))
    pictures = []
    for R, name in ((aim, 'none'), (aim @ exp([0.2, -0.25, 0.5]), 'plumb_bob_5')):
        view = View(R, make_camera(name))
        uv = view.camera.project(rays @ R).uv
        crops = crops_around_keypoints(uv[None], UPRIGHT, view.camera, SIZE, margin=1.5)
        image = render_view(photo, photo_cam, view)
        pictures.append(render_crops(image, crops, view.camera)[0])
    difference = np.abs(pictures[0] - pictures[1]).mean()
    contrast = np.abs(pictures[0] - pictures[0].mean()).mean()
    assert difference < 0.1 * contrast


def test_a_mirrored_crop_shows_the_mirrored_picture_and_maps_back():
    photo, camera = portrait_view()
    box = np.array([[172.0, 131.0, 355.0, 334.0]])
    plain = crops_around_boxes(box, camera, SIZE, 1.5)
    flipped = replace(plain, R_cam_crop=plain.R_cam_crop * MIRROR)
    np.testing.assert_allclose(
        render_crops(photo, flipped, camera), render_crops(photo, plain, camera)[..., ::-1],
        atol=1e-3,
    )  # fmt: skip
    uv = np.array([[[20.0, 90.0], [200.0, 31.0]]])
    uv_flipped = np.stack([255 - uv[..., 0], uv[..., 1]], -1)
    np.testing.assert_allclose(
        flipped.to_image(uv_flipped, camera)[0], plain.to_image(uv, camera)[0]
    )


def test_no_faces_no_crops():
    camera = make_camera()
    crops = crops_around_boxes(np.zeros((0, 4)), camera, SIZE, 1.5)
    image = np.zeros((camera.height, camera.width, 3), dtype=np.uint8)
    assert render_crops(image, crops, camera).shape == (0, 3, SIZE, SIZE)
    assert crops.jacobian(camera).shape == (0, 2, 2)


def test_a_crop_that_leaves_the_picture_repeats_its_border():
    camera = make_camera()
    image = np.full((camera.height, camera.width, 3), 200, dtype=np.uint8)
    crops = crops_around_boxes([[-60.0, -60.0, 40.0, 40.0]], camera, SIZE, 1.5)
    np.testing.assert_allclose(render_crops(image, crops, camera), 200 / 255, rtol=1e-5)


def test_a_close_face_is_not_aliased(rng):
    camera = make_camera()
    stripes = np.zeros((camera.height, camera.width, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    crops = crops_around_boxes([[130.0, 10.0, 830.0, 710.0]], camera, 64, 1.0)
    picture = render_crops(stripes, crops, camera)
    assert picture.std() < 0.1
    assert picture.mean() == pytest.approx(0.5, abs=0.02)


def test_a_picture_does_not_depend_on_its_neighbours(rng):
    photo, camera = portrait_view()
    uv = keypoints(camera, rng, 100)
    uv[1] = uv[1].mean(0) + 5 * (uv[1] - uv[1].mean(0))
    crops = crops_around_keypoints(uv, UPRIGHT, camera, SIZE, 1.5)
    together = render_crops(photo, crops, camera)
    for i in range(3):
        np.testing.assert_array_equal(
            together[i : i + 1], render_crops(photo, one(crops, i), camera)
        )


@pytest.mark.parametrize('side', ['R_cam_crop', 'focal_px'])
@pytest.mark.parametrize('value', [np.nan, np.inf, 0.0, 1e-300])
@pytest.mark.parametrize('name', ['plumb_bob_5', 'equidistant'])
def test_a_crop_without_rays_is_some_picture(side, value, name, rng):
    camera = make_camera(name)
    image = noise(camera, rng)
    crops = crops_around_keypoints(keypoints(camera, rng, 150), UPRIGHT, camera, SIZE, 1.5)
    broken = getattr(crops, side).copy()
    broken[1] = value
    pictures = render_crops(image, replace(crops, **{side: broken}), camera)
    assert ((pictures >= 0) & (pictures <= 1)).all()
    np.testing.assert_array_equal(pictures[::2], render_crops(image, crops, camera)[::2])
