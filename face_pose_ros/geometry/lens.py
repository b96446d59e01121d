"""The lenses of `Camera`, compiled for CPUs: the same formulas, without torch."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.jit import compiled as _compiled

_MIN_DEPTH = 1e-9
_NEWTON_STEPS = 20
_SETTLED = 1e-7  # the step after it would be of the order of its square
_TOLERANCE = 1e3 * np.finfo(np.float64).eps


class Lens(NamedTuple):
    """A camera for compiled code."""

    f: NDArray[np.float64]  # (2,) px
    c: NDArray[np.float64]  # (2,) px
    dist: tuple[float, ...]  # 12 at any time: another number would be compiled anew
    range_max: float
    fisheye: bool


def lens_of(camera: Camera) -> Lens:
    """The lens of one camera, float64, on the CPU."""
    return Lens(
        camera.f.numpy(),
        camera.c.numpy(),
        (*camera.dist.tolist(), *[0.0] * (12 - len(camera.dist))),
        float(camera.range_max),
        camera.distortion_model == 'equidistant',
    )


@_compiled
def unproject(lens, xy, rays, J, usable):
    """Unit rays (3, K) of distorted points (2, K), and their derivatives J (2, 3, K) by xyz there.

    Points without a ray become not usable (K,).
    """
    if lens.fisheye:
        _unproject_equidistant(lens.dist, lens.range_max, xy, rays, J, usable)
    else:
        _unproject_polynomial(lens.dist, lens.range_max, xy, rays, J, usable)


@_compiled
def project(lens, x, y, z):
    """Pixel u, v of a point, and whether the camera sees it; as `Camera.project` for one point."""
    if lens.fisheye:
        u, v, valid = _project_equidistant(lens.dist, lens.range_max, x, y, z)
    else:
        u, v, valid = _project_polynomial(lens.dist, lens.range_max, x, y, z)
    return u * lens.f[0] + lens.c[0], v * lens.f[1] + lens.c[1], valid


@_compiled
def _project_polynomial(dist, range_max, x, y, z):
    inv_z = 1 / z if z > _MIN_DEPTH else 1.0
    x, y = x * inv_z, y * inv_z
    valid = z > _MIN_DEPTH and x * x + y * y < range_max * range_max
    if not valid:
        x, y = 0.0, 0.0
    u, v, _, _, _, _ = _distort(dist, x, y)
    return u, v, valid


@_compiled
def _project_equidistant(dist, range_max, x, y, z):
    k1, k2, k3, k4 = dist[0], dist[1], dist[2], dist[3]
    r_sq = x * x + y * y
    in_front = z > _MIN_DEPTH
    if r_sq <= 1e-16 * (r_sq + z * z):
        scale = 1 / z if in_front else 1.0
        return x * scale, y * scale, in_front
    r = math.sqrt(r_sq)
    theta = math.atan2(r, z)
    t = theta * theta
    scale = theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4)))) / r
    return x * scale, y * scale, theta < range_max


@_compiled
def _distort(dist, x, y):
    """Distorted x, y of a polynomial lens, and their derivatives xx, xy, yy with yx == xy."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = dist
    s = x * x + y * y
    inv_denominator = 1 / (1 + s * (k4 + s * (k5 + s * k6)))
    radial = (1 + s * (k1 + s * (k2 + s * k3))) * inv_denominator
    d_numerator = k1 + s * (2 * k2 + 3 * s * k3)
    d_denominator = k4 + s * (2 * k5 + 3 * s * k6)
    slope = (d_numerator - radial * d_denominator) * inv_denominator
    prism_x, prism_y = s1 + 2 * s2 * s, s3 + 2 * s4 * s
    u = x * radial + 2 * p1 * x * y + p2 * (s + 2 * x * x) + s * (s1 + s2 * s)
    v = y * radial + 2 * p2 * x * y + p1 * (s + 2 * y * y) + s * (s3 + s4 * s)
    cross = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
    ux = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x + 2 * x * prism_x
    vy = radial + 2 * y * y * slope + 2 * p2 * x + 6 * p1 * y + 2 * y * prism_y
    return u, v, ux, cross + 2 * y * prism_x, cross + 2 * x * prism_y, vy


@_compiled
def _unproject_polynomial(dist, range_max, xy, rays, J, usable):
    # All points take the same steps, for loops without branches are vectorised.
    count = xy.shape[1]
    x, y = xy[0].copy(), xy[1].copy()
    limit_sq = (0.999 * range_max) ** 2
    for _ in range(_NEWTON_STEPS):
        moved = 0.0
        for k in range(count):
            radius_sq = x[k] * x[k] + y[k] * y[k]
            back = math.sqrt(limit_sq / radius_sq) if radius_sq > limit_sq else 1.0
            a, b, ux, uy, vx, vy = _distort(dist, x[k] * back, y[k] * back)
            inv = 1 / (ux * vy - uy * vx)
            dx = inv * (vy * (a - xy[0, k]) - uy * (b - xy[1, k]))
            dy = inv * (ux * (b - xy[1, k]) - vx * (a - xy[0, k]))
            x[k], y[k] = x[k] * back - dx, y[k] * back - dy
            moved += dx * dx + dy * dy
        if moved < _SETTLED * _SETTLED:
            break
    for k in range(count):
        a, b, ux, uy, vx, vy = _distort(dist, x[k], y[k])
        error_sq, radius_sq = (a - xy[0, k]) ** 2 + (b - xy[1, k]) ** 2, x[k] ** 2 + y[k] ** 2
        tolerance = _TOLERANCE * (1 + math.sqrt(xy[0, k] ** 2 + xy[1, k] ** 2))
        usable[k] &= error_sq < tolerance * tolerance and radius_sq < range_max * range_max
        norm = math.sqrt(1 + radius_sq)
        rays[0, k], rays[1, k], rays[2, k] = x[k] / norm, y[k] / norm, 1 / norm
        # d xy / d xyz = [I, -xy] / z at the unit ray (x, y, 1) / norm.
        J[0, 0, k], J[0, 1, k], J[0, 2, k] = ux * norm, uy * norm, -(ux * x[k] + uy * y[k]) * norm
        J[1, 0, k], J[1, 1, k], J[1, 2, k] = vx * norm, vy * norm, -(vx * x[k] + vy * y[k]) * norm


@_compiled
def _unproject_equidistant(dist, range_max, xy, rays, J, usable):
    k1, k2, k3, k4 = dist[0], dist[1], dist[2], dist[3]
    for k in range(xy.shape[1]):
        u, v = xy[0, k], xy[1, k]
        target = math.sqrt(u * u + v * v)
        theta = target
        for _ in range(_NEWTON_STEPS):
            theta = min(max(theta, 0.0), 0.999 * range_max)
            t = theta * theta
            value = theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))
            slope = 1 + t * (3 * k1 + t * (5 * k2 + t * (7 * k3 + t * 9 * k4)))
            step = (value - target) / slope
            theta -= step
            if abs(step) < _SETTLED:
                break
        t = theta * theta
        value = theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))
        slope = 1 + t * (3 * k1 + t * (5 * k2 + t * (7 * k3 + t * 9 * k4)))
        usable[k] &= abs(value - target) < _TOLERANCE * (1 + target) and theta < range_max
        cos, sin = (u / target, v / target) if target > 1e-12 else (1.0, 0.0)
        r, z = math.sin(theta), math.cos(theta)
        rays[0, k], rays[1, k], rays[2, k] = r * cos, r * sin, z
        # At the unit ray: radially slope * (z, -r), across value / r.
        across = value / r if r > 1e-12 else 1.0
        J[0, 0, k] = slope * z * cos * cos + across * sin * sin
        J[1, 1, k] = slope * z * sin * sin + across * cos * cos
        J[0, 1, k] = J[1, 0, k] = (slope * z - across) * cos * sin
        J[0, 2, k], J[1, 2, k] = -slope * r * cos, -slope * r * sin
