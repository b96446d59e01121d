# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Results of the stages as numpy arrays: image -> Faces -> Keypoints -> HeadPoses -> FacePose.

N is the number of faces (may be 0), K the number of keypoints, C the number of shape
coefficients. Pixel (0, 0) is the centre of the top-left pixel. Dataclasses that are made for every
image are not frozen, which takes several times as long.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from face_pose_ros import _core

Array = NDArray[np.float64]
Index = NDArray[np.intp] | NDArray[np.bool_]
Rows = TypeVar('Rows', bound='_Rows')


class _Rows:
    """Base of dataclasses whose fields have one row per face."""

    def __getitem__(self: Rows, index: Index) -> Rows:
        """The faces selected by a (M,) index or (N,) mask."""
        return type(self)(*(_of(getattr(self, f.name), index) for f in fields(self)))  # type: ignore[arg-type]

    def join(self: Rows, other: Rows) -> Rows:
        """The faces of both."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return type(self)(*(_joined(a, b) for a, b in pairs))

    def replaced(self: Rows, index: Index, other: Rows) -> Rows:
        """A copy with the faces of a (M,) index replaced by M others."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return type(self)(*(_replaced(a, index, b) for a, b in pairs))


def _of(value: Any, index: Index) -> Any:
    return None if value is None else value[index]


def _joined(a: Any, b: Any) -> Any:
    if isinstance(a, _Rows):
        return a.join(b)
    if a is None:
        return None
    return np.concatenate([a, b])


def _replaced(a: Any, index: Index, b: Any) -> Any:
    if isinstance(a, _Rows):
        return a.replaced(index, b)
    value = np.array(a)
    value[index] = b
    return value


@dataclass(frozen=True, eq=False)
class CoarsePoses(_Rows):
    """Poses of N faces, estimated by a detector."""

    T_cam_head: Array  # (N, 4, 4) camera optical frame, m
    covariance: Array  # (N, 6, 6) as in `HeadPoses`


@dataclass(frozen=True, eq=False)
class Faces(_Rows):
    """Detected faces of one image, in order of decreasing score."""

    boxes_xyxy: NDArray[np.float32]  # (N, 4) px, full image
    scores: NDArray[np.float32]  # (N,) in [0, 1]
    coarse: CoarsePoses | None = None  # of the detector; None: the boxes were given

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of_boxes(cls, boxes_xyxy: ArrayLike) -> Faces:
        """Upright faces whose boxes (N, 4) px are given.

        Raises:
            ValueError: The shape is another one, a box is not finite, or its area is not positive.
        """
        boxes = np.asarray(boxes_xyxy, dtype=np.float32)
        if boxes.shape in ((0,), (4,)):
            boxes = boxes.reshape(-1, 4)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f'boxes_xyxy must have the shape (N, 4), got {boxes.shape}')
        if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
            raise ValueError('boxes_xyxy must be finite with x_min < x_max and y_min < y_max')
        return cls(boxes, np.ones(len(boxes), np.float32))


@dataclass(eq=False)
class Keypoints(_Rows):
    """Measured 2-D keypoints of N faces in the full image."""

    uv: Array  # (N, K, 2) px
    cov_uv: Array  # (N, K, 2, 2) px^2; infinite diagonal: not measured
    presence: Array  # (N,) in [0, 1], probability that the crop shows a face

    def __len__(self) -> int:
        return len(self.presence)

    @classmethod
    def unmeasured(cls, count: int, points: int) -> Keypoints:
        """Presence 0 and infinite covariances for `count` faces of `points` keypoints."""
        cov_uv = np.zeros((count, points, 2, 2))
        cov_uv[..., 0, 0] = cov_uv[..., 1, 1] = np.inf
        return cls(np.zeros((count, points, 2)), cov_uv, np.zeros(count))

    @property
    def sigma_px(self) -> Array:
        """(N, K) px, root mean square of the standard deviations of the two coordinates."""
        return np.sqrt(0.5 * (self.cov_uv[..., 0, 0] + self.cov_uv[..., 1, 1]))


@dataclass(eq=False)
class HeadPoses(_Rows):
    """6-DoF poses of N heads in the camera's optical frame."""

    T_cam_head: Array  # (N, 4, 4) m
    # (N, 6, 6): x, y, z [m], rotation about the camera's x, y, z [rad]; shape marginalised:
    # covariance = covariance_given_shape + pose_of_shape @ shape_covariance @ pose_of_shape.T
    covariance: Array
    covariance_given_shape: Array  # (N, 6, 6), conditional on the estimated shape
    pose_of_shape: Array  # (N, 6, C), derivative of the optimal pose by the shape coefficients
    shape: Array  # (N, C) coefficients of the face model's modes, in prior standard deviations
    shape_covariance: Array  # (N, C, C)
    failed: NDArray[np.bool_]  # (N,), the fit found no pose
    depth: Array  # (N, 4) see `DepthEvidence`; zeros without a depth image

    def __len__(self) -> int:
        return len(self.failed)


class Shape(NamedTuple):
    """Normal distribution of the shape coefficients of a face."""

    mean: Array  # (C,) prior standard deviations
    covariance: Array  # (C, C) positive definite


class DepthEvidence(NamedTuple):
    """Use of the depth image in the fit of one face."""

    visible: int  # surface points of the face that are in the depth camera's view
    measured: int  # those of them that have a depth
    agreeing: int  # those of them that fit one face size; 0: the depth was not used
    size_ratio: float  # that size divided by the size expected without the depth
    size_coefficient: float = 0.0  # that size as a coefficient, as in `FacePose.shape`


class Fit(NamedTuple):
    """Dependence of the pose on the shape in the fit to one image; input of the tracker."""

    covariance_given_shape: Array  # (6, 6)
    pose_of_shape: Array  # (6, C)
    shape_prior_of: str  # id of the track whose shape was the prior; empty: the population prior


@dataclass(frozen=True, eq=False, repr=False)
class FacePose:
    """The estimate of one face. Its arrays are copies; the caller may change them.

    Head frame (REP-155): origin at the sellion, x out of the face, y to the person's left, z up.
    """

    T_cam_head: Array  # (4, 4), camera optical frame, m
    covariance: Array  # (6, 6): x, y, z [m], rotation about the camera's x, y, z [rad]
    # (478, 2) px, in Face Mesh's order: projected fitted face, or mean face without a fit
    keypoints_uv: Array
    # (478,), of the nearest measured keypoint; infinite without a fit
    keypoints_sigma_px: Array
    box_xyxy: Array  # (4,) px, bounds of the keypoints
    score: float  # in [0, 1], probability that this is a face
    shape: Array  # (C,) coefficients of the face model, in prior standard deviations
    shape_covariance: Array  # (C, C)
    fit: Fit
    id: str = ''  # of the track; empty in `estimate`
    number: int = 0  # of the track, from 1; 0 in `estimate`
    depth: DepthEvidence | None = None  # None without a depth image

    @property
    def position(self) -> Array:
        """(3,) m, the sellion in the camera's optical frame."""
        return self.T_cam_head[:3, 3].copy()

    @property
    def forward(self) -> Array:
        """(3,) unit vector out of the face, in the camera's optical frame."""
        return self.T_cam_head[:3, 0].copy()

    @property
    def distance(self) -> float:
        """Distance from the camera to the sellion [m]."""
        return float(np.linalg.norm(self.T_cam_head[:3, 3]))

    @property
    def sigma(self) -> Array:
        """(6,) standard deviations: x, y, z [m], rotation about the camera's x, y, z [rad]."""
        return np.sqrt(np.diagonal(self.covariance))

    def __repr__(self) -> str:
        def numbers(values: Array, digits: int) -> str:
            return ', '.join(f'{value:.{digits}f}' for value in values)

        return (
            f'FacePose(id={self.id!r}, position=({numbers(self.position, 2)}) m, '
            f'sigma=({numbers(1e3 * self.sigma[:3], 0)}) mm, '
            f'forward=({numbers(self.forward, 2)}), score={self.score:.2f})'
        )


def bounds_xyxy(uv: Array) -> Array:
    """Bounding boxes (N, 4) px of keypoints (N, K, 2) px, K >= 1."""
    return _core.bounds(uv, uv.shape[1])
