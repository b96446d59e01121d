# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras in torch, batched and differentiable: `face_pose_ros.geometry.camera` for losses.

Without skew and tilted sensors, which nothing here needs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from face_pose_ros.geometry import camera as runtime

_POLYNOMIAL_SIZE = 12  # coefficients, without those of a tilted sensor
_MIN_DEPTH = 1e-9  # m; a point nearer to the camera's plane has no pinhole image
_NEWTON_STEPS = 20  # quadratic convergence: the strongest lenses in the tests need 9


class Projection(NamedTuple):
    """Image of P points."""

    uv: Tensor  # (..., P, 2) px, finite also where invalid
    valid: Tensor  # (..., P) bool: within the model's range; for a pinhole, in front of it
    J_uv_xyz: Tensor | None  # (..., P, 2, 3) px per metre, if requested


class Rays(NamedTuple):
    """Directions of P pixels."""

    rays: Tensor  # (..., P, 3) unit vectors in the camera frame, finite also where invalid
    valid: Tensor  # (..., P) bool: the lens model has a direction for this pixel


@dataclass(frozen=True)
class Camera:
    """Intrinsics and distortion of one camera, or of a batch of cameras of one model.

    The batch shape ``...`` of the fields broadcasts against the points' leading dimensions.
    """

    f: Tensor  # (..., 2) fx, fy [px]
    c: Tensor  # (..., 2) principal point cx, cy [px]
    dist: Tensor  # (..., 12) polynomial, zero-padded, or (..., 4) equidistant
    range_max: Tensor  # (...,) end of the monotone range: |xy_norm|, or the angle [rad] (fisheye)
    distortion_model: str
    width: int  # px
    height: int  # px

    @classmethod
    def from_K(
        cls,
        K: ArrayLike,
        width: int,
        height: int,
        dist: ArrayLike = (),
        distortion_model: str = 'plumb_bob',
    ) -> Camera:
        """One camera, float64; arguments and errors as of the runtime's `Camera.from_K`."""
        return torch_camera(runtime.Camera.from_K(K, width, height, dist, distortion_model))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Camera:
        """The same camera on another device or in another floating-point type."""
        return replace(
            self,
            f=self.f.to(device, dtype),
            c=self.c.to(device, dtype),
            dist=self.dist.to(device, dtype),
            range_max=self.range_max.to(device, dtype),
        )

    @property
    def K(self) -> Tensor:
        """(..., 3, 3) intrinsic matrix [px]."""
        fx, fy = self.f.unbind(-1)
        cx, cy = self.c.unbind(-1)
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        return torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], -1).unflatten(-1, (3, 3))

    def resize(self, width: int, height: int) -> Camera:
        """Camera of the same picture resampled to width x height."""
        scale = self.f.new_tensor([width / self.width, height / self.height])
        c = (self.c + 0.5) * scale - 0.5
        return replace(self, f=self.f * scale, c=c, width=width, height=height)

    def crop(self, left: int, top: int, width: int, height: int) -> Camera:
        """Camera of the rectangle whose top-left pixel is (left, top)."""
        return replace(self, c=self.c - self.c.new_tensor([left, top]), width=width, height=height)

    def runtime(self) -> runtime.Camera:
        """One camera (not a batch) as the runtime has it."""
        K = self.K.double().cpu().numpy()
        dist = self.dist.double().cpu().numpy()
        return runtime.Camera.from_K(K, self.width, self.height, dist, self.distortion_model)

    def project(self, xyz_cam: Tensor, jacobian: bool = False) -> Projection:
        """Image of points.

        Args:
            xyz_cam: (..., P, 3) points in the camera frame [m].
            jacobian: Also give the derivative of uv with respect to xyz_cam.
        """
        if self.distortion_model == 'equidistant':
            xy, valid, J_xy_xyz = self._project_equidistant(xyz_cam, jacobian)
        else:
            xy, valid, J_xy_xyz = self._project_polynomial(xyz_cam, jacobian)
        uv = xy * self.f[..., None, :] + self.c[..., None, :]
        J_uv_xyz = None if J_xy_xyz is None else self.f[..., None, :, None] * J_xy_xyz
        return Projection(uv, valid, J_uv_xyz)

    def unproject(self, uv: Tensor) -> Rays:
        """Direction of each pixel: the inverse of `project`, differentiable.

        Args:
            uv: (..., P, 2) px.
        """
        xy_dist = (uv - self.c[..., None, :]) / self.f[..., None, :]
        if self.distortion_model == 'equidistant':
            return self._unproject_equidistant(xy_dist)
        xy, valid = self._undistort_polynomial(xy_dist)
        rays = torch.cat([xy, torch.ones_like(xy[..., :1])], -1)
        return Rays(torch.nn.functional.normalize(rays, dim=-1), valid)

    def _project_polynomial(
        self, xyz_cam: Tensor, jacobian: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        z = xyz_cam[..., 2]
        in_front = z > _MIN_DEPTH
        inv_z = 1 / torch.where(in_front, z, torch.ones_like(z))
        xy = xyz_cam[..., :2] * inv_z[..., None]
        valid = in_front & (xy.norm(dim=-1) < self.range_max[..., None])
        # An invalid point lands on the principal point, so that nothing downstream overflows.
        xy = torch.where(valid[..., None], xy, torch.zeros_like(xy))
        xy_dist, J_dist = self._distort_polynomial(xy, jacobian)
        if J_dist is None:
            return xy_dist, valid, None
        # d xy / d xyz = [I, -xy] / z
        J = torch.cat([J_dist, -(J_dist @ xy[..., None])], -1) * inv_z[..., None, None]
        return xy_dist, valid, J

    def _distort_polynomial(self, xy: Tensor, jacobian: bool) -> tuple[Tensor, Tensor | None]:
        """Distorted normalised coordinates (OpenCV's calib3d documentation, "projectPoints")."""
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = self.dist[..., None, :].unbind(-1)
        x, y = xy.unbind(-1)
        s = x * x + y * y
        numerator = 1 + s * (k1 + s * (k2 + s * k3))
        inv_denominator = 1 / (1 + s * (k4 + s * (k5 + s * k6)))
        radial = numerator * inv_denominator
        xy_dist = torch.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (s + 2 * x * x) + s * (s1 + s2 * s),
                y * radial + 2 * p2 * x * y + p1 * (s + 2 * y * y) + s * (s3 + s4 * s),
            ],
            -1,
        )
        if not jacobian:
            return xy_dist, None
        d_numerator = k1 + s * (2 * k2 + 3 * s * k3)
        d_denominator = k4 + s * (2 * k5 + 3 * s * k6)
        d_radial = (d_numerator - radial * d_denominator) * inv_denominator  # d radial / d s
        prism_x, prism_y = s1 + 2 * s2 * s, s3 + 2 * s4 * s  # d prism / d s
        J = torch.stack(
            [
                radial + 2 * x * x * d_radial + 2 * p1 * y + 6 * p2 * x + 2 * x * prism_x,
                2 * x * y * d_radial + 2 * p1 * x + 2 * p2 * y + 2 * y * prism_x,
                2 * x * y * d_radial + 2 * p2 * y + 2 * p1 * x + 2 * x * prism_y,
                radial + 2 * y * y * d_radial + 2 * p2 * x + 6 * p1 * y + 2 * y * prism_y,
            ],
            -1,
        )
        return xy_dist, J.unflatten(-1, (2, 2))

    def _undistort_polynomial(self, xy_dist: Tensor) -> tuple[Tensor, Tensor]:
        limit = 0.999 * self.range_max[..., None]
        target = xy_dist.detach()
        xy = target
        with torch.no_grad():
            for _ in range(_NEWTON_STEPS):
                # Staying inside the monotone range keeps the Jacobian regular.
                xy = xy * (limit / xy.norm(dim=-1).clamp_min(1e-12)).clamp_max(1)[..., None]
                value, J = self._distort_polynomial(xy, jacobian=True)
                assert J is not None
                step = _solve_2x2(J, value - target)
                xy = xy - step
                if _settled(step):
                    break
            error = (self._distort_polynomial(xy, jacobian=False)[0] - target).norm(dim=-1)
            tolerance = 1e3 * torch.finfo(xy.dtype).eps * (1 + target.norm(dim=-1))
            valid = (error < tolerance) & (xy.norm(dim=-1) < self.range_max[..., None])
            xy = torch.where(valid[..., None], xy, torch.zeros_like(xy))
        # One more Newton step from the detached solution carries the exact gradient.
        value, J = self._distort_polynomial(xy, jacobian=True)
        assert J is not None
        return torch.where(valid[..., None], xy - _solve_2x2(J, value - xy_dist), xy), valid

    def _project_equidistant(
        self, xyz_cam: Tensor, jacobian: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Kannala and Brandt (2006) as OpenCV's fisheye module has it, beyond 90 deg too."""
        xy, z = xyz_cam[..., :2], xyz_cam[..., 2]
        r_sq = (xy * xy).sum(-1)
        norm_sq = r_sq + z * z
        on_axis = r_sq <= 1e-16 * norm_sq
        in_front = z > _MIN_DEPTH
        z_safe = torch.where(in_front, z, torch.ones_like(z))
        r = torch.where(on_axis, torch.ones_like(r_sq), r_sq).sqrt()
        theta = torch.where(on_axis, torch.zeros_like(r), torch.atan2(r, z))
        theta_dist, slope = self._distort_angle(theta)
        valid = (theta < self.range_max[..., None]) & (in_front | ~on_axis)
        scale = torch.where(on_axis, 1 / z_safe, theta_dist / r)
        if not jacobian:
            return xy * scale[..., None], valid, None
        # d(xy theta_d / r) = scale I + xy (d scale / d r) d r + xy slope / r (d theta / d z) d z
        norm_sq = torch.where(on_axis, torch.ones_like(norm_sq), norm_sq)
        radial = torch.where(on_axis, torch.zeros_like(r), (slope * z / norm_sq - scale) / (r * r))
        axial = torch.where(on_axis, -1 / (z_safe * z_safe), -slope / norm_sq)
        eye = torch.eye(2, dtype=xy.dtype, device=xy.device)
        J_xy = scale[..., None, None] * eye
        J_xy = J_xy + radial[..., None, None] * xy[..., :, None] * xy[..., None, :]
        J_z = (axial[..., None] * xy)[..., None]
        return xy * scale[..., None], valid, torch.cat([J_xy, J_z], -1)

    def _distort_angle(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        k1, k2, k3, k4 = self.dist[..., None, :].unbind(-1)
        t = theta * theta
        value = theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))
        slope = 1 + t * (3 * k1 + t * (5 * k2 + t * (7 * k3 + t * 9 * k4)))
        return value, slope

    def _unproject_equidistant(self, xy_dist: Tensor) -> Rays:
        theta_dist = xy_dist.norm(dim=-1)
        target = theta_dist.detach()
        limit = self.range_max[..., None]
        with torch.no_grad():
            theta = target
            for _ in range(_NEWTON_STEPS):
                theta = theta.clamp(min=0).minimum(0.999 * limit)
                value, slope = self._distort_angle(theta)
                step = (value - target) / slope
                theta = theta - step
                if _settled(step):
                    break
            error = (self._distort_angle(theta)[0] - target).abs()
            valid = (error < 1e3 * torch.finfo(theta.dtype).eps * (1 + target)) & (theta < limit)
            theta = torch.where(valid, theta, torch.zeros_like(theta))
        value, slope = self._distort_angle(theta)
        theta = torch.where(valid, theta - (value - theta_dist) / slope, theta)
        small = theta_dist < 1e-12
        scale = torch.where(
            small, torch.ones_like(theta), theta.sin() / torch.where(small, 1.0, theta_dist)
        )
        return Rays(torch.cat([xy_dist * scale[..., None], theta.cos()[..., None]], -1), valid)


def torch_camera(camera: runtime.Camera) -> Camera:
    """The runtime's camera in torch, float64, on the CPU.

    Raises:
        ValueError: It has skew or a tilted sensor.
    """
    if camera.K[0, 1] or camera.dist[_POLYNOMIAL_SIZE:].any():
        raise ValueError(f'a camera without skew and tilt is expected here, got {camera}')
    K = torch.tensor(camera.K)
    return Camera(
        f=K.diagonal()[:2],
        c=K[:2, 2],
        dist=torch.tensor(camera.dist[:_POLYNOMIAL_SIZE]),
        range_max=torch.tensor(camera.range_max, dtype=torch.float64),
        distortion_model=camera.distortion_model,
        width=camera.width,
        height=camera.height,
    )


def _settled(step: Tensor) -> bool:
    """True when Newton may stop. Never on a GPU, where asking costs more than the idle steps."""
    return step.device.type == 'cpu' and bool((step.abs() < 1e-9).all())


def _solve_2x2(A: Tensor, b: Tensor) -> Tensor:
    """Solve A x = b for (..., 2, 2) and (..., 2): Cramer's rule beats a batched LU here."""
    a, b_, c, d = A.flatten(-2).unbind(-1)
    x, y = b.unbind(-1)
    inv_det = 1 / (a * d - b_ * c)
    return torch.stack([(d * x - b_ * y) * inv_det, (a * y - c * x) * inv_det], -1)
