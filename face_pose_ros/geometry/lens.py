# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compiled camera models: OpenCV's polynomial and fisheye, with skew and a tilted sensor.

A lens maps a ray to a distorted point, from its intersection with the plane z = 1 (polynomial) or
its angle to the axis (fisheye). A homography maps that point to the pixel: K, times the tilt of
the sensor if there is one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from face_pose_ros.geometry.jit import compiled, inner

_MIN_DEPTH = 1e-9  # m; below it a point has no pinhole image
_NEWTON_STEPS = 20  # quadratic convergence: the strongest lenses in the tests need 9
_BISECTIONS = 40
_CONVERGED = 1e-7  # step size; the next step would be of the order of its square
_TOLERANCE = 1e3 * np.finfo(np.float64).eps


class Lens(NamedTuple):
    """A camera as compiled code takes it: numbers only, so that all cameras have one type."""

    plane: tuple[float, ...]  # 9, row-major: homography from the distorted plane to pixels
    inverse: tuple[float, ...]  # 9: its inverse
    dist: tuple[float, ...]  # 12: k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4, or k1 k2 k3 k4 0 ... 0
    range_max: float  # see `Camera`
    fisheye: bool


@inner
def project(lens, xyz):
    """Replace points (3, K) [m], camera frame, by u, v [px] and 1 if valid, else 0.

    In place, and with one loop per model: so the compiler vectorises it.
    """
    x, y, z = xyz[0], xyz[1], xyz[2]
    if lens.fisheye:
        for k in range(len(x)):
            a, b, is_seen, _ = _project_equidistant(lens.dist, lens.range_max, x[k], y[k], z[k])
            x[k], y[k], is_seen, _ = _to_pixel(lens.plane, a, b, is_seen)
            z[k] = 1.0 if is_seen else 0.0
    else:
        for k in range(len(x)):
            a, b, is_seen, _ = _project_polynomial(lens.dist, lens.range_max, x[k], y[k], z[k])
            x[k], y[k], is_seen, _ = _to_pixel(lens.plane, a, b, is_seen)
            z[k] = 1.0 if is_seen else 0.0


@inner
def project_with_jacobian(lens, x, y, z):
    """Pixel u, v of one point, whether it is valid, and d(u, v)/d(x, y, z) [px/m], row-major."""
    if lens.fisheye:
        a, b, is_seen, D = _project_equidistant(lens.dist, lens.range_max, x, y, z)
    else:
        a, b, is_seen, D = _project_polynomial(lens.dist, lens.range_max, x, y, z)
    u, v, is_seen, (ua, ub, va, vb) = _to_pixel(lens.plane, a, b, is_seen)
    J = (
        ua * D[0] + ub * D[3],
        ua * D[1] + ub * D[4],
        ua * D[2] + ub * D[5],
        va * D[0] + vb * D[3],
        va * D[1] + vb * D[4],
        va * D[2] + vb * D[5],
    )
    return u, v, is_seen, J


@inner
def _to_pixel(plane, a, b, is_seen):
    """Pixel of a distorted point, and its derivatives ua, ub, va, vb."""
    h = plane
    w = h[6] * a + h[7] * b + h[8]
    is_before = w > _MIN_DEPTH  # the horizon of a tilted sensor
    inv_w = 1 / (w if is_before else 1.0)
    u, v = (h[0] * a + h[1] * b + h[2]) * inv_w, (h[3] * a + h[4] * b + h[5]) * inv_w
    ua, ub = (h[0] - u * h[6]) * inv_w, (h[1] - u * h[7]) * inv_w
    va, vb = (h[3] - v * h[6]) * inv_w, (h[4] - v * h[7]) * inv_w
    return u, v, is_seen & is_before, (ua, ub, va, vb)


@inner
def unproject(lens, uv, rays, J, usable):
    """Unit rays of pixels, and the derivatives of `project` at these rays.

    Args:
        lens: The camera.
        uv: (2, K) px.
        rays: (3, K), written; (0, 0, 1) for pixels without a ray.
        J: (2, 3, K), written: d uv / d xyz at the unit ray [px].
        usable: (K,) bool; set to False for pixels without a ray.
    """
    count = uv.shape[1]
    xy = np.empty((2, count))
    g = lens.inverse
    for k in range(count):
        u, v = uv[0, k], uv[1, k]
        w = g[6] * u + g[7] * v + g[8]
        usable[k] &= w > 0
        xy[0, k] = (g[0] * u + g[1] * v + g[2]) / w
        xy[1, k] = (g[3] * u + g[4] * v + g[5]) / w
    if lens.fisheye:
        _unproject_equidistant(lens.dist, lens.range_max, xy, rays, J, usable)
    else:
        _unproject_polynomial(lens.dist, lens.range_max, xy, rays, J, usable)
    for k in range(count):
        if not usable[k]:
            rays[0, k], rays[1, k], rays[2, k] = 0.0, 0.0, 1.0
        _, _, _, (ua, ub, va, vb) = _to_pixel(lens.plane, xy[0, k], xy[1, k], True)
        for i in range(3):
            a, b = J[0, i, k], J[1, i, k]
            J[0, i, k], J[1, i, k] = ua * a + ub * b, va * a + vb * b


@compiled
def project_points(lens, xyz, uv, valid):
    """`project` of points (P, 3) into uv (P, 2) and valid (P,)."""
    count = len(xyz)
    columns = np.empty((3, count))
    for k in range(count):
        columns[0, k], columns[1, k], columns[2, k] = xyz[k, 0], xyz[k, 1], xyz[k, 2]
    project(lens, columns)
    for k in range(count):
        uv[k, 0], uv[k, 1], valid[k] = columns[0, k], columns[1, k], columns[2, k] > 0


@compiled
def project_points_with_jacobians(lens, xyz, uv, valid, J):
    """`project_points`, with the derivatives of `project_with_jacobian` in J (P, 6)."""
    for k in range(len(xyz)):
        u, v, seen, row = project_with_jacobian(lens, xyz[k, 0], xyz[k, 1], xyz[k, 2])
        uv[k, 0], uv[k, 1], valid[k] = u, v, seen
        for i in range(6):
            J[k, i] = row[i]


@compiled
def unproject_points(lens, uv, rays, valid):
    """`unproject` of pixels (P, 2) into rays (P, 3) and valid (P,)."""
    count = len(uv)
    columns, xyz = np.empty((2, count)), np.empty((3, count))
    for k in range(count):
        columns[0, k], columns[1, k], valid[k] = uv[k, 0], uv[k, 1], True
    unproject(lens, columns, xyz, np.empty((2, 3, count)), valid)
    for k in range(count):
        rays[k, 0], rays[k, 1], rays[k, 2] = xyz[0, k], xyz[1, k], xyz[2, k]


@inner
def _project_polynomial(dist, range_max, x, y, z):
    """Distorted point, whether it is valid, and its derivatives by x, y, z, row-major."""
    is_in_front = z > _MIN_DEPTH
    inv_z = 1 / (z if is_in_front else 1.0)
    x, y = x * inv_z, y * inv_z
    valid = is_in_front & (x * x + y * y < range_max * range_max)
    # An invalid point is moved to the principal point, so that nothing overflows later.
    x, y = x if valid else 0.0, y if valid else 0.0
    a, b, ax, ay, bx, by = _distort(dist, x, y)
    # d xy / d xyz = [I, -xy] / z
    az, bz = -(ax * x + ay * y), -(bx * x + by * y)
    D = ax * inv_z, ay * inv_z, az * inv_z, bx * inv_z, by * inv_z, bz * inv_z
    # Strong tangential terms can fold the image although the radial part still grows.
    return a, b, valid & (ax * by - ay * bx > 0), D


@inner
def _distort(dist, x, y):
    """Distorted x, y and their derivatives (OpenCV's calib3d documentation, "projectPoints")."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = dist
    s = x * x + y * y
    inv_denominator = 1 / (1 + s * (k4 + s * (k5 + s * k6)))
    radial = (1 + s * (k1 + s * (k2 + s * k3))) * inv_denominator
    d_numerator = k1 + s * (2 * k2 + 3 * s * k3)
    d_denominator = k4 + s * (2 * k5 + 3 * s * k6)
    slope = (d_numerator - radial * d_denominator) * inv_denominator  # d radial / d s
    prism_x, prism_y = s1 + 2 * s2 * s, s3 + 2 * s4 * s
    a = x * radial + 2 * p1 * x * y + p2 * (s + 2 * x * x) + s * (s1 + s2 * s)
    b = y * radial + 2 * p2 * x * y + p1 * (s + 2 * y * y) + s * (s3 + s4 * s)
    ax = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x + 2 * x * prism_x
    by = radial + 2 * y * y * slope + 2 * p2 * x + 6 * p1 * y + 2 * y * prism_y
    cross = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
    return a, b, ax, cross + 2 * y * prism_x, cross + 2 * x * prism_y, by


@inner
def _unproject_polynomial(dist, range_max, xy, rays, J, usable):
    """Newton's method; writes the derivatives of the distorted point into J."""
    # All points take the same number of steps: loops without branches are vectorised.
    count = xy.shape[1]
    x, y = xy[0].copy(), xy[1].copy()
    limit_sq = (0.999 * range_max) ** 2
    for _ in range(_NEWTON_STEPS):
        moved = 0.0
        for k in range(count):
            # Inside the monotone range the Jacobian is regular.
            radius_sq = x[k] * x[k] + y[k] * y[k]
            back = math.sqrt(limit_sq / radius_sq) if radius_sq > limit_sq else 1.0
            a, b, ax, ay, bx, by = _distort(dist, x[k] * back, y[k] * back)
            inv = 1 / (ax * by - ay * bx)
            dx = inv * (by * (a - xy[0, k]) - ay * (b - xy[1, k]))
            dy = inv * (ax * (b - xy[1, k]) - bx * (a - xy[0, k]))
            x[k], y[k] = x[k] * back - dx, y[k] * back - dy
            moved += dx * dx + dy * dy
        if moved < _CONVERGED * _CONVERGED:
            break
    for k in range(count):
        a, b, ax, ay, bx, by = _distort(dist, x[k], y[k])
        error_sq = (a - xy[0, k]) ** 2 + (b - xy[1, k]) ** 2
        tolerance_sq = (_TOLERANCE * (1 + math.sqrt(xy[0, k] ** 2 + xy[1, k] ** 2))) ** 2
        if not error_sq < tolerance_sq:
            x[k], y[k] = _undistort_carefully(dist, range_max, xy[0, k], xy[1, k])
            a, b, ax, ay, bx, by = _distort(dist, x[k], y[k])
            error_sq = (a - xy[0, k]) ** 2 + (b - xy[1, k]) ** 2
        radius_sq = x[k] * x[k] + y[k] * y[k]
        is_in_range = radius_sq < range_max * range_max and ax * by - ay * bx > 0
        usable[k] &= error_sq < tolerance_sq and is_in_range
        norm = math.sqrt(1 + radius_sq)
        rays[0, k], rays[1, k], rays[2, k] = x[k] / norm, y[k] / norm, 1 / norm
        # d xy / d xyz = [I, -xy] / z at the unit ray (x, y, 1) / norm.
        J[0, 0, k], J[0, 1, k], J[0, 2, k] = ax * norm, ay * norm, -(ax * x[k] + ay * y[k]) * norm
        J[1, 0, k], J[1, 1, k], J[1, 2, k] = bx * norm, by * norm, -(bx * x[k] + by * y[k]) * norm


@inner
def _undistort_carefully(dist, range_max, a, b):
    """Newton's method, started at the undistorted radius found by bisection."""
    target = math.hypot(a, b)
    low, high = 0.0, min(range_max, 1e3)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        radius, _, _, _, _, _ = _distort(_radial_part(dist), middle, 0.0)
        if radius < target:
            low = middle
        else:
            high = middle
    x, y = a * low / target, b * low / target
    for _ in range(_NEWTON_STEPS):
        a_now, b_now, ax, ay, bx, by = _distort(dist, x, y)
        inv = 1 / (ax * by - ay * bx)
        dx = inv * (by * (a_now - a) - ay * (b_now - b))
        dy = inv * (ax * (b_now - b) - bx * (a_now - a))
        x, y = x - dx, y - dy
        if dx * dx + dy * dy < _CONVERGED * _CONVERGED:
            break
    return x, y


@inner
def _radial_part(dist):
    return dist[0], dist[1], 0.0, 0.0, dist[4], dist[5], dist[6], dist[7], 0.0, 0.0, 0.0, 0.0


@inner
def _project_equidistant(dist, range_max, x, y, z):
    """Kannala and Brandt (2006), as in OpenCV's fisheye module, but also beyond 90 deg."""
    r_sq = x * x + y * y
    norm_sq = r_sq + z * z
    if r_sq <= 1e-16 * norm_sq:
        in_front = z > _MIN_DEPTH
        scale = 1 / z if in_front else 1.0
        axial = -scale * scale
        return x * scale, y * scale, in_front, (scale, 0.0, axial * x, 0.0, scale, axial * y)
    r = math.sqrt(r_sq)
    theta = math.atan2(r, z)
    theta_dist, slope = _distort_angle(dist, theta)
    scale = theta_dist / r
    # d(xy theta_d / r) = scale I + xy (d scale / d r) d r + xy slope / r (d theta / d z) d z
    radial, axial = (slope * z / norm_sq - scale) / r_sq, -slope / norm_sq
    D = (
        scale + radial * x * x,
        radial * x * y,
        axial * x,
        radial * x * y,
        scale + radial * y * y,
        axial * y,
    )
    return x * scale, y * scale, theta < range_max, D


@inner
def _distort_angle(dist, theta):
    """Distorted angle [rad], and its derivative."""
    k1, k2, k3, k4 = dist[0], dist[1], dist[2], dist[3]
    t = theta * theta
    value = theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))
    slope = 1 + t * (3 * k1 + t * (5 * k2 + t * (7 * k3 + t * 9 * k4)))
    return value, slope


@inner
def _unproject_equidistant(dist, range_max, xy, rays, J, usable):
    """Newton's method and bisection; writes the derivatives of the distorted point into J."""
    for k in range(xy.shape[1]):
        a, b = xy[0, k], xy[1, k]
        target = math.sqrt(a * a + b * b)
        theta = min(target, 0.999 * range_max)
        low, high = 0.0, range_max
        for _ in range(_BISECTIONS):
            value, slope = _distort_angle(dist, theta)
            if value < target:
                low = theta
            else:
                high = theta
            step = (value - target) / slope
            if not low <= theta - step <= high:
                step = theta - 0.5 * (low + high)
            theta -= step
            if abs(step) < _CONVERGED:
                break
        value, slope = _distort_angle(dist, theta)
        usable[k] &= abs(value - target) < _TOLERANCE * (1 + target) and theta < range_max
        cos, sin = (a / target, b / target) if target > 1e-12 else (1.0, 0.0)
        r, z = math.sin(theta), math.cos(theta)
        rays[0, k], rays[1, k], rays[2, k] = r * cos, r * sin, z
        # At the unit ray: radially slope * (z, -r), across value / r.
        across = value / r if r > 1e-12 else 1.0
        J[0, 0, k] = slope * z * cos * cos + across * sin * sin
        J[1, 1, k] = slope * z * sin * sin + across * cos * cos
        J[0, 1, k] = J[1, 0, k] = (slope * z - across) * cos * sin
        J[0, 2, k], J[1, 2, k] = -slope * r * cos, -slope * r * sin
