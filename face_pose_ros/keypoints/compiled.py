"""The way to the network and back, compiled for CPUs: the same answers as `crop` gives in torch.

Aiming a crop, mapping its pixels through the lens and carrying keypoints back are thousands of
small operations, which cost torch as much time as the network itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry.jit import compiled as _compiled
from face_pose_ros.geometry.lens import Lens, project, unproject


class Aim(NamedTuple):
    """Virtual cameras of N crops, see `crop.FaceCrops`."""

    R_cam_crop: NDArray[np.float64]  # (N, 3, 3)
    focal_px: NDArray[np.float64]  # (N,)
    valid: NDArray[np.bool_]  # (N,)


class Back(NamedTuple):
    """Keypoints of N faces in the image."""

    uv: NDArray[np.float64]  # (N, K, 2) px
    cov_uv: NDArray[np.float64]  # (N, K, 2, 2) px^2
    J: NDArray[np.float64]  # (N, 2, 2) px of the image per px of the crop, in its middle


def aim_at_keypoints(
    uv: NDArray[np.float64],
    upright: tuple[NDArray[np.int64], ...],
    lens: Lens,
    size_px: int,
    margin: float,
) -> Aim:
    """Crops around the keypoints of N faces; see `crop.crops_around_keypoints`.

    Args:
        uv: (N, K, 2) px.
        upright: Indices of keypoints at the right eye, left eye, forehead and chin.
        lens: Of the image.
        size_px: Side of the crops.
        margin: Side of the crop over that of the keypoints' bounding square.
    """
    count = len(uv)
    aim = Aim(np.empty((count, 3, 3)), np.empty(count), np.empty(count, np.bool_))
    eye_right, eye_left, forehead, chin = upright
    _aim(uv, eye_right, eye_left, forehead, chin, lens, size_px, margin, aim)
    return aim


def render(
    image: NDArray[np.uint8], aim: Aim, lens: Lens, size_px: int, limits: tuple[float, int, int]
) -> NDArray[np.float32]:
    """The pictures (N, 3, size, size) in [0, 1]; see `crop.render_crops`.

    Args:
        image: (H, W, 3) uint8 RGB.
        aim: The crops.
        lens: Of the image.
        size_px: Side of the crops.
        limits: Largest step from one sample to the next [px], most samples per pixel and axis,
            and the crop's pixels [px] from one exactly mapped node to the next.
    """
    max_step_px, max_samples, spacing = limits
    pictures = np.empty((len(aim.focal_px), 3, size_px, size_px), np.float32)
    height, width = image.shape[:2]
    for i in range(len(pictures)):
        us, vs, step_px, part = _map_nodes(
            aim.R_cam_crop[i], aim.focal_px[i], lens, size_px, spacing, width, height
        )
        left, top, right, bottom = part
        # Four bytes for each pixel: they are loaded at once.
        packed = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2RGBA)
        few = step_px < max_step_px * max_samples  # not so where the crop has no rays: NaN
        samples = max(math.ceil(step_px / max_step_px), 1) if few else max_samples
        _sample(packed.view(np.uint32)[..., 0], us, vs, spacing, samples, pictures[i])
    return pictures


def to_image(
    uv_crop: NDArray[np.float32],
    factor: NDArray[np.float64],
    cov_crop: NDArray[np.float64],
    aim: Aim,
    lens: Lens,
    size_px: int,
) -> Back:
    """Keypoints of the crops in the image, with covariances.

    Args:
        uv_crop: (N, K, 2) px of the crop.
        factor: (N,) of the covariances.
        cov_crop: (K, 2, 2) px^2 of the crop.
        aim: The crops.
        lens: Of the image.
        size_px: Side of the crops.

    Returns:
        The keypoints; a covariance is infinite where the camera does not see that far.
    """
    count, points = uv_crop.shape[:2]
    back = Back(
        np.empty((count, points, 2)), np.empty((count, points, 2, 2)), np.empty((count, 2, 2))
    )
    _carry_back(uv_crop, factor, cov_crop, aim, lens, size_px, back)
    return back


@_compiled
def _aim(uv, eye_right, eye_left, forehead, chin, lens, size_px, margin, aim):
    points = uv.shape[1]
    xy, rays = np.empty((2, points)), np.empty((3, points))
    J, seen = np.empty((2, 3, points)), np.empty(points, np.bool_)
    for i in range(len(uv)):
        for k in range(points):
            xy[0, k] = (uv[i, k, 0] - lens.c[0]) / lens.f[0]
            xy[1, k] = (uv[i, k, 1] - lens.c[1]) / lens.f[1]
            seen[k] = True
        unproject(lens, xy, rays, J, seen)
        across = _mean_ray(rays, eye_left) - _mean_ray(rays, eye_right)
        down = _mean_ray(rays, chin) - _mean_ray(rays, forehead)
        middle = np.empty(3)
        for j in range(3):
            middle[j] = rays[j].mean()
        R = _roll(_look_at(middle), across, down)
        left, top, right, bottom = _bounds(R, rays)
        middle = R[:, 0] * (0.5 * (left + right)) + R[:, 1] * (0.5 * (top + bottom)) + R[:, 2]
        R = _roll(_look_at(middle), across, down)
        left, top, right, bottom = _bounds(R, rays)
        aim.R_cam_crop[i] = R
        aim.focal_px[i] = size_px / (margin * max(right - left, bottom - top, 1e-9))
        aim.valid[i] = seen.all()


@_compiled
def _mean_ray(rays, points):
    mean = np.zeros(3)
    for k in points:
        for j in range(3):
            mean[j] += rays[j, k]
    return mean / len(points)


@_compiled
def _bounds(R, rays):
    """Left, top, right and bottom of rays (3, K) in the plane z = 1 of R's frame."""
    left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
    for k in range(rays.shape[1]):
        a, b, c = rays[0, k], rays[1, k], rays[2, k]
        inv_z = 1 / max(R[0, 2] * a + R[1, 2] * b + R[2, 2] * c, 1e-3)
        x = (R[0, 0] * a + R[1, 0] * b + R[2, 0] * c) * inv_z
        y = (R[0, 1] * a + R[1, 1] * b + R[2, 1] * c) * inv_z
        left, right = min(left, x), max(right, x)
        top, bottom = min(top, y), max(bottom, y)
    return left, top, right, bottom


@_compiled
def _look_at(ray):
    z = ray / _norm(ray)
    down = np.zeros(3)
    down[2 if abs(z[1]) > 0.999 else 1] = 1
    x = _cross(down, z)
    x /= _norm(x)
    R = np.empty((3, 3))
    R[:, 0], R[:, 1], R[:, 2] = x, _cross(z, x), z
    return R


@_compiled
def _roll(R, across, down):
    cos, sin = 0.0, 0.0
    for j in range(3):
        cos += R[j, 0] * across[j] + R[j, 1] * down[j]
        sin += R[j, 1] * across[j] - R[j, 0] * down[j]
    norm = max(math.sqrt(cos * cos + sin * sin), 1e-12)
    cos, sin = cos / norm, sin / norm
    rolled = R.copy()
    rolled[:, 0] = cos * R[:, 0] + sin * R[:, 1]
    rolled[:, 1] = cos * R[:, 1] - sin * R[:, 0]
    return rolled


@_compiled
def _cross(a, b):
    return np.array(
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    )


@_compiled
def _norm(v):
    return max(math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]), 1e-12)


@_compiled
def _pixel(lens, R, focal_px, middle, u, v):
    """Where the image shows a pixel of the crop, and whether it does."""
    x, y = (u - middle) / focal_px, (v - middle) / focal_px
    return project(
        lens,
        R[0, 0] * x + R[0, 1] * y + R[0, 2],
        R[1, 0] * x + R[1, 1] * y + R[1, 2],
        R[2, 0] * x + R[2, 1] * y + R[2, 2],
    )


@_compiled
def _map_nodes(R, focal_px, lens, size, spacing, width, height):
    """Where nodes of the crop lie in the part of the image that it shows.

    Returns:
        Their u and v in this part, the largest step between pixels of the crop [px], and the
        part's left, top, right and bottom.
    """
    count = size // spacing + 2
    us, vs = np.empty((count, count)), np.empty((count, count))
    for r in range(count):
        for c in range(count):
            u, v = (c - 0.5) * spacing - 0.5, (r - 0.5) * spacing - 0.5
            us[r, c], vs[r, c], _ = _pixel(lens, R, focal_px, 0.5 * (size - 1), u, v)
    step_sq = 0.0
    for r in range(count - 1):
        for c in range(count - 1):
            du, dv = us[r + 1, c + 1] - us[r, c], vs[r + 1, c + 1] - vs[r, c]
            step_sq = max(step_sq, du * du + dv * dv)
    left, top = _within(us.min() - 1, width), _within(vs.min() - 1, height)
    right, bottom = _within(us.max() + 2, width) + 1, _within(vs.max() + 2, height) + 1
    for r in range(count):
        for c in range(count):
            us[r, c] -= left
            vs[r, c] -= top
    return us, vs, math.sqrt(0.5 * step_sq) / spacing, (left, top, right, bottom)


@_compiled
def _within(position, size):
    # It may be too large for an integer, or NaN where the crop has no rays.
    if position >= size:
        return size - 1
    return int(position) if position > 0 else 0


@_compiled
def _sample(packed, us, vs, spacing, samples, picture):
    """Bilinear samples at positions that are bilinear between nodes, averaged for each pixel.

    Beyond the image its border is repeated.
    """
    size, nodes, fine = picture.shape[1], us.shape[1], spacing * samples
    height, width = packed.shape
    pixels = packed.ravel()
    x, y = np.empty((2, (nodes - 1) * fine), np.float32)
    inside = slice(fine // 2, fine // 2 + size * samples)
    corners = np.empty((4, size * samples), np.uint32)
    parts = np.empty((2, size * samples), np.float32)
    mixed = np.empty(size * samples, np.float32)
    scale = np.float32(1 / (255 * samples * samples))
    for r in range(size * samples):
        position = (r + 0.5) / fine + 0.5
        node = int(position)
        _line(us[node], us[node + 1], position - node, fine, width - 1, x)
        _line(vs[node], vs[node + 1], position - node, fine, height - 1, y)
        _load(pixels, width, height, x[inside], y[inside], corners, parts)
        for channel in range(3):
            row = picture[channel, r // samples]
            if samples == 1:
                _mix(corners, parts, 8 * channel, scale, row)
                continue
            if r % samples == 0:
                row[:] = 0
            _mix(corners, parts, 8 * channel, scale, mixed)
            for c in range(size * samples):
                row[c // samples] += mixed[c]


@_compiled
def _line(upper, lower, part, fine, limit, positions):
    """Positions within 0 and a limit, from one node of a row to the next."""
    for node in range(len(upper) - 1):
        first = (1 - part) * upper[node] + part * lower[node]
        next_ = (1 - part) * upper[node + 1] + part * lower[node + 1]
        here = positions[node * fine : (node + 1) * fine]
        start, step = np.float32(first), np.float32((next_ - first) / fine)
        for k in range(fine):
            position = start + (np.float32(k) + np.float32(0.5)) * step
            # NaN becomes 0: every position is read.
            here[k] = min(position, np.float32(limit)) if position > 0 else np.float32(0)


@_compiled
def _load(pixels, width, height, x, y, corners, parts):
    """The four pixels around each position, and how far it lies right of and below the first."""
    a, b, c, d = corners[0], corners[1], corners[2], corners[3]
    across, down = parts[0], parts[1]
    for k in range(len(x)):
        left, top = np.int32(x[k]), np.int32(y[k])
        across[k], down[k] = x[k] - np.float32(left), y[k] - np.float32(top)
        # At the border the share of what lies beyond it is zero. Unsigned: no index from the end.
        place = np.uint64(top) * np.uint64(width) + np.uint64(left)
        beside = np.uint64(1 if left < width - 1 else 0)
        below = np.uint64(width if top < height - 1 else 0)
        a[k], b[k] = pixels[place], pixels[place + beside]
        c[k], d[k] = pixels[place + below], pixels[place + below + beside]


@_compiled
def _mix(corners, parts, shift, scale, mixed):
    """Bilinear mixture of one byte of the pixels."""
    a, b, c, d = corners[0], corners[1], corners[2], corners[3]
    across, down = parts[0], parts[1]
    for k in range(len(mixed)):
        upper_left, upper_right = _byte(a[k], shift), _byte(b[k], shift)
        lower_left, lower_right = _byte(c[k], shift), _byte(d[k], shift)
        above = upper_left + across[k] * (upper_right - upper_left)
        under = lower_left + across[k] * (lower_right - lower_left)
        mixed[k] = scale * (above + down[k] * (under - above))


@_compiled
def _byte(pixel, shift):
    return np.float32(np.int32(pixel >> np.uint32(shift) & np.uint32(255)))


@_compiled
def _carry_back(uv_crop, factor, cov_crop, aim, lens, size_px, back):
    middle = 0.5 * (size_px - 1)
    for i in range(len(uv_crop)):
        R, focal_px, J = aim.R_cam_crop[i], aim.focal_px[i], back.J[i]
        right_u, right_v, _ = _pixel(lens, R, focal_px, middle, middle + 1, middle)
        left_u, left_v, _ = _pixel(lens, R, focal_px, middle, middle - 1, middle)
        low_u, low_v, _ = _pixel(lens, R, focal_px, middle, middle, middle + 1)
        high_u, high_v, _ = _pixel(lens, R, focal_px, middle, middle, middle - 1)
        J[0, 0], J[0, 1] = 0.5 * (right_u - left_u), 0.5 * (low_u - high_u)
        J[1, 0], J[1, 1] = 0.5 * (right_v - left_v), 0.5 * (low_v - high_v)
        a, b, c, d = J[0, 0], J[0, 1], J[1, 0], J[1, 1]
        for k in range(uv_crop.shape[1]):
            u, v, seen = _pixel(lens, R, focal_px, middle, uv_crop[i, k, 0], uv_crop[i, k, 1])
            back.uv[i, k, 0], back.uv[i, k, 1] = u, v
            cov = back.cov_uv[i, k]
            if seen and aim.valid[i]:
                p, q, r = cov_crop[k, 0, 0], cov_crop[k, 0, 1], cov_crop[k, 1, 1]
                cov[0, 0] = factor[i] * (a * a * p + 2 * a * b * q + b * b * r)
                cov[1, 1] = factor[i] * (c * c * p + 2 * c * d * q + d * d * r)
                cov[0, 1] = cov[1, 0] = factor[i] * (a * c * p + (a * d + b * c) * q + b * d * r)
            else:
                cov[0, 0] = cov[1, 1] = np.inf
                cov[0, 1] = cov[1, 0] = 0
