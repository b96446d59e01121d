# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""A sheet of rendered heads, each with the mean face at its estimated pose below.

    python -m face_pose_lab.evaluation.rendered_heads --facekit ict_facekit.npz --heads 12 \
        --pictures PICTURES --export heads.npz
    python -m face_pose_lab.evaluation.rendered_sheet heads.npz --pictures PICTURES --out sheet.jpg

It shows the first heads of the set, whether found or not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.evaluation.rendered_heads import MIN_PRESENCE, RenderedHeads
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import FaceModel, deformable_face, semantic_head
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.ros.drawing.draw import draw_head

_CELL_PX = 240
_ACROSS_M = 0.42  # shown of the head's surroundings
_COLUMNS, _MOST = 6, 12
_OUTSIDE_BGR = (96, 96, 96)


def draw_sheet(heads: RenderedHeads, pictures: Path, model: FaceModel, path: Path) -> None:
    """Draw the first heads of a set, whether they were found or not.

    Args:
        heads: With the network's keypoints.
        pictures: Folder of their pictures, as `rendered_heads.export` writes them.
        model: Its mean face is drawn.
        path: File to write.

    Raises:
        DataError: A picture is missing, or the sheet can't be written.
    """
    cells = [_cells(heads, i, pictures, model) for i in range(min(len(heads), _MOST))]
    nothing = [np.full_like(cells[0][0], _OUTSIDE_BGR)] * 2
    cells += [nothing] * (-len(cells) % _COLUMNS)
    rows = [
        np.hstack([cell[row] for cell in cells[first : first + _COLUMNS]])
        for first in range(0, len(cells), _COLUMNS)
        for row in range(2)
    ]
    if not cv2.imwrite(str(path), np.vstack(rows)):
        raise DataError(f'{path}: cannot be written; its folder must exist')


def _cells(
    heads: RenderedHeads, index: int, pictures: Path, model: FaceModel
) -> list[NDArray[np.uint8]]:
    """One head as rendered, and with its estimated pose, if any."""
    path = pictures / f'{index:05d}.png'
    loaded = cv2.imread(str(path))
    if loaded is None:
        raise DataError(f'{path}: no such picture; rendered_heads --pictures writes it')
    picture = loaded.astype(np.uint8)
    camera, keypoints = heads.head(index).camera.runtime(), heads.head_keypoints(index)
    drawn = picture.copy()
    poses = fit_pose(keypoints, semantic_head(), camera).poses
    if keypoints.presence[0] >= MIN_PRESENCE and not poses.failed[0]:
        draw_head(drawn, poses.T_cam_head[0], camera, model)
    T = heads.T_cam_head[index]
    return [_around(T, camera, each) for each in (picture, drawn)]


def _around(
    T_cam_head: NDArray[np.float64], camera: Camera, picture_bgr: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """A square of _CELL_PX about the origin of a head."""
    distance = float(np.linalg.norm(T_cam_head[:3, 3]))
    scale = _CELL_PX * distance / (_ACROSS_M * camera.fx)
    uv = camera.project(T_cam_head[:3, 3]).uv
    A = np.hstack([scale * np.eye(2), (0.5 * (_CELL_PX - 1) - scale * uv)[:, None]])
    return np.asarray(
        cv2.warpAffine(
            picture_bgr, A, (_CELL_PX, _CELL_PX), flags=cv2.INTER_LINEAR, borderValue=_OUTSIDE_BGR
        )
    )


def main(args: Sequence[str] | None = None) -> None:
    """Draw the sheet of a file of heads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('heads', type=Path, help='as rendered_heads --export writes it')
    parser.add_argument('--pictures', type=Path, required=True, help='folder of their pictures')
    parser.add_argument('--out', type=Path, required=True, help='picture to write')
    options = parser.parse_args(args)
    try:
        heads = RenderedHeads.load(options.heads)
        draw_sheet(heads, options.pictures, deformable_face(), options.out)
    except DataError as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
