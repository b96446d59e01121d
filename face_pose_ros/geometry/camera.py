# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibrated cameras: pinhole with OpenCV's polynomial distortion, and equidistant fisheye.

Camera frame (REP-103 optical): x right, y down, z forward. Pixel (0, 0) is the centre of the
top-left pixel. A lens model is valid where the distorted radius grows with the angle to the
optical axis; points beyond that range are marked invalid, because two directions would share one
pixel.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike, NDArray

from face_pose_ros._core import Lens

# Numbers of coefficients, OpenCV order: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tau_x tau_y]]]],
# and k1 k2 k3 k4 of the fisheye model.
_POLYNOMIAL_COUNTS = (0, 4, 5, 8, 12, 14)
_EQUIDISTANT_COUNTS = (0, 4)
# Names of the models in drivers, simulators and calibration tools, compared in lower case by
# letters and digits only. The number of coefficients selects the polynomial, not its name.
_POLYNOMIAL_NAMES = (
    *('plumb_bob', 'rational_polynomial', 'radtan', 'brown_conrady', 'modified_brown_conrady'),
    *('thin_prism', 'rational', 'opencv', 'pinhole', 'perspective', 'standard', 'none', ''),
)
_EQUIDISTANT_NAMES = (
    *('equidistant', 'equi', 'fisheye', 'kannala_brandt', 'kannala_brandt4', 'kb4'),
    *('kannala_brandt8', 'opencv_fisheye', 'pinhole_equi'),
)
# Focal lengths and principal point differ from the image's longer side by at most this factor.
_MAX_RATIO = 1e4
_ROUNDING = 1e-6  # of measured numbers that are 0 or 1 by definition


class Projection(NamedTuple):
    """Image of points."""

    uv: NDArray[np.float64]  # (..., 2) px, finite also where invalid
    valid: NDArray[np.bool_]  # (...,): within the model's range; for a pinhole, in front of it
    J_uv_xyz: NDArray[np.float64] | None  # (..., 2, 3) px per metre; None unless requested


class Rays(NamedTuple):
    """Directions of pixels."""

    rays: NDArray[np.float64]  # (..., 3) unit, camera frame; (0, 0, 1) where invalid
    valid: NDArray[np.bool_]  # (...,): whether the lens model has a ray for this pixel


@dataclass(frozen=True, eq=False, repr=False)
class Camera:
    """Intrinsics and distortion of one camera; `from_K` checks them.

    >>> camera = Camera.from_fov(1280, 720, 70)
    >>> camera.project([0.1, 0.0, 1.0]).uv.round(2)
    array([730.9, 359.5])
    """

    K: NDArray[np.float64]  # (3, 3): [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] px, read-only
    dist: NDArray[np.float64]  # (14,) polynomial, zero-padded, or (4,) equidistant, read-only
    distortion_model: str  # 'plumb_bob', 'rational_polynomial' or 'equidistant'
    width: int  # px
    height: int  # px
    range_max: float  # end of the monotone range: |xy_norm|, or the angle [rad] (fisheye)

    def __post_init__(self) -> None:
        for name in ('K', 'dist'):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def from_K(
        cls,
        K: ArrayLike,
        width: int,
        height: int,
        dist: ArrayLike | None = (),
        distortion_model: str = 'plumb_bob',
    ) -> Camera:
        """Camera of a calibration as OpenCV and ROS write it.

        Args:
            K: (3, 3) or 9 numbers, row-major: [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] [px].
            width: Image width [px].
            height: Image height [px].
            dist: Coefficients in OpenCV's order; empty or None, as in OpenCV: no distortion.
            distortion_model: A name of OpenCV's polynomial ('plumb_bob', 'rational_polynomial',
                'radtan', ...; any of them with 0, 4, 5, 8, 12 or 14 coefficients), or of its
                fisheye model ('equidistant', 'fisheye', 'kannala_brandt', ...; 4 coefficients).

        Raises:
            ValueError: The camera is not calibrated (focal lengths of 0), a number is not finite,
                a focal length or size is not positive, K does not have the form above, the model
                is unknown, or the number of coefficients is wrong. The message names the problem.

        >>> Camera.from_K([711, 0, 497.3, 0, 693, 338.1, 0, 0, 1], 960, 720, [-0.28, 0.09, 0, 0])
        Camera(960 x 720 px, fx 711, fy 693, cx 497.3, cy 338.1, plumb_bob [-0.28, 0.09])
        """
        width, height = _checked_size(width, height)
        matrix = _checked_K(K, width, height)
        is_fisheye = _is_fisheye(distortion_model)
        counts = _EQUIDISTANT_COUNTS if is_fisheye else _POLYNOMIAL_COUNTS
        coefficients = np.asarray(() if dist is None else dist, dtype=np.float64).reshape(-1)
        if not np.isfinite(coefficients).all():
            raise ValueError(
                f'distortion coefficients must be finite, got {coefficients.tolist()}'
            )
        # Some drivers append zeros.
        while coefficients.size > max(counts) and coefficients[-1] == 0:
            coefficients = coefficients[:-1]
        if coefficients.size not in counts:
            raise ValueError(
                f"distortion_model '{distortion_model}' takes "
                f'{", ".join(map(str, counts[:-1]))} or {counts[-1]} coefficients, '
                f'got {coefficients.size}'
            )
        padded = np.zeros(max(counts))
        padded[: coefficients.size] = coefficients
        if is_fisheye:
            model, range_max = 'equidistant', _equidistant_range(padded)
        else:
            model = 'rational_polynomial' if padded[5:].any() else 'plumb_bob'
            range_max = _polynomial_range(padded)
        return cls(matrix, padded, model, width, height, range_max)

    @classmethod
    def from_fov(cls, width: int, height: int, horizontal_fov_deg: float) -> Camera:
        """Camera without distortion, with the principal point at the image centre.

        Args:
            width: Image width [px].
            height: Image height [px].
            horizontal_fov_deg: Angle [deg] between the left and the right edge of the image,
                above 0 and below 180.

        Raises:
            ValueError: If the angle or a size is out of range.

        >>> Camera.from_fov(1280, 720, horizontal_fov_deg=90)
        Camera(1280 x 720 px, fx 640, fy 640, cx 639.5, cy 359.5)
        """
        if not 0 < horizontal_fov_deg < 180:
            raise ValueError(
                f'horizontal_fov_deg must be above 0 and below 180, got {horizontal_fov_deg}'
            )
        width, height = _checked_size(width, height)
        f = 0.5 * width / math.tan(math.radians(0.5 * horizontal_fov_deg))
        K = np.array([[f, 0, 0.5 * (width - 1)], [0, f, 0.5 * (height - 1)], [0, 0, 1]])
        return cls.from_K(K, width, height)

    @classmethod
    def from_yaml(cls, path: Path | str) -> Camera:
        """Camera from a calibration file of camera_calibration, OpenCV, Kalibr and others.

        Args:
            path: The file; docs/calibration.md lists the supported formats.

        Raises:
            CalibrationError: The file can't be read, or its format is not supported.
        """
        from face_pose_ros.calibration import CalibrationError, load_calibration

        found = load_calibration(Path(path))
        try:
            return cls.from_K(found.k, found.width, found.height, found.d, found.distortion_model)
        except ValueError as error:
            raise CalibrationError(f'{path}: {error}') from error

    fx = property(lambda self: float(self.K[0, 0]), doc='Focal length along rows [px].')
    fy = property(lambda self: float(self.K[1, 1]), doc='Focal length along columns [px].')
    cx = property(lambda self: float(self.K[0, 2]), doc='Column of the principal point [px].')
    cy = property(lambda self: float(self.K[1, 2]), doc='Row of the principal point [px].')

    @cached_property
    def lens(self) -> Lens:
        """The camera as compiled code takes it."""
        is_fisheye = self.distortion_model == 'equidistant'
        plane = self.K if is_fisheye else self.K @ _tilt(*self.dist[12:])
        return Lens(
            tuple(plane.ravel().tolist()),
            tuple(np.linalg.inv(plane).ravel().tolist()),
            (*self.dist[:12].tolist(), *[0.0] * (12 - min(len(self.dist), 12))),
            float(self.range_max),
            is_fisheye,
        )

    def project(self, xyz_cam: ArrayLike, jacobian: bool = False) -> Projection:
        """Project points into the image.

        Args:
            xyz_cam: (..., 3) points in the camera frame [m].
            jacobian: Also return the derivative of uv with respect to xyz_cam.

        >>> camera = Camera.from_fov(640, 480, 90)
        >>> camera.project([[0, 0, 1], [0.5, 0, 1], [0, 0, -1]]).uv[:2].tolist()
        [[319.5, 239.5], [479.5, 239.5]]
        >>> camera.project([0, 0, -1]).valid.item()
        False
        """
        xyz, shape = _rows(xyz_cam, 3, 'xyz_cam')
        if not jacobian:
            uv, valid = self.lens.project(xyz)
            return Projection(uv.reshape(*shape, 2), valid.reshape(shape), None)
        uv, valid, J = self.lens.project_with_jacobians(xyz)
        return Projection(uv.reshape(*shape, 2), valid.reshape(shape), J.reshape(*shape, 2, 3))

    def unproject(self, uv: ArrayLike) -> Rays:
        """Ray of each pixel: the inverse of `project`.

        Args:
            uv: (..., 2) px.

        >>> Camera.from_fov(640, 480, 90).unproject([639.5, 239.5]).rays.round(4) + 0
        array([0.7071, 0.    , 0.7071])
        """
        pixels, shape = _rows(uv, 2, 'uv')
        rays, valid = self.lens.unproject(pixels)
        return Rays(rays.reshape(*shape, 3), valid.reshape(shape))

    def resize(self, width: int, height: int) -> Camera:
        """Camera of the same image resampled to width x height.

        >>> Camera.from_fov(640, 480, 90).resize(320, 240)
        Camera(320 x 240 px, fx 160, fy 160, cx 159.5, cy 119.5)
        """
        width, height = _checked_size(width, height)
        x, y = width / self.width, height / self.height
        resampled = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])
        return replace(self, K=resampled @ self.K, width=width, height=height)

    def crop(self, left: int, top: int, width: int, height: int) -> Camera:
        """Camera of the rectangle whose top-left pixel is (left, top).

        >>> Camera.from_fov(640, 480, 90).crop(100, 50, 320, 240)
        Camera(320 x 240 px, fx 320, fy 320, cx 219.5, cy 189.5)
        """
        width, height = _checked_size(width, height)
        moved = np.array([[0, 0, left], [0, 0, top], [0, 0, 0]])
        return replace(self, K=self.K - moved, width=width, height=height)

    def __eq__(self, other: object) -> bool:
        """Whether model, image size and all numbers are equal, bit for bit."""
        return isinstance(other, Camera) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        (fx, skew, cx), (_, fy, cy) = self.K[:2].tolist()
        of_skew = f', skew {skew:.6g}' if skew else ''
        count = np.flatnonzero(self.dist).max(initial=-1) + 1
        of_lens = ''
        if count or self.distortion_model == 'equidistant':
            numbers = ', '.join(f'{k:.6g}' for k in self.dist[:count])
            of_lens = f', {self.distortion_model} [{numbers}]'
        return (
            f'Camera({self.width} x {self.height} px, fx {fx:.6g}, fy {fy:.6g}, '
            f'cx {cx:.6g}, cy {cy:.6g}{of_skew}{of_lens})'
        )

    @cached_property
    def _key(self) -> tuple:
        numbers = (*self.K.ravel().tolist(), *self.dist.tolist())
        return self.distortion_model, self.width, self.height, numbers


def _rows(values: ArrayLike, size: int, name: str) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Values (..., size) as (P, size), and the shape (...)."""
    array = np.asarray(values, dtype=np.float64, order='C')
    if array.shape[-1:] != (size,):
        raise ValueError(f'{name} must have the shape (..., {size}), got {array.shape}')
    return array.reshape(-1, size), array.shape[:-1]


def _is_fisheye(distortion_model: str) -> bool:
    """Whether the name is one of the fisheye model; else it is one of the polynomial.

    Raises:
        ValueError: The name is unknown.
    """

    def plain(name: str) -> str:
        return re.sub('[^a-z0-9]', '', name.lower())

    if plain(distortion_model) in map(plain, _EQUIDISTANT_NAMES):
        return True
    if plain(distortion_model) in map(plain, _POLYNOMIAL_NAMES):
        return False
    raise ValueError(
        f"distortion_model '{distortion_model}' is not known; OpenCV's polynomial is called "
        f'{", ".join(filter(None, _POLYNOMIAL_NAMES))} or nothing, its fisheye model '
        f'{", ".join(_EQUIDISTANT_NAMES)}'
    )


def _checked_size(width: float, height: float) -> tuple[int, int]:
    """Width and height [px] as integers.

    Raises:
        ValueError: One is not positive, or not whole.
    """
    if not all(size > 0 and size % 1 == 0 for size in (width, height)):
        raise ValueError(f'the image size must be positive and whole, got {width} x {height} px')
    return int(width), int(height)


def _checked_K(K: ArrayLike, width: int, height: int) -> NDArray[np.float64]:
    """K (3, 3) in its exact form; see `Camera.from_K`."""
    matrix = np.array(K, dtype=np.float64)
    if matrix.size != 9:
        raise ValueError(f'K must have 9 numbers, got {matrix.size}')
    matrix = matrix.reshape(3, 3)
    fx, fy = matrix[0, 0], matrix[1, 1]
    if fx == 0 and fy == 0:
        raise ValueError('the camera is not calibrated: the focal lengths in K are 0')
    if not np.isfinite(matrix).all() or fx <= 0 or fy <= 0:
        raise ValueError(f'K must be finite with positive focal lengths, got {matrix.tolist()}')
    side = max(width, height)
    off = np.abs([matrix[1, 0] / fx, *matrix[2, :2] * side, matrix[2, 2] - 1])
    if off.max() > _ROUNDING:
        raise ValueError(
            f'K must be [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], got {matrix.tolist()}'
        )
    if not (min(fx, fy) > side / _MAX_RATIO and np.abs(matrix[:2]).max() < side * _MAX_RATIO):
        raise ValueError(
            f'K is no calibration of an image of {width} x {height} px: {matrix.tolist()}'
        )
    matrix[1, 0], matrix[2] = 0, (0, 0, 1)
    return matrix


def _tilt(tau_x: float, tau_y: float) -> NDArray[np.float64]:
    """Homography (3, 3) of a sensor tilted by these angles [rad] (Scheimpflug).

    OpenCV's calib3d documentation: rotation about x, then y, then the projection along z.
    """
    cos_x, sin_x = math.cos(tau_x), math.sin(tau_x)
    cos_y, sin_y = math.cos(tau_y), math.sin(tau_y)
    R = np.array([[cos_y, 0, -sin_y], [0, 1, 0], [sin_y, 0, cos_y]]) @ np.array(
        [[1, 0, 0], [0, cos_x, sin_x], [0, -sin_x, cos_x]]
    )
    along_z = np.array([[R[2, 2], 0, -R[0, 2]], [0, R[2, 2], -R[1, 2]], [0, 0, 1]])
    return along_z @ R


def _smallest_positive_root(polynomial: Polynomial) -> float:
    """Smallest positive root of a polynomial whose constant term is 1; infinity if none."""
    # With its coefficients reversed it has the reciprocal roots, and its leading term is 1.
    roots = np.roots(polynomial.coef)
    real = roots[np.abs(roots.imag) <= 1e-9 * np.abs(roots)].real
    largest = real.max(initial=0)
    return 1 / float(largest) if largest > 0 else math.inf


def _polynomial_range(dist: NDArray[np.float64]) -> float:
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


def _equidistant_range(dist: NDArray[np.float64]) -> float:
    """Largest angle [rad] up to which the distorted angle grows; at most pi."""
    k1, k2, k3, k4 = dist
    slope = Polynomial([1, 3 * k1, 5 * k2, 7 * k3, 9 * k4])
    return min(math.sqrt(_smallest_positive_root(slope)), math.pi)
