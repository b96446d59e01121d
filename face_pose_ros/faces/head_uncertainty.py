# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Covariance of the head detector's poses from the standard deviations of its network.

The network predicts a standard deviation of each normalised error. These are measured in the
*box camera*, which is turned to the head's centre and rolled until the head is upright, and in
units of the head's size, so that they depend little on the position in the image:

    e = (dx / HEAD_SIZE_M, dy / HEAD_SIZE_M, dz / distance, omega_box),

the error of the head's centre across and along the ray, and of the rotation [rad]. The second
moments of e over sigma, on rendered heads of a validation set, are tabulated over the logarithm of
the apparent size and linear between its knots (lab: head_detector.calibrate). e is linear in the
error (dt, omega) of the pose, so the covariance is transformed exactly for any lens and position:
(dt, omega) = J e.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.faces.head_cells import HEAD_CENTRE, HEAD_SIZE_M
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.weights import load_weights

Array = NDArray[np.float64]


class HeadUncertainty(NamedTuple):
    """Calibration of a trained network."""

    score_offset: Array  # () added to logits, see `head_detector.SURE_SCORE`
    log_size: Array  # (S,) knots, ascending logarithms of apparent sizes [px]
    covariance: Array  # (S, 6, 6) of e / sigma at the knots

    def of_poses(self, T_cam_head: Array, sigma: Array, camera: Camera) -> Array:
        """Covariances (N, 6, 6) of poses (N, 4, 4): x, y, z [m], rotation about the camera's axes.

        Args:
            T_cam_head: Estimates.
            sigma: (N, 6) by the network.
            camera: Of the image.
        """
        J = pose_of_normalised(T_cam_head) * sigma[:, None]
        return J @ self.normalised(log_apparent_size(T_cam_head, camera)) @ J.swapaxes(1, 2)

    def normalised(self, log_size: Array) -> Array:
        """Covariances (N, 6, 6) of e / sigma for sizes (N,); constant beyond the knots."""
        log_size = log_size.clip(self.log_size[0], self.log_size[-1])
        right = np.searchsorted(self.log_size, log_size).clip(1, len(self.log_size) - 1)
        low, high = self.log_size[right - 1], self.log_size[right]
        part = ((log_size - low) / (high - low))[:, None, None]
        return (1 - part) * self.covariance[right - 1] + part * self.covariance[right]


def packaged_uncertainty(own: Path | str | None = None) -> HeadUncertainty:
    """Of the packaged weights, or of another file: see `load_weights`.

    Raises:
        WeightsError: The weights file is missing or damaged.
    """
    weights = load_weights('head_detector', own)
    fields = (weights[name].astype(np.float64) for name in HeadUncertainty._fields)
    return HeadUncertainty(*fields)


def log_apparent_size(T_cam_head: Array, camera: Camera) -> Array:
    """(N,) logarithms of the sizes [px] of heads at poses (N, 4, 4) in the image."""
    return np.log(_core.apparent_sizes(T_cam_head, HEAD_CENTRE, HEAD_SIZE_M, camera.lens))


def pose_of_normalised(T_cam_head: Array) -> Array:
    """J (N, 6, 6) of (dt, omega) = J e; t_true = t + dt and R_true = exp(omega) R."""
    return _core.pose_of_normalised(T_cam_head, HEAD_CENTRE, HEAD_SIZE_M)
