"""Gradients of a minimum with respect to what was measured."""

from __future__ import annotations

import torch
from torch import Tensor

from face_pose_ros.pose.residuals import Estimate, MapProblem


def attach_gradient(problem: MapProblem, x: Estimate) -> Estimate:
    """The same minimum, differentiable by the implicit function theorem.

    At the minimum the gradient g(x, m) of the cost vanishes, whatever the measurements m are, so
    dx/dm = -H^-1 dg/dm with the exact Hessian H = dg/dx, not Gauss and Newton's. One Newton step
    x - H^-1 g(x, m) with H and x held fixed has this derivative, and leaves x where it is.

    Args:
        problem: Carries the graph of the measurements.
        x: Its minimum.
    """
    x = Estimate(*(field.detach() for field in x))
    fixed = problem.detach()
    zero = torch.zeros(len(x.t), 6 + x.modes.shape[-1], dtype=x.t.dtype, device=x.t.device)

    def gradient(delta: Tensor) -> Tensor:
        return fixed.normal_equations(x.step(delta)).g

    columns = []
    for unknown in torch.eye(zero.shape[-1], dtype=zero.dtype, device=zero.device):
        columns.append(torch.func.jvp(gradient, (zero,), (unknown.expand_as(zero),))[1])
    H = torch.stack(columns, -1)
    # A face without enough keypoints has a singular Hessian, and no gradient.
    inverse, info = torch.linalg.inv_ex(H)
    inverse = torch.where((info == 0)[:, None, None], inverse, 0.0).nan_to_num(0.0)
    g = problem.normal_equations(x).g
    return x.step(-(inverse @ g[..., None]).squeeze(-1))
