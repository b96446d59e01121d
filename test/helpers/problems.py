"""What the optimiser minimises, built from keypoints with the defaults of the tests."""

import torch
from face_pose_lab.torch_geometry import robust
from face_pose_ros.pose.refine import PoseOptions, default_shape_prior
from face_pose_ros.pose.residuals import Estimate, MapProblem, PosePrior

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.results import Keypoints


def make_problem(
    model: FaceModel,
    camera: Camera,
    keypoints: Keypoints,
    kernel: str = 'none',
    pose_prior: PosePrior | None = None,
    independent: float = 1e9,
) -> MapProblem:
    return MapProblem.build(
        keypoints,
        model,
        camera,
        default_shape_prior(model, PoseOptions()),
        pose_prior,
        independent,
        robust.KERNELS[kernel],
        kernel_scale=3.0,
    )


def estimate(T: torch.Tensor, shape: torch.Tensor) -> Estimate:
    return Estimate(T[:, :3, :3], T[:, :3, 3], shape)
