# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Square crops of an image, rendered by virtual cameras, and the exact map of their pixels.

A crop is the image of a virtual pinhole camera at the centre of the real one. Its optical axis
meets the face, and it is rolled until the face is upright. So the crop does not depend on the
rotation, focal length and distortion of the real camera, and each of its pixels has an exact ray.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.jit import compiled, inner
from face_pose_ros.geometry.lens import project, project_with_jacobian, unproject

Array = NDArray[np.float64]

# Pixel maps are exact at nodes so many pixels apart and linear in between: over this distance a
# lens is linear to 0.01 px.
NODE_SPACING_PX = 8
# Largest step in the image between neighbouring crop pixels. Above it the image is halved before
# sampling, so that a close face is not aliased.
MAX_STEP_PX = 1.5


class Upright(NamedTuple):
    """Indices of the keypoints that define the roll of a crop; each group counts by its mean."""

    eye_right: NDArray[np.int64]  # the person's own right
    eye_left: NDArray[np.int64]
    forehead: NDArray[np.int64]  # top of the face's midline
    chin: NDArray[np.int64]  # its bottom


@dataclass(frozen=True, eq=False)
class Crops:
    """Virtual cameras of N square crops; the principal point is the crop's centre."""

    R_cam_crop: Array  # (N, 3, 3); a negated first column mirrors the crop
    focal_px: Array  # (N,)
    valid: NDArray[np.bool_]  # (N,): all points that define the crop have a ray
    size_px: int  # side of the crop, a multiple of NODE_SPACING_PX

    def __post_init__(self) -> None:
        # Compiled code takes contiguous arrays of one type only.
        for name, dtype in (('R_cam_crop', float), ('focal_px', float), ('valid', bool)):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype, order='C'))

    def __len__(self) -> int:
        return len(self.focal_px)

    def rays(self, uv_crop: ArrayLike) -> Array:
        """Directions (N, P, 3) in the camera frame of crop pixels (N, P, 2); not unit vectors."""
        middle = 0.5 * (self.size_px - 1)
        xy = (np.asarray(uv_crop, dtype=np.float64) - middle) / self.focal_px[:, None, None]
        rays_crop = np.concatenate([xy, np.ones_like(xy[..., :1])], -1)
        return rays_crop @ self.R_cam_crop.swapaxes(-1, -2)

    def to_image(self, uv_crop: ArrayLike, camera: Camera) -> tuple[Array, NDArray[np.bool_]]:
        """Image pixels (N, P, 2) of crop pixels (N, P, 2), and whether they are valid."""
        uv, valid, _ = camera.project(self.rays(uv_crop))
        return uv, valid & self.valid[:, None]

    def jacobian(self, camera: Camera) -> Array:
        """(N, 2, 2) derivative of the image pixel by the crop pixel, at the centre of the crop."""
        J = np.empty((len(self), 2, 2))
        for i in range(len(self)):
            crop_jacobian(camera.numba_lens, self.R_cam_crop[i], self.focal_px[i], J[i])
        return J

    def rolled(self, angles: Array) -> Crops:
        """The same crops turned about their axes by angles (N,) [rad]."""
        c, s = np.cos(angles)[:, None], np.sin(angles)[:, None]
        x, y, z = np.moveaxis(self.R_cam_crop, -1, 0)
        R = np.stack([c * x + s * y, c * y - s * x, z], -1)
        return Crops(R, self.focal_px, self.valid, self.size_px)

    def __getitem__(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Crops:
        """Some of the crops, by a (M,) index or (N,) mask."""
        return Crops(self.R_cam_crop[index], self.focal_px[index], self.valid[index], self.size_px)


def crops_around_boxes(
    boxes_xyxy: ArrayLike, camera: Camera, size_px: int, margin: float
) -> Crops:
    """Crops around the boxes of upright faces.

    Args:
        boxes_xyxy: (N, 4) px.
        camera: The camera of the image.
        size_px: Side of the crops.
        margin: Side of the crop over the longer side of the box.
    """
    boxes = np.array(boxes_xyxy, dtype=np.float64, order='C')
    crops = _unset(len(boxes), size_px)
    aims = crops.R_cam_crop, crops.focal_px, crops.valid
    _aim_at_boxes(boxes, camera.numba_lens, size_px, margin, *aims)
    return crops


def crops_around_keypoints(
    uv: ArrayLike, upright: Upright, camera: Camera, size_px: int, margin: float
) -> Crops:
    """Crops around measured keypoints of this or the last image.

    Args:
        uv: (N, K, 2) px; their bounding square, in the crop's own plane, is enlarged by margin.
        upright: Indices of the keypoints that define the roll.
        camera: The camera of the image.
        size_px: Side of the crops.
        margin: Side of the crop over the longer side of the bounding box.
    """
    points = np.array(uv, dtype=np.float64, order='C')
    crops = _unset(len(points), size_px)
    aims = crops.R_cam_crop, crops.focal_px, crops.valid
    _aim_at_keypoints(points, *upright, camera.numba_lens, size_px, margin, *aims)
    return crops


def render_crops(image: NDArray[np.uint8], crops: Crops, camera: Camera) -> NDArray[np.float32]:
    """Render the images of the virtual cameras.

    Args:
        image: (H, W, 3) uint8 RGB, with any strides.
        crops: N crops.
        camera: The camera of the image.

    Returns:
        (N, 3, size, size) float32 RGB in [0, 1]; outside the image its border is repeated.
    """
    size = crops.size_px
    pictures = np.empty((len(crops), 3, size, size), np.float32)
    height, width = image.shape[:2]
    count = size // NODE_SPACING_PX + 2
    us, vs = np.empty((count, count)), np.empty((count, count))
    for R, focal_px, picture in zip(crops.R_cam_crop, crops.focal_px, pictures, strict=True):
        halvings, left, top, right, bottom = _map_nodes(
            R, focal_px, camera.numba_lens, size, width, height, us, vs
        )
        part = _halved(image[top:bottom, left:right], halvings)
        _sample(_packed(part), part.shape[0], part.shape[1], us, vs, picture)
    return pictures


def _halved(part: NDArray[np.uint8], halvings: int) -> NDArray[np.uint8]:
    """Part (H, W, 3) of an image, averaged over 2 x 2 pixels so many times."""
    if part.strides[1:] != (3, 1) or part.strides[0] < 0:  # OpenCV refuses such views
        part = np.ascontiguousarray(part)
    for _ in range(halvings):
        height, width = part.shape[:2]
        if height % 2 or width % 2:  # only at the image border
            part = np.pad(part, [(0, height % 2), (0, width % 2), (0, 0)], 'edge')
        size = part.shape[1] // 2, part.shape[0] // 2
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    return part


def _packed(part: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Part (H, W, 3) of an image with four bytes per pixel, so that a pixel is one load.

    One more row and pixel of arbitrary content follow.
    """
    height, width = part.shape[:2]
    pixels = np.empty((height + 1) * width + 1, np.uint32)
    rows = pixels[: height * width].view(np.uint8).reshape(height, width, 4)
    cv2.cvtColor(part, cv2.COLOR_RGB2RGBA, rows)
    return pixels


def _unset(count: int, size_px: int) -> Crops:
    return Crops(
        np.empty((count, 3, 3)), np.empty(count), np.empty(count, dtype=np.bool_), size_px
    )


@compiled
def _aim_at_boxes(boxes, lens, size_px, margin, R_cam_crop, focal_px, valid):
    points = 5  # the middle, and the ends of a cross
    uv, rays = np.empty((2, points)), np.empty((3, points))
    J, seen = np.empty((2, 3, points)), np.empty(points, np.bool_)
    for i in range(len(boxes)):
        low_u, low_v, high_u, high_v = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
        # A cross of half the box size: the border of the box may be outside the lens's range.
        arm = 0.25 * max(high_u - low_u, high_v - low_v)
        for k in range(points):
            uv[0, k], uv[1, k], seen[k] = 0.5 * (low_u + high_u), 0.5 * (low_v + high_v), True
        uv[0, 1] += arm
        uv[0, 2] -= arm
        uv[1, 3] += arm
        uv[1, 4] -= arm
        unproject(lens, uv, rays, J, seen)
        R = R_cam_crop[i]
        _look_at(rays[0, 0], rays[1, 0], rays[2, 0], R)
        arms = _distance_in_plane(R, rays, 1, 2) + _distance_in_plane(R, rays, 3, 4)
        # The two bars of the cross are each half as long as the side of the box.
        focal_px[i] = size_px / (margin * arms)
        valid[i] = True
        for k in range(points):
            valid[i] &= seen[k]


@compiled
def _aim_at_keypoints(
    uv, eye_right, eye_left, forehead, chin, lens, size_px, margin, R_cam_crop, focal_px, valid
):
    points = uv.shape[1]
    columns, rays = np.empty((2, points)), np.empty((3, points))
    J, seen = np.empty((2, 3, points)), np.empty(points, np.bool_)
    across, down, middle = np.empty(3), np.empty(3), np.empty(3)
    for i in range(len(uv)):
        for k in range(points):
            columns[0, k], columns[1, k], seen[k] = uv[i, k, 0], uv[i, k, 1], True
        unproject(lens, columns, rays, J, seen)
        for j in range(3):
            across[j] = _mean(rays, j, eye_left) - _mean(rays, j, eye_right)
            down[j] = _mean(rays, j, chin) - _mean(rays, j, forehead)
            middle[j] = 0.0
            for k in range(points):
                middle[j] += rays[j, k]
        R = R_cam_crop[i]
        _look_at(middle[0], middle[1], middle[2], R)
        _roll(R, across, down)
        left, top, right, bottom = _bounds(R, rays)
        x, y = 0.5 * (left + right), 0.5 * (top + bottom)
        for j in range(3):
            middle[j] = R[j, 0] * x + R[j, 1] * y + R[j, 2]
        _look_at(middle[0], middle[1], middle[2], R)
        _roll(R, across, down)
        left, top, right, bottom = _bounds(R, rays)
        focal_px[i] = size_px / (margin * max(right - left, bottom - top, 1e-9))
        valid[i] = True
        for k in range(points):
            valid[i] &= seen[k]


@inner
def _mean(rays, j, points):
    """Mean of a coordinate of some of the rays (3, K)."""
    total = 0.0
    for k in points:
        total += rays[j, k]
    return total / len(points)


@inner
def _in_plane(R, rays, k):
    """Ray k of (3, K) in the plane z = 1 of R's frame."""
    a, b, c = rays[0, k], rays[1, k], rays[2, k]
    inv_z = 1 / max(R[0, 2] * a + R[1, 2] * b + R[2, 2] * c, 1e-3)
    x = (R[0, 0] * a + R[1, 0] * b + R[2, 0] * c) * inv_z
    return x, (R[0, 1] * a + R[1, 1] * b + R[2, 1] * c) * inv_z


@inner
def _distance_in_plane(R, rays, k, other):
    x, y = _in_plane(R, rays, k)
    x_other, y_other = _in_plane(R, rays, other)
    return math.sqrt((x - x_other) ** 2 + (y - y_other) ** 2)


@inner
def _bounds(R, rays):
    """Left, top, right and bottom of rays (3, K) in the plane z = 1 of R's frame."""
    left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
    for k in range(rays.shape[1]):
        x, y = _in_plane(R, rays, k)
        left, right = min(left, x), max(right, x)
        top, bottom = min(top, y), max(bottom, y)
    return left, top, right, bottom


@inner
def _look_at(x, y, z, R):
    """Write a rotation into R (3, 3): z axis along the ray x, y, z; x axis horizontal."""
    norm = max(math.sqrt(x * x + y * y + z * z), 1e-12)
    x, y, z = x / norm, y / norm, z / norm
    # A ray of a fisheye may be vertical; then every x axis is horizontal.
    a, b, c = (-y, x, 0.0) if abs(y) > 0.999 else (z, 0.0, -x)
    norm = max(math.sqrt(a * a + b * b + c * c), 1e-12)
    a, b, c = a / norm, b / norm, c / norm
    R[0, 0], R[1, 0], R[2, 0] = a, b, c
    R[0, 1], R[1, 1], R[2, 1] = y * c - z * b, z * a - x * c, x * b - y * a
    R[0, 2], R[1, 2], R[2, 2] = x, y, z


@inner
def _roll(R, across, down):
    """Rotate R about its z axis, in place, until the face is upright.

    Eye line and midline add up, weighted by their lengths: in profile the eye line is short, and
    the midline defines the roll.

    Args:
        R: (3, 3).
        across: (3,) from the person's right eye to the left one, camera frame.
        down: (3,) from the top of the face to its bottom, camera frame.
    """
    cos, sin = 0.0, 0.0
    for j in range(3):
        cos += R[j, 0] * across[j] + R[j, 1] * down[j]
        sin += R[j, 1] * across[j] - R[j, 0] * down[j]
    norm = max(math.sqrt(cos * cos + sin * sin), 1e-12)
    cos, sin = cos / norm, sin / norm
    for j in range(3):
        x, y = R[j, 0], R[j, 1]
        R[j, 0], R[j, 1] = cos * x + sin * y, cos * y - sin * x


@compiled
def crop_jacobian(lens, R, focal_px, J):
    """Write d uv / d uv_crop at the centre of the crop into J (2, 2)."""
    _, _, _, D = project_with_jacobian(lens, R[0, 2], R[1, 2], R[2, 2])
    for j in range(2):
        J[0, j] = (D[0] * R[0, j] + D[1] * R[1, j] + D[2] * R[2, j]) / focal_px
        J[1, j] = (D[3] * R[0, j] + D[4] * R[1, j] + D[5] * R[2, j]) / focal_px


@compiled
def _map_nodes(R, focal_px, lens, size, width, height, us, vs):
    """Positions of the crop's nodes in the part of the image that it shows.

    Writes their u and v in this part, after halving it, into us and vs (n, n). It is halved until
    the step between crop pixels is at most MAX_STEP_PX.

    Returns:
        The number of halvings; the part's left, top, right and bottom.
    """
    count = len(us)
    step, first = NODE_SPACING_PX / focal_px, -0.5 * (size + NODE_SPACING_PX) / focal_px
    row = np.empty((3, count))
    for r in range(count):
        y = first + r * step
        for i in range(3):
            for c in range(count):
                row[i, c] = R[i, 0] * (first + c * step) + (R[i, 1] * y + R[i, 2])
        project(lens, row)
        for c in range(count):
            us[r, c], vs[r, c] = row[0, c], row[1, c]
    step_sq, low_u, low_v, high_u, high_v = 0.0, np.inf, np.inf, -np.inf, -np.inf
    for r in range(count):
        for c in range(count):
            low_u, high_u = min(low_u, us[r, c]), max(high_u, us[r, c])
            low_v, high_v = min(low_v, vs[r, c]), max(high_v, vs[r, c])
    for r in range(count - 1):
        for c in range(count - 1):
            du, dv = us[r + 1, c + 1] - us[r, c], vs[r + 1, c + 1] - vs[r, c]
            step_sq = max(step_sq, du * du + dv * dv)
    left, top = _within(low_u - 1, width), _within(low_v - 1, height)
    right = max(_within(high_u + 2, width), left) + 1
    bottom = max(_within(high_v + 2, height), top) + 1
    halvings, scale = 0, 1
    step_sq /= 2 * NODE_SPACING_PX * NODE_SPACING_PX
    # Bounded by the size of the part, for crops without valid rays.
    while step_sq > (scale * MAX_STEP_PX) ** 2 and 2 * scale < min(right - left, bottom - top):
        halvings, scale = halvings + 1, 2 * scale
    # Aligned to the grid of halved pixels, so that a small motion changes little.
    left, top = left - left % scale, top - top % scale
    right = min(right + (left - right) % scale, width)
    bottom = min(bottom + (top - bottom) % scale, height)
    for r in range(count):
        for c in range(count):
            us[r, c] = (us[r, c] - left + 0.5) / scale - 0.5
            vs[r, c] = (vs[r, c] - top + 0.5) / scale - 0.5
    return halvings, left, top, right, bottom


@inner
def _within(position, size):
    # The position may be too large for an integer, or NaN if the crop has no valid rays.
    if position >= size:
        return size - 1
    return int(position) if position > 0 else 0


@compiled
def _sample(pixels, height, width, us, vs, picture):
    """Bilinear samples at positions that are interpolated bilinearly between nodes.

    Outside the image its border is repeated. `pixels` has one row and one pixel more than the
    image, of arbitrary content: their weight is zero.
    """
    size, half = picture.shape[1], NODE_SPACING_PX // 2
    # Four arrays, not one with four rows: loops over arrays that may overlap are not vectorised.
    x_upper, x_lower = np.empty(size + 2 * half, np.float32), np.empty(size + 2 * half, np.float32)
    y_upper, y_lower = np.empty(size + 2 * half, np.float32), np.empty(size + 2 * half, np.float32)
    inside = slice(half, half + size)
    corners, parts = np.empty((4, size), np.uint32), np.empty((2, size), np.float32)
    places = np.empty(size, np.int32)
    for r in range(size):
        node, within = divmod(r + half, NODE_SPACING_PX)
        if within == 0 or r == 0:
            _line(us[node], x_upper)
            _line(us[node + 1], x_lower)
            _line(vs[node], y_upper)
            _line(vs[node + 1], y_lower)
        part = np.float32((within + 0.5) / NODE_SPACING_PX)
        _split(x_upper[inside], x_lower[inside], part, width - 1, places, parts[0])
        _split_rows(y_upper[inside], y_lower[inside], part, height - 1, width, places, parts[1])
        _load(pixels, width, places, corners)
        for channel in range(3):
            _mix(corners, parts, 8 * channel, picture[channel, r])


@inner
def _line(nodes, positions):
    """Positions of the pixels of a row, linear between nodes."""
    for node in range(len(nodes) - 1):
        start, end = nodes[node], nodes[node + 1]
        step = np.float32((end - start) / NODE_SPACING_PX)
        here = positions[node * NODE_SPACING_PX : (node + 1) * NODE_SPACING_PX]
        # A loop of constant length is vectorised.
        for k in range(NODE_SPACING_PX):
            here[k] = np.float32(start) + (np.float32(k) + np.float32(0.5)) * step


@inner
def _split(upper, lower, part, last, places, across):
    """Column of the pixel to the left of each position, and the distance to it."""
    for k in range(len(places)):
        x = _clamped(upper[k] + part * (lower[k] - upper[k]), last)
        left = np.int32(x)
        places[k], across[k] = left, x - np.float32(left)


@inner
def _split_rows(upper, lower, part, last, width, places, down):
    """`_split` for rows, which are added to the columns and make them pixel indices."""
    for k in range(len(places)):
        y = _clamped(upper[k] + part * (lower[k] - upper[k]), last)
        top = np.int32(y)
        places[k], down[k] = places[k] + top * np.int32(width), y - np.float32(top)


@inner
def _clamped(position, last):
    # NaN becomes 0, because every position is loaded.
    return min(position, np.float32(last)) if position > 0 else np.float32(0)


@inner
def _load(pixels, width, places, corners):
    """The four pixels around each position."""
    a, b, c, d = corners[0], corners[1], corners[2], corners[3]
    for k in range(len(places)):
        place = np.uint64(places[k])  # unsigned: no index from the end
        a[k], b[k] = pixels[place], pixels[place + np.uint64(1)]
        below = place + np.uint64(width)
        c[k], d[k] = pixels[below], pixels[below + np.uint64(1)]


@inner
def _mix(corners, parts, shift, mixed):
    """Bilinear interpolation of one byte of the pixels, divided by 255."""
    for k in range(len(mixed)):
        upper_left, upper_right = _byte(corners[0, k], shift), _byte(corners[1, k], shift)
        lower_left, lower_right = _byte(corners[2, k], shift), _byte(corners[3, k], shift)
        above = upper_left + parts[0, k] * (upper_right - upper_left)
        under = lower_left + parts[0, k] * (lower_right - lower_left)
        mixed[k] = (above + parts[1, k] * (under - above)) * np.float32(1 / 255)


@inner
def _byte(pixel, shift):
    return np.float32(np.int32(pixel >> np.uint32(shift) & np.uint32(255)))
