# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pose fit as a layer of torch: forward the compiled solver, backward its implicit gradient.

At the minimum the gradient g(x, m) of the cost vanishes, whatever the measurements m are, so by
the implicit function theorem

    dx/dm = -H^-1 dg/dm,   H = dg/dx

with the exact Hessian, not Gauss and Newton's (Gould et al., "On differentiating parameterized
argmin and argmax problems with application to bi-level optimization", 2016, lemma 3.2). One
Newton step x - H^-1 g(x, m) with H and x held fixed has this derivative; its value is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_lab.torch_geometry import robust, so3
from face_pose_lab.torch_geometry.camera import torch_camera
from face_pose_lab.torch_types import Keypoints
from face_pose_ros import results
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.pose.fit import default_shape_prior, fit_pose


class FittedPoses(NamedTuple):
    """Poses of N faces, float64 on the CPU; R, t and the shape are differentiable."""

    R_cam_head: Tensor  # (N, 3, 3)
    t_cam_head: Tensor  # (N, 3) m
    shape: Tensor  # (N, C) prior standard deviations; the size is the prior's
    failed: Tensor  # (N,) bool: identity, and no gradient


def fitted_poses(
    keypoints: Keypoints,
    model: FaceModel,
    camera: Camera,
    options: PoseOptions,
    T_init: Tensor | None = None,
) -> FittedPoses:
    """Poses and shapes as `fit_pose` finds them, differentiable by uv and cov_uv.

    Args:
        keypoints: N faces, on any device.
        model: Face model with K points.
        camera: In whose pixels the keypoints are.
        options: Without visibility. The gradient is that of the exact minimum: as good as the
            tolerances.
        T_init: (N, 4, 4) start poses; None starts from the closed form.

    Raises:
        ValueError: `options.visibility` is set; it belongs to a pose that is not returned.
    """
    if options.visibility:
        raise ValueError('pose_layer: visibility is true, and must be false: it has no gradient')
    uv, cov_uv = (x.double().cpu() for x in (keypoints.uv, keypoints.cov_uv))
    start = None if T_init is None else T_init.detach().double().cpu().numpy()
    measured = results.Keypoints(
        uv.detach().numpy(), cov_uv.detach().numpy(), keypoints.presence.detach().cpu().numpy()
    )
    poses = fit_pose(measured, model, camera, options, start).poses
    T, shape, failed = (torch.from_numpy(x) for x in (poses.T_cam_head, poses.shape, poses.failed))
    size = 1 + model.size_sigma * shape[:, :1]
    R, t, c = T[:, :3, :3], T[:, :3, 3] / size, shape[:, 1:]

    def cost(delta: Tensor, uv: Tensor, cov_uv: Tensor) -> Tensor:
        dt, omega, dc = delta.tensor_split((3, 6), dim=-1)
        return posterior_cost(
            so3.exp(omega) @ R, t + dt, c + dc, uv, cov_uv, model, camera, options
        )

    def gradient(delta: Tensor, uv: Tensor, cov_uv: Tensor) -> Tensor:
        return torch.func.grad(lambda x: cost(x, uv, cov_uv).sum())(delta)

    zero = torch.zeros(len(t), 6 + c.shape[-1], dtype=t.dtype)
    fixed = uv.detach(), cov_uv.detach()
    columns = [
        torch.func.jvp(lambda x: gradient(x, *fixed), (zero,), (unit.expand_as(zero),))[1]
        for unit in torch.eye(zero.shape[-1], dtype=t.dtype)
    ]
    H = torch.stack(columns, -1).detach()
    usable = ~failed & H.isfinite().all((-1, -2))
    H = torch.where(usable[:, None, None], H, torch.eye(zero.shape[-1], dtype=t.dtype))
    step = -torch.linalg.solve(H, gradient(zero, uv, cov_uv))
    # What is left of g where the solver stopped early must not move anything.
    step = torch.where(usable[:, None], step - step.detach(), 0.0)
    dt, omega, dc = step.tensor_split((3, 6), dim=-1)
    of_shape = torch.cat([shape[:, :1], c + dc], -1)
    return FittedPoses(so3.exp(omega) @ R, size * (t + dt), of_shape, failed)


def posterior_cost(
    R: Tensor,
    t: Tensor,
    modes: Tensor,
    uv: Tensor,
    cov_uv: Tensor,
    model: FaceModel,
    camera: Camera,
    options: PoseOptions,
) -> Tensor:
    """(N,) what `fit_pose` minimises, see src/lm.hpp; 0 of keypoints without a ray.

    Args:
        R: (N, 3, 3) R_cam_head.
        t: (N, 3) m, over the face's size.
        modes: (N, M) prior standard deviations.
        uv: (N, K, 2) px.
        cov_uv: (N, K, 2, 2) px^2.
        model: Face model.
        camera: In whose pixels uv is.
        options: Kernel and independent keypoints.
    """
    K = len(model.xyz_head)
    uv, cov_uv = uv[:, :K], cov_uv[:, :K]
    lens = torch_camera(camera)
    known = uv.isfinite().all(-1) & cov_uv.isfinite().all((-1, -2))
    known = known & (torch.linalg.det(cov_uv.nan_to_num(0.0, 0.0, 0.0)) > 0)
    known = known & (cov_uv[..., 0, 0] > 0)
    rays, has_ray = lens.unproject(torch.where(known[..., None], uv, lens.c))
    measured = (known & has_ray).detach()
    J = lens.project(rays, jacobian=True).J_uv_xyz
    assert J is not None
    L = torch.linalg.cholesky(torch.where(measured[..., None, None], cov_uv, torch.eye(2).to(uv)))
    A = torch.linalg.solve_triangular(L, J, upper=False)
    basis = torch.from_numpy(model.modes)
    points = torch.from_numpy(model.xyz_head) + torch.einsum('nm,mkx->nkx', modes, basis)
    p = points @ R.mT + t[:, None]
    r = (A @ p[..., None])[..., 0] / (rays * p).sum(-1, keepdim=True)
    s = torch.where(measured, (r * r).sum(-1), 0.0)
    rho = robust.KERNELS[options.kernel](s, options.kernel_scale)
    count = measured.sum(-1).clamp_min(1).to(uv)  # an integer would make it float32
    share = (options.independent_keypoints / count).clamp_max(1.0)
    prior = default_shape_prior(model, options)
    deviation = modes - torch.from_numpy(prior.mean[:, 1:])
    pull = deviation @ torch.linalg.inv(torch.from_numpy(prior.covariance[0, 1:, 1:]))
    return 0.5 * (share * rho.sum(-1) + (deviation * pull).sum(-1))
