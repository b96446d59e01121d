"""Crops, their pictures and the way back: compiled and in torch."""

from dataclasses import replace

import pytest
import torch
from face_pose_ros.keypoints.crop import FaceCrops, jittered, render_crops, render_crops_torch
from helpers.cameras import DISTORTIONS, make_camera
from helpers.portraits import portrait_view

from face_pose_ros.keypoints import crop
from face_pose_ros.keypoints.predictor import carried_to_image, crops_around_face
from face_pose_ros.keypoints.uncertainty import keypoint_uncertainty


def faces(camera, generator, side_px):
    """Keypoints (3, 478, 2) px of three faces, one of them over the image's corner."""
    layout = torch.rand(3, 478, 2, generator=generator, dtype=torch.float64)
    middle = torch.tensor(
        [[0.5, 0.5], [0.3, 0.7], [0.98, 0.97]], dtype=torch.float64
    ) * torch.tensor([camera.width, camera.height])
    return middle[:, None] + side_px * (layout - 0.5)


def one(crops, i):
    index = slice(i, i + 1)
    return FaceCrops(
        crops.R_cam_crop[index], crops.focal_px[index], crops.size_px, crops.valid[index]
    )


def crops_around_keypoints(uv, eye_right, eye_left, forehead, chin, camera, size_px, margin):
    """`crop.crops_around_keypoints` in torch."""
    rays, seen = camera.unproject(uv.to(camera.f))
    across = rays[:, eye_left].mean(1) - rays[:, eye_right].mean(1)
    down = rays[:, chin].mean(1) - rays[:, forehead].mean(1)
    R = crop._roll(crop._look_at(rays.mean(1)), across, down)
    low, high = crop._in_plane(R, rays).aminmax(dim=1)
    centre = torch.cat([0.5 * (low + high), torch.ones_like(low[:, :1])], -1)
    R = crop._roll(crop._look_at((R @ centre[..., None]).squeeze(-1)), across, down)
    low, high = crop._in_plane(R, rays).aminmax(dim=1)
    side = (high - low).amax(-1).clamp_min(1e-9)
    return FaceCrops(R, size_px / (margin * side), size_px, seen.all(-1))


@pytest.mark.parametrize('name', DISTORTIONS)
def test_crops_aim_at_the_same_place(name, generator, monkeypatch):
    camera = make_camera(name)
    uv = faces(camera, generator, 150)
    found = crops_around_face(uv, camera)
    monkeypatch.setattr(
        'face_pose_ros.keypoints.predictor.crops_around_keypoints', crops_around_keypoints
    )
    expected = crops_around_face(uv, camera)
    torch.testing.assert_close(found.R_cam_crop, expected.R_cam_crop, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.focal_px, expected.focal_px, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.valid, expected.valid)


@pytest.mark.parametrize('side_px', [60, 330, 600])
@pytest.mark.parametrize('name', DISTORTIONS)
def test_pictures_are_the_same(name, side_px, generator):
    camera = make_camera(name)
    shape = camera.height, camera.width, 3
    image = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    crops = crops_around_face(faces(camera, generator, side_px), camera)
    for i in range(3):
        around, _ = jittered(one(crops, i), 2)
        for each in (one(crops, i), one(around, 1)):
            expected = render_crops_torch(image, each, camera)
            # A coordinate of 1000 px in float32 is uncertain by 6e-5 px, of noise up to 255 high.
            torch.testing.assert_close(
                render_crops(image, each, camera), expected, rtol=0, atol=5e-4
            )


def test_a_picture_does_not_depend_on_its_neighbours(generator):
    photo, camera = portrait_view()
    image = torch.from_numpy(photo)
    uv = faces(camera, generator, 100)
    uv[1] = uv[1].mean(0) + 5 * (uv[1] - uv[1].mean(0))
    crops = crops_around_face(uv, camera)
    together = render_crops(image, crops, camera)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], render_crops(image, one(crops, i), camera))


@pytest.mark.parametrize('name', DISTORTIONS)
def test_keypoints_come_back_to_the_same_place(name, generator):
    camera = make_camera(name)
    crops = crops_around_face(faces(camera, generator, 150), camera)
    # Far beyond the crop's border too, where narrow lenses end.
    uv_crop = 128 + 900 * torch.randn(3, 478, 2, generator=generator)
    uncertainty = keypoint_uncertainty()
    uv, cov_uv, J = carried_to_image(uv_crop, crops, camera, uncertainty)
    uv_expected, seen = crops.to_image(uv_crop.double(), camera)
    J_expected = crops.jacobian(camera)
    factor = uncertainty.factor_of_look(uv_crop).double()
    cov_crop = factor[:, None, None, None] * uncertainty.cov_crop.double()
    cov_expected = J_expected[:, None] @ cov_crop @ J_expected[:, None].mT
    unseen = torch.diag_embed(torch.full_like(uv_expected, torch.inf))
    cov_expected = torch.where(seen[..., None, None], cov_expected, unseen)
    torch.testing.assert_close(uv, uv_expected, rtol=1e-12, atol=1e-8)
    torch.testing.assert_close(cov_uv, cov_expected, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(J, J_expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('side', ['R_cam_crop', 'focal_px'])
@pytest.mark.parametrize('value', [torch.nan, torch.inf, 0.0, 1e-300])
def test_a_crop_without_rays_is_some_picture(side, value, generator):
    camera = make_camera('plumb_bob_5')
    shape = camera.height, camera.width, 3
    image = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    crops = crops_around_face(faces(camera, generator, 150), camera)
    broken = getattr(crops, side).clone()
    broken[1] = value
    pictures = render_crops(image, replace(crops, **{side: broken}), camera)
    assert ((pictures >= 0) & (pictures <= 1)).all()
    torch.testing.assert_close(pictures[::2], render_crops(image, crops, camera)[::2])
