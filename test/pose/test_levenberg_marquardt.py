"""The descent: never upwards, never one face for another, always with a reason."""

from itertools import pairwise

import torch
from face_pose_ros.pose.levenberg_marquardt import StopReason, minimise
from face_pose_ros.pose.refine import fit_pose
from helpers.asserts import position_error_mm, rotation_error_deg
from helpers.cameras import make_camera
from helpers.pretended_gpu import DEVICE, pretended_gpu
from helpers.problems import estimate, make_problem
from helpers.scene import observe, random_poses

from face_pose_ros.geometry import se3, so3
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.results import Keypoints


def test_no_step_ever_raises_the_cost(wavy, generator):
    """From starts anywhere, where undamped steps overshoot."""
    camera = make_camera('plumb_bob_5')
    T = random_poses(100, camera, generator, distance_m=(0.5, 2))
    problem = make_problem(wavy, camera, observe(wavy.xyz_head, T, camera))
    start = random_poses(100, camera, generator, distance_m=(0.5, 2))
    x = estimate(start, start.new_zeros(100, len(wavy.modes)))
    costs = [problem.normal_equations(x).cost]
    costs += [minimise(problem, x, i, 1e-6, 1e-5, 1.0).system.cost for i in (1, 2, 3, 5, 8)]
    for earlier, later in pairwise(costs):
        assert (later <= earlier).all()
    assert (costs[-1] < 0.5 * costs[0]).double().mean() > 0.9


def test_it_comes_back_to_the_truth(rigid, generator):
    camera = make_camera('rational_8')
    T = random_poses(20, camera, generator, distance_m=(0.5, 2))
    problem = make_problem(rigid, camera, observe(rigid.xyz_head, T, camera))
    offset = se3.from_rt(
        so3.exp(torch.tensor([0.2, -0.1, 0.15]).double()),
        torch.tensor([0.02, -0.01, 0.1]).double(),
    )
    descent = minimise(problem, estimate(T @ offset, T.new_zeros(20, 0)), 30, 1e-9, 1e-12, 1.0)
    found = se3.from_rt(descent.x.R, descent.x.t)
    assert rotation_error_deg(found, T).max() < 1e-6
    assert position_error_mm(found, T).max() < 1e-5
    assert (descent.stop == StopReason.CONVERGED).all()
    assert (descent.iterations > 2).all()


def test_stop_reasons(wavy, generator):
    camera = make_camera()
    T = random_poses(2, camera, generator, distance_m=(0.5, 2))
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, generator=generator)
    problem = make_problem(wavy, camera, keypoints)
    x = estimate(random_poses(2, camera, generator), T.new_zeros(2, len(wavy.modes)))
    assert (minimise(problem, x, 1, 1e-9, 1e-9, 1.0).stop == StopReason.MAX_ITERATIONS).all()
    # Below the resolution of the cost no step can be accepted.
    hair_splitting = minimise(problem, x, 200, 1e-300, 1e-300, 1.0)
    assert (hair_splitting.stop <= StopReason.NO_DESCENT).all()


def test_the_number_of_steps_does_not_depend_on_the_other_faces(wavy, generator):
    camera = make_camera()
    T = random_poses(6, camera, generator, distance_m=(0.5, 2))
    keypoints = observe(wavy.xyz_head, T, camera, noise_px=1, generator=generator)
    start = random_poses(6, camera, generator, distance_m=(0.5, 2))
    shape = T.new_zeros(6, len(wavy.modes))
    together = minimise(
        make_problem(wavy, camera, keypoints), estimate(start, shape), 30, 1e-6, 1e-5, 1.0
    )
    one = torch.tensor([3])
    alone = minimise(
        make_problem(wavy, camera, keypoints[one]),
        estimate(start[one], shape[one]),
        30,
        1e-6,
        1e-5,
        1.0,
    )
    assert together.iterations[3] == alone.iterations[0]
    torch.testing.assert_close(together.x.t[3], alone.x.t[0], rtol=1e-9, atol=0)


def test_the_loops_ask_a_gpu_nothing(generator):
    face, camera = deformable_face(), make_camera('plumb_bob_5')
    T = random_poses(3, camera, generator, distance_m=(0.5, 2), yaw_deg=30)
    keypoints = observe(face.xyz_head, T, camera, noise_px=1, generator=generator)
    expected = fit_pose(keypoints, face, camera, T_init=T).poses
    with pretended_gpu() as waits:
        columns = (keypoints.uv, keypoints.cov_uv, keypoints.presence)
        on_gpu = Keypoints(*(column.to(DEVICE) for column in columns))
        face, camera, start = deformable_face(DEVICE), camera.to(DEVICE), T.to(DEVICE)
        waits.clear()
        found = fit_pose(on_gpu, face, camera, T_init=start).poses
        # The last row of the answer is uploaded; nothing else needs the host.
        assert set(waits) == {('upload', 'geometry/se3.py:from_rt')}
        T_found = found.T_cam_head.cpu()
    torch.testing.assert_close(T_found, expected.T_cam_head, rtol=0, atol=1e-5)
