"""How wrong the single-shot detector's poses are: what it states, and what that is worth.

The region network says a standard deviation for each normalised error. These are measured in the
*box camera*, which looks at the head's middle and is rolled until the head stands upright, and in
the head's own size, so that they depend little on where in the picture a head is:

    e = (dx / HEAD_SIZE_M, dy / HEAD_SIZE_M, dz / distance, omega_box),

the error of the head's middle across and along the ray, and of the rotation [rad]. The second
moments of e over the stated sigma, on rendered heads that the network has never seen, are
tabulated over the logarithm of the apparent size and linear between its knots.
`training.calibrate_scenes` makes the table. e is linear in the error (dt, omega) of the pose, so
that the stated covariance is exact for any lens and place: (dt, omega) = J e.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_lab.torch_faces.box_camera import pixels_per_radian, upright_rotation
from face_pose_lab.torch_faces.single_shot import HEAD_CENTRE, HEAD_SIZE_M
from face_pose_lab.torch_geometry import so3
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_ros.weights import load_weights


class HeadUncertainty(NamedTuple):
    """What is measured of a trained network."""

    score_offset: Tensor  # () added to logits: at a score of 0.5, one false face in 10 pictures
    log_size: Tensor  # (S,) knots, ascending logarithms of apparent sizes [px]
    covariance: Tensor  # (S, 6, 6) of e / sigma at the knots

    def to(self, device: torch.device | str) -> HeadUncertainty:
        """The same in float64 on a device."""
        return HeadUncertainty(*(value.to(device, torch.float64) for value in self))

    def of_poses(self, T_cam_head: Tensor, sigma: Tensor, camera: Camera) -> Tensor:
        """Covariances (N, 6, 6) of poses (N, 4, 4): x, y, z [m], rotation about the camera's axes.

        Args:
            T_cam_head: Estimates, float64.
            sigma: (N, 6) as the network states them.
            camera: Of the image, float64.
        """
        J = _pose_of_normalised(T_cam_head) * sigma[:, None]
        return J @ self.normalised(_log_size(T_cam_head, camera)) @ J.mT

    def normalised(self, log_size: Tensor) -> Tensor:
        """Covariances (N, 6, 6) of e / sigma for sizes (N,); the same beyond the knots."""
        log_size = log_size.clamp(self.log_size[0], self.log_size[-1])
        right = torch.searchsorted(self.log_size, log_size).clamp(1, len(self.log_size) - 1)
        low, high = self.log_size[right - 1], self.log_size[right]
        part = ((log_size - low) / (high - low))[:, None, None]
        return torch.lerp(self.covariance[right - 1], self.covariance[right], part)


def packaged_uncertainty() -> HeadUncertainty:
    """Of the packaged weights.

    Raises:
        WeightsError: the weights file is missing or damaged.
    """
    weights = load_weights('region_pose')
    return HeadUncertainty(*(torch.tensor(weights[name]) for name in HeadUncertainty._fields)).to(
        'cpu'
    )


def normalised_errors(T_cam_head: Tensor, T_true: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Errors e (N, 6) of poses (N, 4, 4), and logarithms of their apparent sizes (N,)."""
    dt = T_true[:, :3, 3] - T_cam_head[:, :3, 3]
    omega = so3.log(T_true[:, :3, :3] @ T_cam_head[:, :3, :3].mT)
    error = torch.cat([dt, omega], -1)[..., None]
    e = torch.linalg.solve(_pose_of_normalised(T_cam_head), error).squeeze(-1)
    return e, _log_size(T_cam_head, camera)


def _middle(T_cam_head: Tensor) -> Tensor:
    """(N, 3) from the sellion to the middle of the head, in the camera's frame [m]."""
    return T_cam_head[:, :3, :3] @ T_cam_head.new_tensor(HEAD_CENTRE)


def _log_size(T_cam_head: Tensor, camera: Camera) -> Tensor:
    centre = T_cam_head[:, :3, 3] + _middle(T_cam_head)
    distance = centre.norm(dim=-1)
    scale = pixels_per_radian(camera, centre / distance[:, None])
    return (scale * HEAD_SIZE_M / distance).log()


def _pose_of_normalised(T_cam_head: Tensor) -> Tensor:
    """J (N, 6, 6) of (dt, omega) = J e; t_true = t + dt and R_true = exp(omega) R."""
    arm = _middle(T_cam_head)
    centre = T_cam_head[:, :3, 3] + arm
    distance = centre.norm(dim=-1)
    R_cam_box = upright_rotation(centre / distance[:, None], T_cam_head[:, :3, 2])
    J = T_cam_head.new_zeros(len(T_cam_head), 6, 6)
    size = torch.full_like(distance, HEAD_SIZE_M)
    J[:, :3, :3] = R_cam_box * torch.stack([size, size, distance], -1)[:, None]
    # The middle moves by dt + omega x arm, so the sellion by arm x omega more than the middle.
    J[:, :3, 3:] = so3.hat(arm) @ R_cam_box
    J[:, 3:, 3:] = R_cam_box
    return J
