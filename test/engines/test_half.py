"""Half precision costs no accuracy. The same roundings happen on a CPU, so it is seen there."""

import pytest
import torch
from helpers.portraits import portrait_view

from face_pose_ros import FacePoseEstimator
from face_pose_ros.engines.half import HalfPrecision
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.geometry import so3
from face_pose_ros.networks.face_mesh import FaceMeshPoints


@pytest.fixture(scope='module')
def exact():
    return load_networks('cpu', 'torch')


@pytest.fixture(scope='module')
def half(exact):
    points = HalfPrecision(exact.keypoints)
    return exact._replace(
        detector=HalfPrecision(exact.detector),
        keypoints=lambda pictures: FaceMeshPoints._make(points(pictures)),
    )


@torch.inference_mode()
def test_keypoints_stay_within_a_tenth_of_a_pixel(exact, half, crops):
    expected, found = exact.keypoints(crops), half.keypoints(crops)
    assert (found.uv - expected.uv).norm(dim=-1).max() < 0.1
    torch.testing.assert_close(found.presence, expected.presence, rtol=0, atol=1e-3)
    assert {output.dtype for output in found} == {torch.float32}
    assert not torch.equal(found.uv, expected.uv)  # something was rounded
    assert {p.dtype for p in exact.keypoints.parameters()} == {torch.float32}  # but for a copy


@torch.inference_mode()
def test_proposals_stay_within_a_tenth_of_a_pixel(exact, half, scene):
    (logits, regressions), (found_logits, found_regressions) = (
        networks.detector(scene) for networks in (exact, half)
    )
    cells = logits > 0
    assert cells.any()
    torch.testing.assert_close(found_logits[cells], logits[cells], rtol=0, atol=0.05)
    torch.testing.assert_close(found_regressions[cells], regressions[cells], rtol=0, atol=0.1)


@torch.inference_mode()
def test_crops_of_any_brightness_have_finite_keypoints(half):
    pictures = torch.stack([torch.full((3, 256, 256), value) for value in (0.0, 1.0)])
    pictures[1, :, ::2] = 0
    assert all(output.isfinite().all() for output in half.keypoints(pictures))


@pytest.mark.parametrize('name', ['grace_hopper', 'astronaut'])
def test_poses_stay_within_a_twentieth_of_a_degree(exact, half, name):
    rgb, camera = portrait_view(name)
    (expected,) = FacePoseEstimator(networks=exact).estimate(rgb, camera)
    networks = exact._replace(keypoints=half.keypoints)  # the detector only proposes
    (found,) = FacePoseEstimator(networks=networks).estimate(rgb, camera)
    R_expected, R_found = (torch.from_numpy(f.T_cam_head[:3, :3]) for f in (expected, found))
    assert so3.angle_between(R_found, R_expected).rad2deg() < 0.05
    t_expected, t_found = (f.T_cam_head[:3, 3] for f in (expected, found))
    assert abs(t_found - t_expected).max() < 1e-3 * t_expected[2]
