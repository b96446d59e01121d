"""Calibrated cameras: pinhole with OpenCV's polynomial distortion, and equidistant fisheye.

Camera frame (REP-103 optical): x right, y down, z forward. Pixel (0, 0) is the centre of the
top-left pixel. Points outside the range where the distortion polynomial grows with the angle are
reported as invalid: beyond it two directions share one pixel, and the model means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike
from torch import Tensor

from face_pose_ros.geometry import camera

# Accepted numbers of coefficients, OpenCV order:
# k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4]]], and k1 k2 k3 k4 of the fisheye model.
_COEFFICIENTS = {
    'plumb_bob': (0, 4, 5),
    'rational_polynomial': (0, 8, 12),
    'equidistant': (0, 4),
}
# Focal lengths and centre of any lens, over the image's side, lie within this factor.
_MAX_RATIO = 1e4
_POLYNOMIAL_SIZE = 12
_MIN_DEPTH = 1e-9  # m; a point nearer to the camera's plane has no pinhole image
_NEWTON_STEPS = 20  # quadratic convergence: the strongest lenses in the tests need 9


class Projection(NamedTuple):
    """Image of P points."""

    uv: Tensor  # (..., P, 2) px, finite also where invalid
    valid: Tensor  # (..., P) bool: within the model's range; for a pinhole, in front of it
    J_uv_xyz: Tensor | None  # (..., P, 2, 3) px per metre, if asked for


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
        dist: Sequence[float] = (),
        distortion_model: str = 'plumb_bob',
    ) -> Camera:
        """Camera of a calibration as OpenCV and ROS write it.

        Args:
            K: (3, 3) or 9 numbers, row-major: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] [px].
            width: Image width [px].
            height: Image height [px].
            dist: Coefficients in OpenCV's order; empty means none.
            distortion_model: 'plumb_bob' (4 or 5 coefficients), 'rational_polynomial' (8, or 12
                with thin prism) or 'equidistant' (4, OpenCV's fisheye).

        Raises:
            ValueError: If a number is not finite, a focal length or a size is not positive, K has
                skew, or the model does not take so many coefficients. The message says which.
        """
        matrix = np.asarray(K, dtype=np.float64)
        if matrix.size != 9:
            raise ValueError(f'K must have 9 numbers, got {matrix.size}')
        matrix = matrix.reshape(3, 3)
        fx, skew, cx = matrix[0]
        fy, cy = matrix[1, 1:]
        if not np.isfinite(matrix).all() or fx <= 0 or fy <= 0:
            raise ValueError(
                f'K must be finite with positive focal lengths, got fx = {fx}, fy = {fy}'
            )
        if skew != 0 or matrix[1, 0] != 0 or not np.array_equal(matrix[2], (0, 0, 1)):
            raise ValueError(
                f'K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {matrix.tolist()}'
            )
        if width <= 0 or height <= 0:
            raise ValueError(f'the image size must be positive, got {width} x {height}')
        side = max(width, height)
        if not (min(fx, fy) > side / _MAX_RATIO and np.abs(matrix[:2]).max() < side * _MAX_RATIO):
            raise ValueError(
                f'K is no calibration of an image of {width} x {height} px: {matrix.tolist()}'
            )
        coefficients = np.asarray(dist, dtype=np.float64).reshape(-1)
        counts = _COEFFICIENTS.get(distortion_model)
        if counts is None:
            raise ValueError(
                f"distortion_model '{distortion_model}' is not one of {', '.join(_COEFFICIENTS)}"
            )
        # Zeros at the end change nothing; drivers publish plumb_bob with 8 or rational with 14.
        while coefficients.size > max(counts) and coefficients[-1] == 0:
            coefficients = coefficients[:-1]
        if coefficients.size not in counts:
            raise ValueError(
                f"distortion_model '{distortion_model}' takes {' or '.join(map(str, counts))} "
                f'coefficients, got {coefficients.size}'
            )
        if not np.isfinite(coefficients).all():
            raise ValueError(f'distortion coefficients must be finite, got {list(dist)}')
        fisheye = distortion_model == 'equidistant'
        padded = np.zeros(4 if fisheye else _POLYNOMIAL_SIZE)
        padded[: coefficients.size] = coefficients
        limit = _equidistant_range(padded) if fisheye else _polynomial_range(padded)
        return cls(
            f=torch.tensor([fx, fy], dtype=torch.float64),
            c=torch.tensor([cx, cy], dtype=torch.float64),
            dist=torch.tensor(padded, dtype=torch.float64),
            range_max=torch.tensor(limit, dtype=torch.float64),
            distortion_model=distortion_model,
            width=int(width),
            height=int(height),
        )

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

    def runtime(self) -> camera.Camera:
        """One camera (not a batch) as the runtime has it."""
        K = self.K.double().cpu().numpy()
        dist = self.dist.double().cpu().numpy()
        return camera.Camera.from_K(K, self.width, self.height, dist, self.distortion_model)

    def equals(self, other: Camera) -> bool:
        """Whether both cameras have the same pixels and rays, to the last bit."""
        return (self.distortion_model, self.width, self.height) == (
            other.distortion_model,
            other.width,
            other.height,
        ) and all(
            torch.equal(getattr(self, name), getattr(other, name)) for name in ('f', 'c', 'dist')
        )

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


def _settled(step: Tensor) -> bool:
    """True when Newton may stop. Never on a GPU, where asking costs more than the idle steps."""
    return step.device.type == 'cpu' and bool((step.abs() < 1e-9).all())


def _solve_2x2(A: Tensor, b: Tensor) -> Tensor:
    """Solve A x = b for (..., 2, 2) and (..., 2): Cramer's rule beats a batched LU here."""
    a, b_, c, d = A.flatten(-2).unbind(-1)
    x, y = b.unbind(-1)
    inv_det = 1 / (a * d - b_ * c)
    return torch.stack([(d * x - b_ * y) * inv_det, (a * y - c * x) * inv_det], -1)


def _smallest_positive_root(polynomial: Polynomial) -> float:
    roots = polynomial.trim().roots() if polynomial.degree() else np.empty(0)
    real = roots[np.isclose(roots.imag, 0, atol=1e-9)].real
    positive = real[real > 0]
    return float(positive.min()) if positive.size else math.inf


def _polynomial_range(dist: np.ndarray) -> float:
    """Largest |xy_norm| up to which r * radial(r^2) grows and its denominator is positive."""
    k1, k2, _, _, k3, k4, k5, k6 = dist[:8]
    s = Polynomial([0, 1])
    numerator = Polynomial([1, k1, k2, k3])
    denominator = Polynomial([1, k4, k5, k6])
    slope = numerator * denominator + 2 * s * (
        numerator.deriv() * denominator - numerator * denominator.deriv()
    )
    limit = min(_smallest_positive_root(slope), _smallest_positive_root(denominator))
    return math.sqrt(limit)


def _equidistant_range(dist: np.ndarray) -> float:
    """Largest angle [rad] up to which the distorted angle grows; at most pi."""
    k1, k2, k3, k4 = dist
    slope = Polynomial([1, 3 * k1, 5 * k2, 7 * k3, 9 * k4])
    return min(math.sqrt(_smallest_positive_root(slope)), math.pi)
