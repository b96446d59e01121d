"""Camera models against OpenCV, autograd and their own inverse."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from helpers.cameras import DISTORTIONS, HEIGHT, WIDTH, K, make_camera

from face_pose_ros.geometry.camera import Camera


def pixels_over_image(camera: Camera, step: int = 24) -> torch.Tensor:
    v, u = torch.meshgrid(
        torch.arange(0, camera.height, step, dtype=torch.float64),
        torch.arange(0, camera.width, step, dtype=torch.float64),
        indexing='ij',
    )
    return torch.stack([u, v], -1).reshape(-1, 2)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_project_agrees_with_opencv(name, generator):
    camera = make_camera(name)
    xy = 1.1 * torch.rand(200, 2, generator=generator, dtype=torch.float64) - 0.55
    z = 0.3 + 5 * torch.rand(200, 1, generator=generator, dtype=torch.float64)
    xyz = torch.cat([xy * z, z], -1)
    model, dist = DISTORTIONS[name]
    project = cv2.fisheye.projectPoints if model == 'equidistant' else cv2.projectPoints
    points = xyz.numpy()[:, None]
    if model == 'equidistant':
        expected, _ = project(points, np.zeros(3), np.zeros(3), K, np.array(dist))
    else:
        expected, _ = project(points, np.zeros(3), np.zeros(3), K, np.array(dist))
    uv, valid, _ = camera.project(xyz)
    assert valid.all()
    np.testing.assert_allclose(uv.numpy(), expected[:, 0], atol=1e-9)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_jacobian_agrees_with_autograd(name, generator):
    camera = make_camera(name)
    xyz = torch.randn(7, 3, generator=generator, dtype=torch.float64) * 0.2
    xyz[:, 2] += 0.7
    xyz[0, :2] = 0  # the optical axis, where the fisheye formula is 0 / 0
    _, valid, J = camera.project(xyz, jacobian=True)
    assert valid.all()
    expected = torch.func.vmap(torch.func.jacfwd(lambda p: camera.project(p[None]).uv[0]))(xyz)
    torch.testing.assert_close(J, expected, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_unproject_inverts_project_over_the_whole_image(name):
    camera = make_camera(name)
    uv = pixels_over_image(camera)
    rays, valid = camera.unproject(uv)
    assert valid.all()
    torch.testing.assert_close(rays.norm(dim=-1), torch.ones(len(uv), dtype=torch.float64))
    torch.testing.assert_close(camera.project(3.7 * rays).uv, uv, rtol=0, atol=1e-6)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_unproject_is_differentiable(name, generator):
    camera = make_camera(name)
    scale = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    uv = scale * torch.rand(5, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: camera.unproject(p).rays, uv.requires_grad_())


@pytest.mark.parametrize('name', DISTORTIONS)
def test_behind_the_camera_is_invalid_and_finite(name):
    uv, valid, J = make_camera(name).project(
        torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.1, 0.0, 0.0]], dtype=torch.float64),
        jacobian=True,
    )
    assert not valid[:2].any()
    assert uv.isfinite().all()
    assert J.isfinite().all()


def test_fisheye_sees_beyond_ninety_degrees():
    camera = Camera.from_K(K, WIDTH, HEIGHT, (0, 0, 0, 0), 'equidistant')
    angle = torch.tensor(np.deg2rad(110))
    xyz = torch.stack([angle.sin(), torch.zeros(()), angle.cos()])[None].double()
    uv, valid, _ = camera.project(xyz)
    assert valid.all()
    torch.testing.assert_close(uv[0, 0].item(), 497.3 + 711.0 * float(angle))
    torch.testing.assert_close(camera.unproject(uv).rays, xyz, rtol=0, atol=1e-7)


def test_outside_the_monotone_range_is_invalid_never_wrong():
    # r (1 - 0.5 r^2) grows up to r = sqrt(2 / 3) and then folds back.
    camera = Camera.from_K(K, WIDTH, HEIGHT, (-0.5, 0, 0, 0))
    turn = (2 / 3) ** 0.5
    torch.testing.assert_close(camera.range_max.item(), turn)
    x = torch.tensor([0.95, 0.999, 1.001, 1.3], dtype=torch.float64) * turn
    xyz = torch.stack([x, torch.zeros(4).double(), torch.ones(4).double()], -1)
    assert camera.project(xyz).valid.tolist() == [True, True, False, False]
    # The distorted radius never exceeds its value at the turn: pixels beyond have no direction.
    edge = turn * (1 - 0.5 * turn**2)
    u = camera.c[0] + camera.f[0] * edge * torch.tensor([0.9, 1.1], dtype=torch.float64)
    uv = torch.stack([u, camera.c[1].expand(2)], -1)
    assert camera.unproject(uv).valid.tolist() == [True, False]


def test_resize_moves_the_pixel_centres():
    camera = make_camera('plumb_bob_5')
    small = camera.resize(320, 180)
    xyz = torch.tensor([[0.21, -0.13, 1.7]], dtype=torch.float64)
    scale = torch.tensor([320 / WIDTH, 180 / HEIGHT], dtype=torch.float64)
    expected = (camera.project(xyz).uv + 0.5) * scale - 0.5
    torch.testing.assert_close(small.project(xyz).uv, expected)


def test_crop_shifts_the_principal_point():
    camera = make_camera('rational_8')
    part = camera.crop(31, 57, 640, 480)
    xyz = torch.tensor([[0.21, -0.13, 1.7]], dtype=torch.float64)
    expected = camera.project(xyz).uv - torch.tensor([31.0, 57.0], dtype=torch.float64)
    torch.testing.assert_close(part.project(xyz).uv, expected)
    assert (part.width, part.height) == (640, 480)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'K': np.zeros((3, 3))}, 'positive focal lengths'),
        ({'K': np.eye(2)}, '9 numbers'),
        ({'K': K + np.array([[0, 2, 0], [0, 0, 0], [0, 0, 0]])}, r'K must be \[\['),
        ({'K': K * np.nan}, 'finite'),
        ({'width': 0}, 'size must be positive'),
        ({'dist': (1, 2, 3)}, 'takes 0 or 4 or 5 coefficients, got 3'),
        ({'dist': (0, 0, 0, np.inf)}, 'must be finite'),
        ({'distortion_model': 'double_sphere'}, "'double_sphere' is not one of plumb_bob"),
    ],
)
def test_bad_calibration_is_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Camera.from_K(**{'K': K, 'width': WIDTH, 'height': HEIGHT, **kwargs})


def test_trailing_zeros_are_not_coefficients():
    camera = Camera.from_K(K, WIDTH, HEIGHT, (-0.3, 0.1, 0, 0, 0, 0, 0, 0))
    torch.testing.assert_close(
        camera.dist, Camera.from_K(K, WIDTH, HEIGHT, (-0.3, 0.1, 0, 0)).dist
    )


def test_cameras_are_equal_in_all_that_makes_a_picture():
    camera = make_camera('plumb_bob_5')
    assert camera.equals(make_camera('plumb_bob_5'))
    assert not camera.equals(make_camera('plumb_bob_4'))
    assert not camera.equals(camera.resize(camera.width // 2, camera.height // 2))
    assert not camera.equals(replace(camera, c=camera.c + 1e-9))
    assert not camera.equals(make_camera('equidistant'))
