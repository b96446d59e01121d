# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Error-state Kalman filter of the pose of one head, with constant velocity.

The state is the pose T_cam_head and its velocity (v, omega) along and about the camera's axes.
The error has 12 numbers, in this order: dt [m], dtheta [rad], dv [m/s], domega [rad/s], with

    t_true = t + dt,  R_true = exp(dtheta) R,  v_true = v + dv,  omega_true = omega + domega.

Between images R(s) = exp(omega s) R and t(s) = t + v s; white noise drives both velocities
(Bar-Shalom, Li, Kirubarajan 2001, "Estimation with applications", eq. 6.2.2-12). Retraction and
reset as in Sola 2017, "Quaternion kinematics for the error-state Kalman filter", sections 6-7.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.options import FilterOptions

Array = NDArray[np.float64]

# One measurement in ten thousand is this far from its prediction, in squared standard deviations:
# chi^2 with 6 degrees of freedom. (Importing scipy.stats for it takes half a second.)
_GATE = 27.856
_RESTART_AFTER = 3  # measurements in a row beyond the gate restart the filter

# Standard deviations of the velocity of a new head.
_START_SPEED_M_S = 1.0
_START_TURN_RAD_S = 2.0


class PoseState(NamedTuple):
    """State of the filter at one stamp."""

    T_cam_head: Array  # (4, 4) m
    velocity: Array  # (6,) m/s and rad/s along and about the camera's axes
    covariance: Array  # (12, 12) of the error described above
    stamp_s: float


class PoseFilter:
    """Filters the pose of one head; the stamps of the measurements are its clock."""

    def __init__(
        self, T_cam_head: Array, covariance: Array, stamp_s: float, options: FilterOptions
    ) -> None:
        """Start from a measurement; arguments as in `update`."""
        self.options = options
        self.state = start(T_cam_head, covariance, stamp_s, options)
        self._outliers = 0  # in a row
        self._predicted: tuple[PoseState, PoseState] | None = None  # from the first one

    def predict(self, stamp_s: float) -> PoseState:
        """The predicted state at a later stamp; the filter is not changed.

        The prediction moves for `max_gap_s` at most, and is constant after that.
        """
        known = self._predicted
        if known is None or known[0] is not self.state or known[1].stamp_s != stamp_s:
            known = self._predicted = self.state, predict(self.state, stamp_s, self.options)
        return known[1]

    def shift(self, delta: Array) -> None:
        """Move the pose by delta (6,), after its reference shape has changed."""
        self.state = PoseState(
            _core.move_pose(self.state.T_cam_head, delta),
            self.state.velocity,
            self.state.covariance,
            self.state.stamp_s,
        )

    def update(self, T_cam_head: Array, covariance: Array, stamp_s: float) -> tuple[Array, Array]:
        """Update with a measurement.

        The covariance of a measurement beyond the gate is enlarged until it lies on the gate, so
        that its influence is bounded. Several in a row, a long gap or a step back in time restart
        the filter.

        Args:
            T_cam_head: (4, 4) measured pose [m].
            covariance: (6, 6) of its error (dt, omega), positive definite.
            stamp_s: When the image was taken [s]; equal to the last one: no prediction.

        Returns:
            The filtered pose (4, 4) and its covariance (6, 6), correlated noise included.
        """
        of_pose = covariance
        if 0 <= stamp_s - self.state.stamp_s <= self.options.max_gap_s:
            self.state, of_pose, is_outlier = _corrected(
                self.predict(stamp_s),
                T_cam_head,
                covariance,
                self.options.correlated_noise_share,
                _GATE,
            )
            self._outliers = self._outliers + 1 if is_outlier else 0
        else:
            self._outliers = _RESTART_AFTER
        if self._outliers == _RESTART_AFTER:
            self.state = start(T_cam_head, covariance, stamp_s, self.options)
            self._outliers, of_pose = 0, covariance
        return self.state.T_cam_head, of_pose


def start(
    T_cam_head: Array, covariance: Array, stamp_s: float, options: FilterOptions
) -> PoseState:
    """The state after the first measurement; arguments as in `PoseFilter.update`."""
    P = np.zeros((12, 12))
    P[:6, :6] = (1 - options.correlated_noise_share) * covariance
    P[6:9, 6:9] = _START_SPEED_M_S**2 * np.eye(3)
    P[9:, 9:] = _START_TURN_RAD_S**2 * np.eye(3)
    return PoseState(T_cam_head, np.zeros(6), P, stamp_s)


def predict(state: PoseState, stamp_s: float, options: FilterOptions) -> PoseState:
    """The state at a later stamp [s]; see `PoseFilter.predict`."""
    T, P = _core.predict_pose(
        state.T_cam_head,
        state.velocity,
        state.covariance,
        min(stamp_s - state.stamp_s, options.max_gap_s),
        options.acceleration_noise,
        options.angular_acceleration_noise,
    )
    return PoseState(T, state.velocity, P, stamp_s)


def correct(state: PoseState, T_cam_head: Array, covariance: Array) -> PoseState:
    """The state after a measurement of the pose.

    Args:
        state: At the measurement's stamp.
        T_cam_head: (4, 4) measured pose [m].
        covariance: (6, 6) of its error (dt, omega).
    """
    return _corrected(state, T_cam_head, covariance, 0.0, math.inf)[0]


def _corrected(
    state: PoseState, T_cam_head: Array, covariance: Array, correlated_share: float, gate: float
) -> tuple[PoseState, Array, bool]:
    """`correct` by a measurement of which a share of the covariance is not averaged out.

    Returns:
        The new state, without that share; the covariance of the pose, with it; and whether the
        measurement was beyond the gate and brought to it.
    """
    T, velocity, P, of_pose, is_outlier = _core.correct_pose(
        state.T_cam_head,
        state.velocity,
        state.covariance,
        T_cam_head,
        covariance,
        correlated_share,
        gate,
    )
    return PoseState(T, velocity, P, state.stamp_s), of_pose, is_outlier
