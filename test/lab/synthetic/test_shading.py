# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Light against integrals done the long way."""

import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from face_pose_lab.synthetic import shading
from face_pose_lab.synthetic.shading import Light, Surface

HEIGHT = 48
RAYS = torch.from_numpy(shading.panorama_rays(HEIGHT))
SOLID_ANGLE = (1 - RAYS[..., 1] ** 2).sqrt()
SOLID_ANGLE = SOLID_ANGLE * (4 * math.pi / SOLID_ANGLE.sum())
DARK = Light(torch.zeros(9, 3), torch.tensor([0.0, -1, 0]), torch.zeros(3))


def surface(normal, **changes):
    normal = F.normalize(torch.tensor(normal).float().view(-1, 3), dim=-1)
    one = torch.ones(len(normal))
    fields = {
        'albedo': torch.full_like(normal, 0.5),
        'normal': normal,
        'view': torch.tensor([0.0, 0, -1]).expand_as(normal),
        'openness': one,
        'lit': one,
        'gloss': 0 * one,
        'shininess': 20 * one,
    }
    return Surface(**fields | changes)


def test_harmonics_are_orthonormal():
    Y = shading.harmonics(RAYS).flatten(0, 1)
    gram = (Y * SOLID_ANGLE.flatten()[:, None]).T @ Y
    assert (gram - torch.eye(9).double()).abs().max() < 2e-3


def test_diffuse_light_is_the_integral_of_the_cosine():
    panorama = shading.smooth_panorama(np.random.default_rng(3), HEIGHT)
    radiance = torch.from_numpy(panorama).double()
    normals = F.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    cosine = torch.einsum('hwi,ni->nhw', RAYS, normals.double()).clamp_min(0)
    expected = torch.einsum('nhw,hw,hwc->nc', cosine, SOLID_ANGLE, radiance) / math.pi
    found = shading.diffuse(shading.panorama_harmonics(panorama), normals)
    # Ramamoorthi and Hanrahan: at most 9 % off anywhere, 3 % on average.
    error = (found - expected).abs() / expected.mean()
    assert error.max() < 0.09
    assert error.mean() < 0.03


def test_the_top_row_of_a_panorama_is_up():
    panorama = np.zeros((HEIGHT, 2 * HEIGHT, 3), np.float32)
    panorama[: HEIGHT // 3] = (1.0, 0.5, 0.25)
    up, down = torch.tensor([[0.0, -1, 0], [0, 1, 0]])  # y points down
    light = shading.panorama_harmonics(panorama)
    above, below = shading.diffuse(light, torch.stack([up, down]))
    assert above[0] > 0.5 > 10 * below[0]
    assert above[0] == pytest.approx(2 * above[1], rel=1e-3)
    assert shading.brightest_direction(panorama) @ up.double().numpy() > 0.6


def test_looking_up_a_panorama_s_own_rays_gives_it_back():
    panorama = np.random.default_rng(0).uniform(0, 1, (HEIGHT, 2 * HEIGHT, 3)).astype(np.float32)
    np.testing.assert_allclose(shading.look_up(panorama, RAYS.numpy()), panorama, atol=1e-3)


def test_light_fades_with_the_cosine_and_in_the_shade():
    towards = torch.tensor([0.0, 0, -1])
    light = Light(torch.zeros(9, 3), towards, torch.tensor([2.0, 1.0, 0.5]))
    normals = [[0, 0, -1], [0, 3**0.5, -1], [0, 0, 1]]
    facing, slanted, away = shading.shade(surface(normals), light)
    torch.testing.assert_close(facing, 0.5 * light.colour)
    # Light wraps round the edge, red the furthest; blue follows the cosine of 60 deg closely.
    assert 0.25 < slanted[2] / light.colour[2] < 0.27
    assert slanted[0] / light.colour[0] > slanted[1] / light.colour[1]
    assert (away == 0).all()
    shaded = shading.shade(surface(normals, lit=torch.zeros(3)), light)
    assert (shaded == 0).all()


def test_a_closed_corner_gets_less_of_the_sky():
    light = Light(torch.randn(9, 3).abs(), DARK.direction, torch.zeros(3))
    n = [[0, -1, -1]]
    whole = shading.shade(surface(n), light)
    half = shading.shade(surface(n, openness=torch.tensor([0.5])), light)
    torch.testing.assert_close(half, 0.5 * whole)


def test_the_highlight_lies_between_light_and_camera():
    towards = F.normalize(torch.tensor([1.0, 0, -1]), dim=0)
    light = Light(torch.zeros(9, 3), towards, torch.ones(3))
    angle = torch.linspace(0, math.pi / 2, 91)  # of the normal, from the camera to the right
    normals = torch.stack([angle.sin(), 0 * angle, -angle.cos()], -1)
    black = torch.zeros_like(normals)
    glossy = surface(normals.tolist(), albedo=black, gloss=torch.ones(91))
    shine = shading.shade(glossy, light)[:, 0]
    assert abs(int(shine.argmax()) - 22.5) <= 1.5  # half of 45 deg


def test_srgb_is_that_of_the_standard():
    linear = torch.tensor([0.0, 0.001, 0.2140, 0.5, 1.0])
    expected = torch.tensor([0.0, 0.01292, 0.5, 0.7354, 1.0])
    torch.testing.assert_close(shading.to_srgb(linear), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(shading.from_srgb(expected), linear, atol=1e-4, rtol=0)


def test_a_panorama_file_is_read_as_linear_rgb_without_its_sun(tmp_path):
    rgb = np.full((64, 128, 3), (0.1, 0.2, 0.4), np.float32)
    rgb[10:12, 20:22] = 5000.0
    cv2.imwrite(str(tmp_path / 'sky.hdr'), rgb[..., ::-1])
    read = shading.load_panorama(tmp_path / 'sky.hdr', height=64)
    np.testing.assert_allclose(read[40, 60], (0.1, 0.2, 0.4), rtol=0.02)
    assert read[10, 20, 0] < 100


def test_a_missing_panorama_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'night\.hdr'):
        shading.load_panorama(tmp_path / 'night.hdr')
