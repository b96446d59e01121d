"""Error-state Kalman filter over the pose of one head that moves on at its velocity.

The state is the pose T_cam_head and its velocity (v, omega) along and about the camera's axes.
The error has 12 numbers, in this order: dt [m], dtheta [rad], dv [m/s], domega [rad/s], with

    t_true = t + dt,  R_true = exp(dtheta) R,  v_true = v + dv,  omega_true = omega + domega.

Between images R(s) = exp(omega s) R and t(s) = t + v s; white noise drives both velocities
(Bar-Shalom, Li, Kirubarajan 2001, "Estimation with applications", eq. 6.2.2-12). Retraction and
reset as in Sola 2017, "Quaternion kinematics for the error-state Kalman filter", sections 6-7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import linalg, rotations
from face_pose_ros.options import FilterOptions

Array = NDArray[np.float64]

# One measurement in ten thousand is this far from its prediction, in squared standard deviations:
# chi^2 with 6 degrees of freedom. (scipy.stats, which knows it, takes half a second to import.)
_GATE = 27.856
_RESTART_AFTER = 3  # measurements in a row beyond the gate: the head is where they say

# Gauss's two points integrate over the time that noise has lasted, exactly for a head that does
# not turn; the third is all of the time.
_PARTS = np.array([0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5, 1.0])[:, None, None]

# Standard deviations of a new face's velocity.
_START_SPEED_M_S = 1.0
_START_TURN_RAD_S = 2.0


@dataclass(frozen=True)
class PoseState:
    """What the filter believes at one moment."""

    T_cam_head: Array  # (4, 4) m
    velocity: Array  # (6,) m/s and rad/s along and about the camera's axes
    covariance: Array  # (12, 12) of the error described above
    stamp_s: float


class PoseFilter:
    """The pose of one head over time; the measurements' stamps are the only clock."""

    def __init__(
        self, T_cam_head: Array, covariance: Array, stamp_s: float, options: FilterOptions
    ) -> None:
        """Start from a measurement; arguments as in `update`."""
        self.options = options
        self.state = start(T_cam_head, covariance, stamp_s, options)
        self._outliers = 0  # in a row
        self._predicted: tuple[PoseState, PoseState] | None = None  # from the first one

    def predict(self, stamp_s: float) -> PoseState:
        """What the filter believes of a later moment; it changes nothing.

        The head moves on for `max_gap_s` at most; what is believed then holds.
        """
        known = self._predicted
        if known is None or known[0] is not self.state or known[1].stamp_s != stamp_s:
            known = self._predicted = self.state, predict(self.state, stamp_s, self.options)
        return known[1]

    def shift(self, delta: Array) -> None:
        """Move the believed pose by delta (6,): what it was measured against has changed."""
        self.state = PoseState(
            rotations.moved(self.state.T_cam_head, delta),
            self.state.velocity,
            self.state.covariance,
            self.state.stamp_s,
        )

    def update(self, T_cam_head: Array, covariance: Array, stamp_s: float) -> tuple[Array, Array]:
        """Take in a measurement.

        One beyond the gate counts as uncertain as it takes to lie on the gate, so its pull is
        bounded; several in a row, a long gap or a step back in time start the filter afresh.

        Args:
            T_cam_head: (4, 4) measured pose [m].
            covariance: (6, 6) of its error (dt, omega), positive definite.
            stamp_s: When the image was taken [s]. The last one again: it is not moved on.

        Returns:
            The filtered pose (4, 4) and its covariance (6, 6), systematic share included.
        """
        if 0 <= stamp_s - self.state.stamp_s <= self.options.max_gap_s:
            predicted = self.predict(stamp_s)
            white = (1 - self.options.systematic_share) * covariance
            innovation, noise = _innovation(predicted, T_cam_head, white)
            factor = _factor_to_gate(innovation, predicted.covariance[:6, :6], noise)
            self._outliers = self._outliers + 1 if factor > 1 else 0
            self.state = _corrected(predicted, innovation, factor * noise)
        else:
            self._outliers = _RESTART_AFTER
        if self._outliers == _RESTART_AFTER:
            self.state = start(T_cam_head, covariance, stamp_s, self.options)
            self._outliers = 0
        systematic = self.options.systematic_share * covariance
        return self.state.T_cam_head, self.state.covariance[:6, :6] + systematic


def start(
    T_cam_head: Array, covariance: Array, stamp_s: float, options: FilterOptions
) -> PoseState:
    """The state after nothing but one measurement; arguments as in `PoseFilter.update`."""
    P = np.zeros((12, 12))
    P[:6, :6] = (1 - options.systematic_share) * covariance
    P[6:9, 6:9] = _START_SPEED_M_S**2 * np.eye(3)
    P[9:, 9:] = _START_TURN_RAD_S**2 * np.eye(3)
    return PoseState(T_cam_head, np.zeros(6), P, stamp_s)


def predict(state: PoseState, stamp_s: float, options: FilterOptions) -> PoseState:
    """The state at a later stamp [s]; see `PoseFilter.predict`."""
    dt = min(stamp_s - state.stamp_s, options.max_gap_s)
    motion = dt * state.velocity
    # What a change of the velocity becomes when it has lasted for a part of the time.
    of_velocity = np.zeros((3, 12, 6))
    of_velocity[:, :3, :3] = dt * _PARTS * np.eye(3)
    of_velocity[:, 3:6, 3:] = dt * _PARTS * rotations.left_jacobian(_PARTS[:, 0] * motion[3:])
    of_velocity[:, 6:] = np.eye(6)
    F = np.eye(12)
    F[3:6, 3:6] = rotations.exp(motion[3:])
    F[:, 6:] = of_velocity[2]
    noise = np.repeat([options.acceleration_noise, options.angular_acceleration_noise], 3)
    B = noise * of_velocity[:2]
    Q = 0.5 * dt * (B @ B.transpose(0, 2, 1)).sum(0)
    return PoseState(
        rotations.moved(state.T_cam_head, motion),
        state.velocity,
        F @ state.covariance @ F.T + Q,
        stamp_s,
    )


def correct(state: PoseState, T_cam_head: Array, covariance: Array) -> PoseState:
    """The state after a measurement of the pose.

    Args:
        state: At the measurement's stamp.
        T_cam_head: (4, 4) measured pose [m].
        covariance: (6, 6) of its error (dt, omega).
    """
    return _corrected(state, *_innovation(state, T_cam_head, covariance))


def _innovation(state: PoseState, T_cam_head: Array, covariance: Array) -> tuple[Array, Array]:
    """What (6,) leads from the state's pose to the measured one, and its noise (6, 6).

    The measurement's error d acts on the measured rotation. In the innovation, to first order in
    d, it is J_l^-1 d: log(exp(d) exp(innovation)) = innovation + J_l^-1 d.
    """
    innovation = rotations.difference(state.T_cam_head, T_cam_head)
    of_error = np.eye(6)
    of_error[3:, 3:] = linalg.inverse(rotations.left_jacobian(innovation[3:]))
    return innovation, of_error @ covariance @ of_error.T


def _corrected(state: PoseState, innovation: Array, covariance: Array) -> PoseState:
    P = state.covariance
    gain = linalg.solve(P[:6, :6] + covariance, P[:6]).T
    error = gain @ innovation
    # Joseph's form stays symmetric and positive definite whatever the rounding.
    A = np.eye(12)
    A[:, :6] -= gain
    P = A @ P @ A.T + gain @ covariance @ gain.T
    # The error is counted from the corrected rotation from here on.
    reset = np.eye(12)
    reset[3:6, 3:6] = rotations.left_jacobian(error[3:6])
    return PoseState(
        rotations.moved(state.T_cam_head, error[:6]),
        state.velocity + error[6:],
        reset @ P @ reset.T,
        state.stamp_s,
    )


def _factor_to_gate(innovation: Array, predicted: Array, measured: Array) -> float:
    """What the measurement's covariance (6, 6) grows by to bring the innovation to the gate.

    1 within the gate. Chang 2014, "Robust Kalman filtering based on Mahalanobis distance as
    outlier judging criterion", section 3: Newton's method, here on the inverse of the squared
    distance. That is almost linear in the factor, and concave: steps come from below.
    """
    factor = 1.0
    for _ in range(20):
        whitened = linalg.solve(predicted + factor * measured, innovation[:, None])[:, 0]
        excess = float(innovation @ whitened) / _GATE - 1
        if excess <= 1e-3:
            break
        factor += excess * float(innovation @ whitened) / float(whitened @ measured @ whitened)
    return factor
