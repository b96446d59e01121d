"""Poses of the same faces from two networks' keypoints, and one pose from both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from face_pose_ros.geometry import so3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.pose.refine import PoseOptions, fit_pose
from face_pose_ros.pose.residuals import ShapePrior
from face_pose_ros.types import HeadPoses, Keypoints, Readings

# Turn of the head from the camera [deg] up to which Face Mesh alone counts, and from which the
# hourglass alone does. Chosen on rendered heads (training/compare_networks.py --heads) with an
# earlier hourglass; the present one is better alone there, but a second look for every face.
MESH_ONLY_DEG = 30.0
HEAD_ONLY_DEG = 60.0


@dataclass(frozen=True)
class FittedReadings:
    """Poses of N faces, and where they come from."""

    poses: HeadPoses
    head_share: Tensor  # (N,) in [0, 1], weight of the hourglass's pose; the rest is Face Mesh's


def turn_deg(T_cam_head: Tensor) -> Tensor:
    """(N,) [deg] between where the heads (N, 4, 4) point and the directions to the camera."""
    x = T_cam_head[:, :3, 0]
    to_camera = torch.nn.functional.normalize(-T_cam_head[:, :3, 3], dim=-1)
    return torch.linalg.cross(x, to_camera).norm(dim=-1).atan2((x * to_camera).sum(-1)).rad2deg()


def share_of_head(turn: Tensor) -> Tensor:
    """Weight in [0, 1] of the hourglass's pose at a turn [deg]."""
    return ((turn - MESH_ONLY_DEG) / (HEAD_ONLY_DEG - MESH_ONLY_DEG)).clamp(0, 1)


def fit_readings(
    readings: Readings,
    face: FaceModel,
    head: FaceModel,
    camera: Camera,
    options: PoseOptions,
    independent_keypoints: float,
    min_presence: float,
    shape_prior: ShapePrior | None = None,
) -> FittedReadings:
    """One pose of each face from what was measured of it.

    Args:
        readings: N faces.
        face: Model of Face Mesh's points.
        head: Model of the semantic keypoints, with the same shape coefficients.
        camera: The camera in whose pixels the keypoints are.
        options: Of the fit to Face Mesh's points.
        independent_keypoints: The same of the fit to the semantic keypoints.
        min_presence: A network that is less sure of a face does not count.
        shape_prior: What is known of the N shapes; None is anybody's.
    """
    # The hourglass says itself how well it sees each keypoint.
    head_options = replace(options, visibility=False, independent_keypoints=independent_keypoints)
    with_mesh = readings.mesh.presence >= min_presence
    with_head = readings.head.presence >= min_presence
    if not with_head.any():
        by_mesh = fit_pose(readings.mesh, face, camera, options, None, shape_prior).poses
        return FittedReadings(by_mesh, torch.zeros_like(with_mesh, dtype=torch.float64))
    by_head = _fit_some(readings.head, with_head, head, camera, head_options, shape_prior)
    if not with_mesh.any():
        return FittedReadings(by_head, torch.ones_like(with_head, dtype=torch.float64))
    by_mesh = _fit_some(readings.mesh, with_mesh, face, camera, options, shape_prior)
    # The hourglass knows the turn of all heads, Face Mesh only where it is small.
    share = share_of_head(turn_deg(by_head.T_cam_head))
    share = torch.where(by_mesh.failed, 1.0, torch.where(by_head.failed, 0.0, share))
    return FittedReadings(fuse(by_mesh, by_head, share), share)


def _fit_some(
    keypoints: Keypoints,
    mask: Tensor,
    model: FaceModel,
    camera: Camera,
    options: PoseOptions,
    prior: ShapePrior | None,
) -> HeadPoses:
    """Fits of the faces in a mask (N,); the others are marked failed."""
    rows = mask.nonzero()[:, 0]
    some = prior and ShapePrior(prior.mean[rows], prior.information[rows])
    fitted = fit_pose(keypoints[rows], model, camera, options, None, some).poses
    if len(rows) == len(mask):
        return fitted
    none = HeadPoses(**{n: v.new_zeros(len(mask), *v.shape[1:]) for n, v in vars(fitted).items()})
    eye = torch.eye(4).to(none.T_cam_head).expand(len(mask), 4, 4)
    none = replace(none, T_cam_head=eye, failed=torch.ones_like(mask))
    return none.replaced(rows, fitted)


def fuse(a: HeadPoses, b: HeadPoses, share: Tensor) -> HeadPoses:
    """Covariance intersection of two estimates that were given the same shape prior.

    P^-1 = (1 - s) P_a^-1 + s P_b^-1 over pose and shape together (Julier and Uhlmann, "A
    non-divergent estimation algorithm in the presence of unknown correlations", 1997): both look
    at the same pixels, so their errors go together in a way that nobody knows.

    Args:
        a: N estimates.
        b: Of the same faces.
        share: (N,) in [0, 1], weight of b; 0 and 1 give a and b themselves.
    """
    poses = b.replaced(torch.arange(len(a)).to(share.device), a)
    only_b = (share >= 1).nonzero()[:, 0]
    poses = poses.replaced(only_b, b[only_b])
    both = ((share > 0) & (share < 1)).nonzero()[:, 0]
    if len(both) == 0:
        return poses
    return poses.replaced(both, _intersection(a[both], b[both], share[both]))


def _intersection(a: HeadPoses, b: HeadPoses, share: Tensor) -> HeadPoses:
    eye = torch.eye(6 + a.shape.shape[-1]).to(a.shape)
    weighted = share[:, None, None] * torch.linalg.inv(_joint_covariance(b))
    information = (1 - share[:, None, None]) * torch.linalg.inv(_joint_covariance(a)) + weighted
    P = torch.linalg.solve(information, eye)
    R_a, R_b = a.T_cam_head[:, :3, :3], b.T_cam_head[:, :3, :3]
    step = torch.cat(
        [
            b.T_cam_head[:, :3, 3] - a.T_cam_head[:, :3, 3],
            so3.log(R_b @ R_a.mT),
            b.shape - a.shape,
        ],
        -1,
    )
    step = (P @ weighted @ step[..., None]).squeeze(-1)
    T = a.T_cam_head.clone()
    T[:, :3, 3] += step[:, :3]
    T[:, :3, :3] = so3.exp(step[:, 3:6]) @ R_a
    covariance, shape_covariance = P[:, :6, :6], P[:, 6:, 6:]
    pose_of_shape = torch.linalg.solve(shape_covariance, P[:, 6:, :6]).mT
    given_shape = covariance - pose_of_shape @ P[:, 6:, :6]
    return HeadPoses(
        T_cam_head=T,
        covariance=covariance,
        covariance_given_shape=0.5 * (given_shape + given_shape.mT),
        pose_of_shape=pose_of_shape,
        shape=a.shape + step[:, 6:],
        shape_covariance=shape_covariance,
        failed=a.failed | b.failed,
    )


def _joint_covariance(poses: HeadPoses) -> Tensor:
    """(N, 6 + C, 6 + C) of pose and shape."""
    cross = poses.pose_of_shape @ poses.shape_covariance
    return torch.cat(
        [
            torch.cat([poses.covariance, cross], -1),
            torch.cat([cross.mT, poses.shape_covariance], -1),
        ],
        -2,
    )
