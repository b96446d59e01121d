"""The compiled lenses against those of `Camera`."""

import numpy as np
import pytest
import torch
from helpers.cameras import DISTORTIONS, make_camera

from face_pose_ros.geometry import lens
from face_pose_ros.geometry.lens import lens_of


@pytest.mark.parametrize('name', DISTORTIONS)
def test_points_are_projected_as_by_the_camera(name, generator):
    camera = make_camera(name)
    xyz = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    xyz[:3] = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0.3, 0.2, 0]])
    expected = camera.project(xyz)
    found = np.array([lens.project(lens_of(camera), *point) for point in xyz.numpy()])
    valid = expected.valid.numpy()
    assert 20 < valid.sum() < 300
    np.testing.assert_array_equal(found[:, 2] != 0, valid)
    np.testing.assert_allclose(found[valid, :2], expected.uv.numpy()[valid], rtol=1e-12, atol=1e-9)
    assert np.isfinite(found).all()


@pytest.mark.parametrize('name', DISTORTIONS)
def test_pixels_have_the_rays_of_the_camera(name, generator):
    camera = make_camera(name)
    size = torch.tensor([camera.width, camera.height])
    uv = (3 * torch.rand(200, 2, generator=generator, dtype=torch.float64) - 1) * size
    expected = camera.unproject(uv)
    xy = ((uv - camera.c) / camera.f).T.contiguous().numpy()
    rays, J, usable = np.empty((3, 200)), np.empty((2, 3, 200)), np.ones(200, bool)
    lens.unproject(lens_of(camera), xy, rays, J, usable)
    assert usable.any()
    np.testing.assert_array_equal(usable, expected.valid.numpy())
    np.testing.assert_allclose(rays.T[usable], expected.rays.numpy()[usable], rtol=0, atol=1e-12)
