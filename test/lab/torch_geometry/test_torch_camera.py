# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The lab's camera against the runtime's, and its gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from face_pose_lab.torch_geometry.camera import Camera, torch_camera
from helpers.cameras import HEIGHT, TORCH_LENSES, WIDTH, make_camera, make_torch_camera


@pytest.mark.parametrize('name', TORCH_LENSES)
def test_points_and_pixels_are_those_of_the_runtime(name, generator):
    camera = make_torch_camera(name)
    xyz = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    # Not at the end of a lens, where the runtime sees folds that the lab does not look for.
    xyz[:, :2] = xyz[:, :2].clamp(-0.5, 0.5) * xyz[:, 2:].abs()
    xyz[:3] = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0.3, 0.2, 0]])
    found, expected = camera.project(xyz, jacobian=True), make_camera(name).project(xyz, True)
    valid = expected.valid
    assert 100 < valid.sum() < 300
    np.testing.assert_array_equal(found.valid, valid)
    np.testing.assert_allclose(found.uv[valid], expected.uv[valid], rtol=1e-12, atol=1e-9)
    J = found.J_uv_xyz[valid]
    np.testing.assert_allclose(J, expected.J_uv_xyz[valid], rtol=1e-9, atol=1e-8)
    rays, seen = camera.unproject(found.uv[valid])
    np.testing.assert_array_equal(seen, True)
    np.testing.assert_allclose(rays, make_camera(name).unproject(found.uv[valid]).rays, atol=1e-12)


@pytest.mark.parametrize('name', TORCH_LENSES)
def test_unproject_is_differentiable(name, generator):
    camera = make_torch_camera(name)
    scale = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    uv = scale * torch.rand(5, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: camera.unproject(p).rays, uv.requires_grad_())


@pytest.mark.parametrize('name', TORCH_LENSES)
def test_a_camera_goes_to_torch_and_back(name):
    assert make_torch_camera(name).runtime() == make_camera(name)


def test_a_batch_of_cameras_projects_as_its_cameras_do(generator):
    both = [make_torch_camera('plumb_bob_4'), make_torch_camera('plumb_bob_5')]
    fields = ('f', 'c', 'dist', 'range_max')
    batch = replace(both[0], **{n: torch.stack([getattr(c, n) for c in both]) for n in fields})
    xyz = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
    xyz = 0.2 * xyz + torch.tensor([0, 0, 1.0])
    uv = torch.stack([c.project(p).uv for c, p in zip(both, xyz, strict=True)])
    torch.testing.assert_close(batch.project(xyz).uv, uv)


@pytest.mark.parametrize('camera', [make_camera('tilted_14'), replace(
    make_camera(), K=[[711, 3, 497], [0, 693, 338], [0, 0, 1]]
)])  # fmt: skip
def test_skew_and_tilt_are_refused(camera):
    with pytest.raises(ValueError, match='without skew and tilt'):
        torch_camera(camera)


def test_bad_calibrations_are_refused_as_by_the_runtime():
    with pytest.raises(ValueError, match='not calibrated'):
        Camera.from_K([0, 0, 0, 0, 0, 0, 0, 0, 1], WIDTH, HEIGHT)
