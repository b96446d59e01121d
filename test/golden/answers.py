# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Results of an estimator for the golden frames, and the file that keeps them.

    PYTHONPATH=test:$PYTHONPATH python test/golden/answers.py test/golden/frames.npz

writes the file anew: only when answers are meant to change, and the change is named.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import FacePoseEstimator
from face_pose_ros.engines.networks import Networks, load_networks
from golden.frames import LENSES, frames

FILE = Path(__file__).with_name('frames.npz')
_UPPER = np.triu_indices(6)


class Answers(NamedTuple):
    """F frames and the M faces seen in them, in the estimator's order."""

    checksum: NDArray[np.uint32]  # (F,) CRC-32 of each picture
    frame: NDArray[np.int64]  # (M,) index of the face's frame
    scene: NDArray[np.str_]  # (F,)
    id: NDArray[np.str_]  # (M,) empty in `estimate`
    T_cam_head: NDArray[np.float64]  # (M, 3, 4) m
    covariance: NDArray[np.float64]  # (M, 21) upper triangle
    shape: NDArray[np.float64]  # (M, C)
    probe_uv: NDArray[np.float64]  # (478, 2) px, keypoints of the first face

    @classmethod
    def load(cls) -> Answers:
        """Those of the repository."""
        with np.load(FILE) as file:
            return cls(**file)

    def in_order(self) -> Answers:
        """The faces of each frame by id, then from left to right: scores may be nearly equal."""
        order = np.lexsort((self.T_cam_head[:, 0, 3], self.id, self.frame))
        rows = {
            name: getattr(self, name)[order]
            for name in ('frame', 'id', 'T_cam_head', 'covariance', 'shape')
        }
        return self._replace(**rows)

    def save(self, path: str | Path) -> None:
        """Write them."""
        np.savez_compressed(path, **self._asdict())


def answers_of_this_build(networks: Networks | None = None) -> Answers:
    """Every frame shown to a new estimator for every scene.

    Args:
        networks: Of the estimators; None: in float32, which every CPU has.
    """
    networks = networks or load_networks('cpu', precision='f32')
    checksums, scenes, rows = [], [], []
    estimators: dict[str, FacePoseEstimator] = {}
    cameras = {name: lens.camera() for name, lens in LENSES.items()}
    for index, frame in enumerate(frames()):
        checksums.append(zlib.crc32(frame.image.tobytes()))
        scenes.append(frame.scene)
        if frame.scene not in estimators:
            estimators.clear()
            estimators[frame.scene] = FacePoseEstimator(networks=networks)
        estimator, camera = estimators[frame.scene], cameras[frame.lens]
        if frame.stamp_s is not None:
            faces = estimator.track(frame.image.copy(), camera, frame.stamp_s)
        else:
            boxes = None if frame.box_xyxy is None else [frame.box_xyxy]
            faces = estimator.estimate(frame.image, camera, boxes)
        rows += [(index, face) for face in faces]
    return Answers(
        checksum=np.array(checksums, np.uint32),
        frame=np.array([index for index, _ in rows]),
        scene=np.array(scenes),
        id=np.array([face.id for _, face in rows]),
        T_cam_head=np.array([face.T_cam_head[:3] for _, face in rows]),
        covariance=np.array([face.covariance[_UPPER] for _, face in rows]),
        shape=np.array([face.shape for _, face in rows]),
        probe_uv=rows[0][1].keypoints_uv,
    )


if __name__ == '__main__':
    answers_of_this_build().save(sys.argv[1])
