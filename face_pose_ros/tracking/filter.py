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

from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.jit import compiled, inner
from face_pose_ros.geometry.linalg import congruent, eliminate, inverse_3x3
from face_pose_ros.geometry.rotations import left_jacobian_kernel, log_kernel, moved_kernel
from face_pose_ros.options import FilterOptions

Array = NDArray[np.float64]

# One measurement in ten thousand is this far from its prediction, in squared standard deviations:
# chi^2 with 6 degrees of freedom. (Importing scipy.stats for it takes half a second.)
_GATE = 27.856
_RESTART_AFTER = 3  # measurements in a row beyond the gate restart the filter

# Two-point Gauss quadrature over the duration of the noise, exact for a head that does not
# rotate.
_EARLY, _LATE = 0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5

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
            rotations.moved(self.state.T_cam_head, delta),
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
    T, P = np.empty((4, 4)), np.empty((12, 12))
    _predict(
        state.T_cam_head,
        state.velocity,
        state.covariance,
        min(stamp_s - state.stamp_s, options.max_gap_s),
        options.acceleration_noise,
        options.angular_acceleration_noise,
        T,
        P,
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
    T, velocity, P, of_pose = np.empty((4, 4)), np.empty(6), np.empty((12, 12)), np.empty((6, 6))
    is_outlier = _correct(
        state.T_cam_head,
        state.velocity,
        state.covariance,
        np.ascontiguousarray(T_cam_head),
        np.ascontiguousarray(covariance),
        correlated_share,
        gate,
        T,
        velocity,
        P,
        of_pose,
    )
    return PoseState(T, velocity, P, state.stamp_s), of_pose, is_outlier


@compiled
def _predict(T, velocity, P, dt, acceleration, angular_acceleration, T_later, P_later):
    """`predict` after a time dt, into T_later (4, 4) and P_later (12, 12)."""
    motion, B = np.empty(6), np.zeros((12, 6))
    for i in range(6):
        motion[i] = dt * velocity[i]
    moved_kernel(T, motion, T_later)
    F = np.zeros((12, 12))
    for i in range(3):
        F[i, i] = 1.0
        for j in range(3):  # exp(motion), the rotation of the pose
            for k in range(3):
                F[3 + i, 3 + j] += T_later[i, k] * T[j, k]
    _effect_of_velocity(motion, dt, 1.0, B)
    for i in range(12):
        for j in range(6):
            F[i, 6 + j] = B[i, j]
    congruent(F, P, P_later)
    for part in (_EARLY, _LATE):
        _effect_of_velocity(motion, dt, part, B)
        for k in range(6):
            noise = acceleration if k < 3 else angular_acceleration
            for i in range(12):
                for j in range(12):
                    P_later[i, j] += 0.5 * dt * noise * noise * B[i, k] * B[j, k]


@inner
def _effect_of_velocity(motion, dt, part, B):
    """Effect of a velocity change that has lasted for a part of dt, into B (12, 6).

    The head moves by `motion` (6,) in all of dt.
    """
    omega = np.empty(3)
    for i in range(3):
        omega[i] = part * motion[3 + i]
    J = left_jacobian_kernel(omega)
    for i in range(3):
        B[i, i] = part * dt
        B[6 + i, i] = B[9 + i, 3 + i] = 1.0
        for j in range(3):
            B[3 + i, 3 + j] = part * dt * J[i, j]


@compiled
def _correct(
    T, velocity, P, T_measured, covariance, correlated, gate, T_new, velocity_new, P_new, of_pose
):
    """`_corrected` into the last four.

    The measurement's error d acts on the measured rotation. In the innovation, to first order in
    d, it is J_l^-1 d: log(exp(d) exp(innovation)) = innovation + J_l^-1 d.
    """
    innovation, omega, turn = np.empty((6, 1)), np.empty(3), np.zeros((3, 3))
    for i in range(3):
        innovation[i, 0] = T_measured[i, 3] - T[i, 3]
        for j in range(3):
            for k in range(3):
                turn[i, j] += T_measured[i, k] * T[j, k]
    log_kernel(turn, omega)
    J_inv, of_error = inverse_3x3(left_jacobian_kernel(omega)), np.zeros((6, 6))
    for i in range(3):
        innovation[3 + i, 0] = omega[i]
        of_error[i, i] = 1.0
        for j in range(3):
            of_error[3 + i, 3 + j] = J_inv[i, j]
    noise = np.empty((6, 6))
    congruent(of_error, covariance, noise)
    for i in range(6):
        for j in range(6):
            noise[i, j] *= 1 - correlated
    factor = _factor_to_gate(innovation, P, noise, gate)
    S, gain_T = np.empty((6, 6)), np.empty((6, 12))
    for i in range(6):
        for j in range(6):
            noise[i, j] *= factor
            S[i, j] = P[i, j] + noise[i, j]
        for j in range(12):
            gain_T[i, j] = P[i, j]
    eliminate(S, gain_T)
    error, gain, A = np.zeros(12), np.empty((12, 6)), np.zeros((12, 12))
    for i in range(12):
        A[i, i] = 1.0
        for j in range(6):
            gain[i, j] = gain_T[j, i]
            A[i, j] -= gain[i, j]
            error[i] += gain[i, j] * innovation[j, 0]
    # Joseph's form stays symmetric and positive definite whatever the rounding.
    joseph, of_noise = np.empty((12, 12)), np.empty((12, 12))
    congruent(A, P, joseph)
    congruent(gain, noise, of_noise)
    for i in range(12):
        for j in range(12):
            joseph[i, j] += of_noise[i, j]
            A[i, j] = 1.0 if i == j else 0.0
    # The error is counted from the corrected rotation from here on.
    for i in range(3):
        omega[i] = error[3 + i]
    J = left_jacobian_kernel(omega)
    for i in range(3):
        for j in range(3):
            A[3 + i, 3 + j] = J[i, j]
    congruent(A, joseph, P_new)
    moved_kernel(T, error, T_new)
    for i in range(6):
        velocity_new[i] = velocity[i] + error[6 + i]
        for j in range(6):
            of_pose[i, j] = P_new[i, j] + correlated * covariance[i, j]
    return factor > 1


@inner
def _factor_to_gate(innovation, P, noise, gate):
    """Factor of the noise (6, 6) that brings the innovation (6, 1) to the gate.

    1 within the gate. Chang 2014, "Robust Kalman filtering based on Mahalanobis distance as
    outlier judging criterion", section 3: Newton's method, here on the inverse of the squared
    distance. That is almost linear in the factor, and concave: steps come from below.
    """
    factor, S, whitened = 1.0, np.empty((6, 6)), np.empty((6, 1))
    for _ in range(20):
        for i in range(6):
            whitened[i, 0] = innovation[i, 0]
            for j in range(6):
                S[i, j] = P[i, j] + factor * noise[i, j]
        eliminate(S, whitened)
        distance_sq, slope = 0.0, 0.0
        for i in range(6):
            distance_sq += innovation[i, 0] * whitened[i, 0]
            for j in range(6):
                slope += whitened[i, 0] * noise[i, j] * whitened[j, 0]
        excess = distance_sq / gate - 1
        if excess <= 1e-3:
            break
        factor += excess * distance_sq / slope
    return factor
