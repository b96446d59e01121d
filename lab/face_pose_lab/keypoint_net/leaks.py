# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Find labelled photographs that may be copies of images of an evaluation set.

    python -m face_pose_lab.keypoint_net.leaks FOLDER... --data AFLW2000 --out names.txt

Both sets may come from the same source. Faces are compared upright and at one size, directly and
mirrored, by two criteria: the correlation of 24 x 24 grey cells around the centre of the face
after subtraction of the mean, and a perceptual hash of 64 signs of the lowest cosine frequencies.
A photograph that meets either criterion is a match; all matches are excluded from training.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from face_pose_lab.evaluation.aflw2000_samples import load_samples
from face_pose_lab.keypoint_net.examples import photographs
from face_pose_lab.keypoint_net.label_photographs import Teachers, placed_at_box
from face_pose_lab.keypoint_net.views import Move, moved
from face_pose_ros.samples import load_image

_SIDE = 24
_CLOSE_CORRELATION = 0.93
_CLOSE_BITS = 6  # of 64


def cells(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Unit vector (576,) of grey cells of the centre of an upright crop (128, 128, 3)."""
    grey = cv2.cvtColor(crop[24:104, 24:104], cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    return (small / max(float(np.linalg.norm(small)), 1e-6)).ravel()


def bits(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N, 64) perceptual hashes of cells (N, 576)."""
    spectra = np.stack([cv2.dct(v.reshape(_SIDE, _SIDE))[:8, :8].ravel() for v in vectors])
    return spectra > np.median(spectra, 1, keepdims=True)


def closest(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[NDArray, NDArray]:
    """Largest correlation and smallest number of different bits of each row of a with any of b."""
    correlation, different = [], []
    hashes = bits(b).astype(np.float32) * 2 - 1
    for part in np.array_split(a, max(1, len(a) // 2000)):
        correlation.append((part @ b.T).max(1))
        agreeing = (bits(part).astype(np.float32) * 2 - 1) @ hashes.T
        different.append((64 - agreeing.max(1)) / 2)
    return np.concatenate(correlation), np.concatenate(different)


def is_close(correlation: NDArray, different: NDArray) -> NDArray[np.bool_]:
    """Whether these results of `closest` may be the same photograph."""
    return (correlation > _CLOSE_CORRELATION) | (different <= _CLOSE_BITS)


def main(args: Sequence[str] | None = None) -> None:
    """Write the names, and print how many there are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', type=Path, nargs='+', help='labelled photographs')
    parser.add_argument('--data', type=Path, required=True, help='folder of AFLW2000-3D')
    parser.add_argument('--out', type=Path, required=True, help='file of the names')
    parser.add_argument('--sheet', type=Path, help='image of the closest pairs to write')
    options = parser.parse_args(args)

    evaluated = []
    teachers = Teachers()
    for sample in load_samples(options.data):
        found = teachers.label(
            placed_at_box(sample.name, load_image(sample.path), sample.box_xyxy)
        )
        if found is None:
            continue
        picture, said = found
        uv = said['mesh_uv'] if np.isfinite(said['mesh_uv']).all() else said['head_uv']
        evaluated.append(moved(picture, uv, np.eye(3), 1.0, Move())[0])
    theirs = np.stack([cells(crop) for crop in evaluated])
    theirs = np.concatenate([theirs, np.stack([cells(c[:, ::-1]) for c in evaluated])])

    source = photographs(options.folders)
    ours = np.stack(
        [
            cells(moved(source.picture(i), source.labels.uv[i], np.eye(3), 1.0, Move())[0])
            for i in range(len(source))
        ]
    )
    correlation, different = closest(ours, theirs)
    match = is_close(correlation, different)
    options.out.write_text('\n'.join(source.names[match]) + '\n')
    print(f'{match.sum()} of {len(ours)} photographs are close to one of {len(evaluated)}')
    if options.sheet:
        nearest = (ours @ theirs.T).argmax(1) % len(evaluated)
        order = np.argsort(-correlation)[:40]
        pairs = [
            np.concatenate(
                [
                    moved(source.picture(i), source.labels.uv[i], np.eye(3), 1.0, Move())[0],
                    evaluated[nearest[i]],
                ]
            )
            for i in order
        ]
        rows = [np.concatenate(pairs[i : i + 10], 1) for i in range(0, len(pairs), 10)]
        cv2.imwrite(str(options.sheet), np.concatenate(rows)[..., ::-1])


if __name__ == '__main__':
    torch.set_num_threads(1)
    main()
