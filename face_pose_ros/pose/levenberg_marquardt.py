"""Levenberg-Marquardt over every face of a batch at once, accepting and rejecting face by face.

The number of steps is fixed and nothing asks the device for an answer, so a CUDA graph can hold
the loop; on a CPU it ends when every face has stopped.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from face_pose_ros.pose.residuals import Estimate, MapProblem, NormalEquations

MIN_KEYPOINTS = 6  # what the closed-form start needs
# Of the first round, whose minimum only has to tell which side of the head is seen.
COARSE_COST_TOLERANCE = 1e-2
DAMPING_START, DAMPING_MIN, DAMPING_MAX = 1e-4, 1e-12, 1e8


_State = TypeVar('_State', Estimate, NormalEquations)


class StopReason(IntEnum):
    """Why the optimiser left a face alone. From TOO_FEW_KEYPOINTS on, the face has failed."""

    CONVERGED = 0  # the step or the decrease of the cost fell below its tolerance
    NO_DESCENT = 1  # damping at its limit: no step lowers the cost any more
    MAX_ITERATIONS = 2
    TOO_FEW_KEYPOINTS = 3  # fewer than MIN_KEYPOINTS finite keypoints with a direction
    NOT_IN_FRONT = 4  # the head came out behind the camera
    SINGULAR = 5  # the keypoints do not fix the pose, or a number overflowed


class Descent(NamedTuple):
    """Where the optimiser came to."""

    x: Estimate
    system: NormalEquations  # at x
    iterations: Tensor  # (N,) int64, steps tried until the face stopped
    stop: Tensor  # (N,) int64, CONVERGED, NO_DESCENT or MAX_ITERATIONS


@torch.no_grad()
def minimise(
    problem: MapProblem,
    x: Estimate,
    max_iterations: int,
    step_tolerance: float,
    cost_tolerance: float,
    curvature: float,
) -> Descent:
    """Lower the cost of each face from x.

    Args:
        problem: N faces.
        x: Where to start.
        max_iterations: Steps tried at most.
        step_tolerance: Stop at a rotation step [rad], a translation step [of distance] and a step
            of the shape [prior standard deviations] below this, or
        cost_tolerance: at a relative decrease of the cost below this.
        curvature: Of the robust cost, as a part of what its weights say: beta of
            `robust.efficiency` near the minimum, 1 far from it.
    """
    system = problem.normal_equations(x)
    damping = torch.full_like(system.cost, DAMPING_START)
    stop = torch.full_like(system.cost, StopReason.MAX_ITERATIONS, dtype=torch.int64)
    iterations = torch.zeros_like(stop)
    active = system.cost.isfinite()

    for _ in range(max_iterations):
        if x.R.device.type == 'cpu' and not active.any():
            break
        delta = _damped_step(system, curvature, damping)
        x_new = x.step(delta)
        system_new = problem.normal_equations(x_new)
        accept = active & (system_new.cost <= system.cost)
        small_step = _is_small(delta, x.t, step_tolerance)
        gain = system.cost - system_new.cost
        converged = active & (small_step | (accept & (gain < cost_tolerance * system.cost)))
        x = _select(accept, x_new, x)
        system = _select(accept, system_new, system)
        damping = torch.where(accept, damping * 0.1, damping * 10).clamp_min(DAMPING_MIN)
        stuck = active & ~converged & (damping > DAMPING_MAX)
        stop = torch.where(converged, StopReason.CONVERGED, stop)
        stop = torch.where(stuck, StopReason.NO_DESCENT, stop)
        iterations = iterations + active
        active = active & ~converged & ~stuck
    return Descent(x, system, iterations, stop)


def _damped_step(system: NormalEquations, curvature: float, damping: Tensor) -> Tensor:
    """Solve (A + damping diag A) delta = -g, A = curvature H + P (Marquardt 1963)."""
    H = curvature * system.H + system.prior
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    A = H + torch.diag_embed(damping[:, None] * diagonal + 1e-12)
    # cholesky_ex reports instead of raising: one singular face must not stop the others.
    L, info = torch.linalg.cholesky_ex(A)
    delta = torch.cholesky_solve(-system.g[..., None], L).squeeze(-1)
    return torch.where((info == 0)[:, None], delta, 0.0)


def _is_small(delta: Tensor, t: Tensor, tolerance: float) -> Tensor:
    dt, omega, dc = delta.tensor_split((3, 6), dim=-1)
    small = (omega.norm(dim=-1) < tolerance) & (dt.norm(dim=-1) < tolerance * t.norm(dim=-1))
    return small & (dc.abs() < tolerance).all(-1)


def _select(accept: Tensor, new: _State, old: _State) -> _State:
    """Field by field, the rows of `new` where accepted."""
    chosen = (
        torch.where(accept.view(-1, *[1] * (a.ndim - 1)), a, b)
        for a, b in zip(new, old, strict=True)
    )
    return type(new)(*chosen)
