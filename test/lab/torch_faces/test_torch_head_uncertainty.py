"""Covariances of coarse poses: what an error is, and what it becomes in the camera's frame."""

import pytest
import torch
from face_pose_lab.torch_faces.head_uncertainty import HeadUncertainty, normalised_errors
from face_pose_lab.torch_faces.single_shot import HEAD_CENTRE, cells_of_poses, poses_in_camera
from face_pose_lab.torch_geometry import se3, so3
from helpers.cameras import make_camera
from helpers.scene import R_CAM_FRONTAL, random_poses


def near_the_axis(T):
    """Far from it the picture is stretched more along the radius than across."""
    T = T.clone()
    T[:, :2, 3] *= 0.1
    return T


def table(*variances, sizes_px=(20.0, 80.0)):
    covariance = torch.stack([v * torch.eye(6, dtype=torch.float64) for v in variances])
    return HeadUncertainty(torch.tensor(0.0), torch.tensor(sizes_px).log(), covariance).to('cpu')


def test_errors_are_of_the_middle_of_the_head_in_its_size(generator):
    camera = make_camera()
    T = near_the_axis(random_poses(40, camera, generator))
    cells, _ = cells_of_poses(T, camera)
    size = cells.log_size.exp()
    # The truth lies a hundredth of the head to the right in the picture.
    moved = cells._replace(uv=cells.uv + 0.01 * size[:, None] * torch.tensor([1.0, 0]))
    truth, _ = poses_in_camera(moved, camera)
    e, log_size = normalised_errors(T, truth, camera)
    assert torch.allclose(log_size, cells.log_size)
    # As fx and fy differ a little, so does a hundredth.
    assert e[:, :2].norm(dim=-1).tolist() == pytest.approx([0.01] * 40, rel=0.05)
    assert e[:, 2].abs().max() < 4e-3  # the lens's scale changes with the place
    # Or it is seen too large, and so too near.
    nearer, _ = poses_in_camera(cells._replace(log_size=cells.log_size - 0.02), camera)
    e, _ = normalised_errors(T, nearer, camera)
    assert e[:, 2].tolist() == pytest.approx([0.0202] * 40, abs=1e-4)
    assert e[:, [0, 1, 3, 4, 5]].abs().max() < 1e-6


@pytest.mark.parametrize('roll_deg', [0.0, 90.0, -140.0])
def test_sideways_is_sideways_of_the_head_however_it_is_rolled(roll_deg):
    camera = make_camera()
    roll = torch.tensor([0.0, 0, roll_deg]).double().deg2rad()
    T = se3.from_rt(so3.exp(roll) @ R_CAM_FRONTAL, torch.tensor([0.02, -0.03, 0.9]).double())
    beside = T.clone()
    beside[:3, 3] += 0.0024 * T[:3, 1]  # a hundredth of the head to its own left
    nod = T.clone()
    nod[:3, :3] = T[:3, :3] @ so3.exp(torch.tensor([0.0, 0.002, 0]).double())
    nod[:3, 3] += (T[:3, :3] - nod[:3, :3]) @ T.new_tensor(HEAD_CENTRE)
    e, _ = normalised_errors(T.expand(2, 4, 4), torch.stack([beside, nod]), camera)
    assert e[0, :3].tolist() == pytest.approx([0.01, 0, 0], abs=5e-4)
    assert e[1, 3:].tolist() == pytest.approx([0.002, 0, 0], abs=1e-4)


def test_a_turn_about_the_middle_of_the_head_moves_nothing_else(generator):
    camera = make_camera()
    T = random_poses(40, camera, generator)
    turn = so3.exp(torch.tensor([0.002, -0.003, 0.001], dtype=torch.float64))
    centre = se3.apply(T, T.new_tensor([HEAD_CENTRE]))[:, 0]
    R = turn @ T[:, :3, :3]
    arm = (R @ T.new_tensor(HEAD_CENTRE)[:, None]).squeeze(-1)
    e, _ = normalised_errors(T, se3.from_rt(R, centre - arm), camera)
    assert e[:, :3].abs().max() < 1e-5
    assert e[:, 3:].norm(dim=-1).tolist() == pytest.approx([14e-6**0.5] * 40, rel=1e-6)


def test_stated_covariances_are_those_of_the_errors(generator):
    """Many truths around one pose: their scatter is the covariance."""
    camera = make_camera()
    T = near_the_axis(random_poses(1, camera, generator))
    uncertainty = table(1e-4, 4e-4, sizes_px=(1.0, 10000.0))
    sigma = torch.tensor([[0.5, 0.5, 0.7, 1.2, 1.2, 1.2]], dtype=torch.float64)
    stated = uncertainty.of_poses(T, sigma, camera)[0]
    _, log_size = normalised_errors(T, T, camera)
    e = torch.randn(20000, 6, generator=generator, dtype=torch.float64)
    e = sigma * (e @ torch.linalg.cholesky(uncertainty.normalised(log_size)[0]).mT)
    # Truths by cells: place and size in the picture, and a turn in the box camera.
    cells, _ = cells_of_poses(T, camera)
    size = cells.log_size.exp()
    errors = []
    for sign in (1, -1):
        moved, _ = poses_in_camera(
            cells._replace(
                uv=cells.uv + size * sign * e[:, :2],
                log_size=cells.log_size - sign * e[:, 2],
                columns=cells.columns.expand(len(e), -1),
            ),
            camera,
        )
        centre = se3.apply(moved, T.new_tensor([HEAD_CENTRE]))[:, 0]
        R = so3.exp(sign * e[:, 3:]) @ T[:, :3, :3]  # isotropic, so the frame does not matter
        t = centre - R @ T.new_tensor(HEAD_CENTRE)
        omega = so3.log(R @ T[:, :3, :3].mT)
        errors.append(torch.cat([t - T[:, :3, 3], omega], -1))
    error = torch.cat(errors)
    scatter = error.mT @ error / len(error)
    L = torch.linalg.cholesky(stated)
    whitened = torch.linalg.solve(L, torch.linalg.solve(L, scatter).mT)
    assert torch.allclose(whitened, torch.eye(6).double(), atol=0.08)


def test_between_knots_covariances_are_mixed_and_beyond_them_they_stay():
    uncertainty = table(1.0, 3.0)
    sizes = torch.tensor([5.0, 20.0, 40.0, 80.0, 500.0], dtype=torch.float64)
    variances = uncertainty.normalised(sizes.log())[:, 0, 0]
    assert variances.tolist() == pytest.approx([1, 1, 2, 3, 3])
