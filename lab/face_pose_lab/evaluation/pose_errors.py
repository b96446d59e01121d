# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of 6-DoF poses against exact truth, beside the standard deviations stated for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from face_pose_ros.geometry import rotations

Array = NDArray[np.float64]

_COVERAGE = (0.68, 0.95)


@dataclass(frozen=True)
class PoseErrors:
    """Errors of M poses and, as `*_sigma`, their stated standard deviations."""

    rotation_deg: NDArray[np.float64]  # (M,) angle of the rotation between estimate and truth
    rotation_sigma_deg: NDArray[np.float64]  # (M,) root of the trace of its covariance
    lateral_mm_per_m: NDArray[np.float64]  # (M,) across the ray to the head, of its distance
    lateral_sigma_mm_per_m: NDArray[np.float64]  # (M,) root of the trace, likewise
    depth_percent: NDArray[np.float64]  # (M,) along the ray, signed, positive: estimate too near
    depth_sigma_percent: NDArray[np.float64]  # (M,)
    nees: NDArray[np.float64]  # (M,) squared error over the stated covariance; chi-square, 6 dof

    def __getitem__(self, mask: NDArray[np.bool_]) -> PoseErrors:
        """Errors of a mask (M,)."""
        return PoseErrors(**{name: values[mask] for name, values in vars(self).items()})


def pose_errors(T_cam_head: Array, covariance: Array, T_true: Array) -> PoseErrors:
    """Compare poses with the truth.

    Args:
        T_cam_head: (M, 4, 4) estimates [m].
        covariance: (M, 6, 6) of (dt, omega) with R_true = exp(omega) R and t_true = t + dt.
        T_true: (M, 4, 4).
    """
    t_true = T_true[:, :3, 3]
    error = rotations.difference(T_cam_head, T_true)
    dt, omega = error[:, :3], error[:, 3:]
    distance = np.linalg.norm(t_true, axis=-1)
    ray = t_true / distance[:, None]
    along = (ray * dt).sum(-1)
    across = np.linalg.norm(dt - along[:, None] * ray, axis=-1)
    cov_t, cov_omega = covariance[:, :3, :3], covariance[:, 3:, 3:]
    var_along = np.einsum('mi,mij,mj->m', ray, cov_t, ray)
    var_across = (_trace(cov_t) - var_along).clip(min=0)
    nees = (error * np.linalg.solve(covariance, error[..., None])[..., 0]).sum(-1)
    return PoseErrors(
        np.rad2deg(np.linalg.norm(omega, axis=-1)),
        np.rad2deg(np.sqrt(_trace(cov_omega))),
        1000 * across / distance,
        1000 * np.sqrt(var_across) / distance,
        100 * along / distance,
        100 * np.sqrt(var_along) / distance,
        nees,
    )


def _trace(M: Array) -> Array:
    return np.trace(M, axis1=-2, axis2=-1)


def turn_deg(T_cam_head: Array) -> Array:
    """(N,) [deg] angles between the x axes of heads (N, 4, 4) and the directions to the camera."""
    x, to_camera = T_cam_head[:, :3, 0], -T_cam_head[:, :3, 3]
    across = np.linalg.norm(np.cross(x, to_camera), axis=-1)
    return np.rad2deg(np.arctan2(across, (x * to_camera).sum(-1)))


HEADING = (
    f'{"|yaw|":<9}{"heads":>6}{"found":>7}'
    f'{"rotation [deg]":>24}{"lateral [mm/m]":>18}{"depth [%]":>22}{"NEES":>7}'
    f'{"coverage [%]":>14}\n'
    f'{"[deg]":<9}{"":>6}{"[%]":>7}{"mean":>8}{"rms":>8}{"sigma":>8}'
    f'{"rms":>10}{"sigma":>8}{"bias":>8}{"rms":>7}{"sigma":>7}{"/ 6":>7}'
    + ''.join(f'{100 * share:>7.0f}' for share in _COVERAGE)
)


def table_row(name: str, heads: int, errors: PoseErrors) -> str:
    """One line under HEADING: errors, root mean squares, and stated sigmas in the same mean."""
    if len(errors.nees) == 0:
        return f'{name:<9}{heads:>6}{0.0:>7.1f}'
    e = errors
    coverage = [100 * (e.nees < chi2.ppf(share, 6)).mean() for share in _COVERAGE]
    return (
        f'{name:<9}{heads:>6}{100 * len(e.nees) / heads:>7.1f}'
        f'{e.rotation_deg.mean():>8.2f}{_rms(e.rotation_deg):>8.2f}'
        f'{_rms(e.rotation_sigma_deg):>8.2f}'
        f'{_rms(e.lateral_mm_per_m):>10.2f}{_rms(e.lateral_sigma_mm_per_m):>8.2f}'
        f'{e.depth_percent.mean():>8.2f}{_rms(e.depth_percent):>7.2f}'
        f'{_rms(e.depth_sigma_percent):>7.2f}{e.nees.mean() / 6:>7.2f}'
        + ''.join(f'{share:>7.0f}' for share in coverage)
    )


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt((values**2).mean()))
