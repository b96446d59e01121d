"""Ids that stay with a person from image to image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from face_pose_ros.estimator import FacePose


@dataclass(frozen=True)
class TrackerOptions:
    """Options of `Tracker`."""

    max_jump: float = 1.0  # between images, of the face's box diagonal; a larger one is a new face
    lost_after_s: float = 1.0  # a face not seen for so long is forgotten

    def __post_init__(self) -> None:
        for name in ('max_jump', 'lost_after_s'):
            if getattr(self, name) <= 0:
                raise ValueError(f'{name} must be positive, got {getattr(self, name)}')


@dataclass
class _Track:
    id: str
    box_xyxy: NDArray[np.float64]  # (4,) px
    keypoints_uv: NDArray[np.float64]  # (K, 2) px
    seen_s: float


class Tracker:
    """Globally optimal assignment of faces to tracks by the way their boxes would have moved."""

    def __init__(self, options: TrackerOptions) -> None:
        self.options = options
        self._tracks: list[_Track] = []
        self._count = 0
        self._stamp_s = -np.inf

    @property
    def ids(self) -> list[str]:
        """Ids of all faces not yet forgotten, seen in the last image or not."""
        return [track.id for track in self._tracks]

    def recent_keypoints_uv(self, max_age_s: float) -> NDArray[np.float64]:
        """(N, 478, 2) px, where the faces were that were seen at most max_age_s [s] ago."""
        oldest_s = self._stamp_s - max_age_s
        recent = [track.keypoints_uv for track in self._tracks if track.seen_s >= oldest_s]
        return np.array(recent).reshape(-1, 478, 2)

    def advance(self, stamp_s: float) -> None:
        """Forget what is lost by now [s]; a stamp before the last one is a restart."""
        if stamp_s < self._stamp_s:
            self._tracks.clear()
        self._stamp_s = stamp_s
        oldest_s = stamp_s - self.options.lost_after_s
        self._tracks = [track for track in self._tracks if track.seen_s >= oldest_s]

    def update(self, faces: list[FacePose], stamp_s: float) -> list[FacePose]:
        """The same faces, in the same order, with their ids.

        Args:
            faces: Faces of one image.
            stamp_s: When it was taken [s].
        """
        self.advance(stamp_s)
        boxes = np.array([face.box_xyxy for face in faces]).reshape(-1, 4)
        known = np.array([track.box_xyxy for track in self._tracks]).reshape(-1, 4)
        jump = _relative_jump(boxes, known)
        # Beyond the gate every jump is equally impossible: the sum must not trade on them.
        rows, columns = linear_sum_assignment(np.minimum(jump, 10 * self.options.max_jump))
        match = {
            r: c for r, c in zip(rows, columns, strict=True) if jump[r, c] <= self.options.max_jump
        }

        named = []
        for row, face in enumerate(faces):
            track = self._tracks[match[row]] if row in match else self._start()
            track.box_xyxy, track.keypoints_uv = face.box_xyxy, face.keypoints_uv
            track.seen_s = stamp_s
            named.append(replace(face, id=track.id))
        return named

    def _start(self) -> _Track:
        self._count += 1
        track = _Track(f'f{self._count:05d}', np.empty(4), np.empty((0, 2)), -np.inf)
        self._tracks.append(track)
        return track


def _relative_jump(boxes: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) distance of centres plus change of size, over the mean diagonal of the boxes."""
    centre = 0.5 * (boxes[:, :2] + boxes[:, 2:])[:, None]
    centre_known = 0.5 * (known[:, :2] + known[:, 2:])[None]
    diagonal = np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=-1)[:, None]
    diagonal_known = np.linalg.norm(known[:, 2:] - known[:, :2], axis=-1)[None]
    moved = np.linalg.norm(centre - centre_known, axis=-1)
    grown = np.abs(diagonal - diagonal_known)
    return np.hypot(moved, grown) / (0.5 * (diagonal + diagonal_known)).clip(1e-9)
