# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The probability that a head points at something. No ROS import."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from face_pose_ros.geometry import rotations

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(100)


def probability_in_cone(
    T_cam_head: NDArray[np.float64],
    covariance: NDArray[np.float64],
    xyz_cam: ArrayLike,
    half_angle: float,
) -> float:
    """Probability that a point lies in the cone around the head's forward axis.

    First-order approximation in the pose error: the difference to a simulation is below 0.02 for
    rotation standard deviations below 5 deg, and below 0.05 up to 15 deg.

    Args:
        T_cam_head: Pose of the head (4, 4), x out of the face.
        covariance: Covariance (6, 6) of the pose: dx, dy, dz [m], rotation about x, y, z [rad],
            along the camera's axes, as in PoseWithCovariance.
        xyz_cam: The point (3,) [m] in the camera frame; (0, 0, 0) is the camera itself.
        half_angle: Half the opening angle of the cone [rad].

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: The head is at the point, or the covariance is not finite.
    """
    forward = T_cam_head[:3, 0]
    to_point = np.asarray(xyz_cam, dtype=np.float64) - T_cam_head[:3, 3]
    distance = np.linalg.norm(to_point)
    if distance == 0:
        raise ValueError(f'the head is at the target, {to_point + T_cam_head[:3, 3]}')
    if not np.isfinite(covariance).all():
        raise ValueError('the covariance is not finite')
    direction = to_point / distance
    # An error dt of the position acts like a rotation by direction x dt / distance.
    J_turn_pose = np.hstack([rotations.hat(direction / distance), np.eye(3)])
    # Axes of small rotations of the forward axis: away from the point, and perpendicular to that.
    away = np.cross(direction, forward)
    angle = np.arctan2(np.linalg.norm(away), direction @ forward)
    if np.linalg.norm(away) < 1e-9:
        away = np.cross(forward, np.eye(3)[np.argmin(np.abs(forward))])
    away /= np.linalg.norm(away)
    J = np.stack([away, np.cross(forward, away)]) @ J_turn_pose
    return _gaussian_in_disc(np.array([angle, 0.0]), J @ covariance @ J.T, half_angle)


def _gaussian_in_disc(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], radius: float
) -> float:
    """Probability of a disc around 0 under a 2-D normal distribution."""
    variance, axes = np.linalg.eigh(covariance)
    # An exact pose gives 0 or 1; a microradian of spread avoids a division by zero.
    narrow, wide = np.sqrt(np.maximum(variance, 1e-12))
    m_narrow, m_wide = axes.T @ mean
    low, high = max(-radius, m_wide - 8 * wide), min(radius, m_wide + 8 * wide)
    if low >= high:
        return 0.0
    # Closed form across the disc along the narrow axis, Gauss-Legendre along the wide one.
    x = 0.5 * (low + high) + 0.5 * (high - low) * _NODES
    half_chord = np.sqrt(radius**2 - x**2)
    inside = ndtr((half_chord - m_narrow) / narrow) - ndtr((-half_chord - m_narrow) / narrow)
    density = np.exp(-0.5 * ((x - m_wide) / wide) ** 2) / (wide * np.sqrt(2 * np.pi))
    return float(0.5 * (high - low) * _WEIGHTS @ (density * inside))
