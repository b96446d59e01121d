"""The pretended GPU computes what a CPU does, and notes what makes a CPU wait."""

import pytest
import torch

from face_pose_ros.geometry.camera import Camera
from helpers.pretended_gpu import DEVICE, PretendedTensor, pretended_gpu

CAMERA = Camera.from_K([500, 0, 319.5, 0, 500, 239.5, 0, 0, 1], 640, 480, (0.1, -0.2, 0, 0))


def test_results_are_those_of_the_cpu():
    uv = 640 * torch.rand(1, 5, 2, dtype=torch.float64)
    expected = CAMERA.unproject(uv)
    with pretended_gpu():
        found = CAMERA.to(DEVICE).unproject(uv.to(DEVICE))
        assert found.rays.device == DEVICE
        rays, valid = found.rays.cpu(), found.valid.cpu()
    torch.testing.assert_close(rays, expected.rays)
    assert torch.equal(valid, expected.valid)


@pytest.mark.parametrize(
    ('kind', 'use'),
    [
        ('question', lambda x: bool((x > 0).all())),
        ('question', lambda x: x[x > 0]),
        ('question', lambda x: x.nonzero()),
        ('question', lambda x: torch.linalg.solve((x + 1).diag(), x)),
        ('upload', lambda x: x[torch.tensor([0, 1])]),
        ('upload', lambda x: x.new_tensor([1, 2])),
        ('download', lambda x: x.tolist()),
    ],
)
def test_what_waits_is_noted_once(kind, use):
    with pretended_gpu() as waits:
        x = PretendedTensor(torch.arange(3.0))
        assert waits == []
        use(x)
    assert waits == [(kind, '')]


def test_what_does_not_wait_is_not_noted():
    with pretended_gpu() as waits:
        x = PretendedTensor(torch.arange(3.0))
        x[1:] = 2 * x[:1]
        torch.where(x > 0, x, 1.0).clamp_min(0.5).sum()
        assert x.on_cpu.tolist() == [0, 0, 0]
    assert waits == []


def test_tensors_of_two_devices_do_not_mix():
    with pretended_gpu(), pytest.raises(RuntimeError, match='the same device'):
        PretendedTensor(torch.ones(2)) + torch.ones(2)


def test_the_place_in_the_package_is_named():
    with pretended_gpu() as waits:
        CAMERA.to(DEVICE)
    assert set(waits) == {('upload', 'geometry/camera.py:to')}
    assert len(waits) == 4
