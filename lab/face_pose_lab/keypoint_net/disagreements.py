# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A sheet of photographs for which image and mirror image give the most different keypoints.

    python -m face_pose_lab.keypoint_net.disagreements STATE --photographs FOLDER --out OUT.png

No label is needed to find them. Red: keypoints of the picture; green: keypoints of its mirror
image, mirrored back; white: the label.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.keypoint_net.decode import decode, unmirrored
from face_pose_lab.keypoint_net.examples import photographs
from face_pose_lab.keypoint_net.predict import load_network
from face_pose_lab.keypoint_net.train import plain_batches
from face_pose_lab.training_loop import as_input
from face_pose_ros.keypoints import semantic
from face_pose_ros.networks.keypoint_network import KeypointNetwork

_MIRROR = torch.from_numpy(semantic.MIRROR)
_RED, _GREEN, _WHITE = (60, 60, 255), (60, 255, 60), (255, 255, 255)  # BGR
_SCALE = 2  # px of the sheet per px of a crop
_COLUMNS = 10


@torch.no_grad()
def keypoints_of_both(
    network: KeypointNetwork, pictures: torch.Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keypoints (N, K, 2) px of crops (N, 3, 128, 128) uint8, directly and by mirror images."""
    crops = as_input(pictures)
    mirrored = unmirrored(network(crops.flip(-1)), _MIRROR)
    return decode(network(crops)).uv.numpy(), decode(mirrored).uv.numpy()


def drawn(picture: NDArray[np.uint8], *layers: tuple[tuple[int, ...], NDArray]) -> NDArray:
    """A crop (128, 128, 3) RGB with keypoints (K, 2) px of each layer in its colour, as BGR."""
    size = (_SCALE * picture.shape[1], _SCALE * picture.shape[0])
    sheet = cv2.resize(picture[..., ::-1], size, interpolation=cv2.INTER_LINEAR)
    for colour, uv in layers:
        for u, v in _SCALE * (uv[semantic.IS_FACE] + 0.5) - 0.5:
            cv2.circle(sheet, (round(float(u)), round(float(v))), 1, colour, -1, cv2.LINE_AA)
    return sheet


def main(args: Sequence[str] | None = None) -> None:
    """Write the sheet, and print the distances between both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training')
    parser.add_argument('--photographs', type=Path, nargs='+', required=True)
    parser.add_argument('--out', type=Path, required=True, help='picture to write')
    parser.add_argument('--count', type=int, default=50)
    options = parser.parse_args(args)
    network = load_network(options.state)
    found: list[tuple[float, NDArray]] = []
    for batch in plain_batches(photographs(options.photographs), True):
        own, other = keypoints_of_both(network, batch.pictures)
        apart = np.linalg.norm(own - other, axis=-1)[:, semantic.IS_FACE].mean(1)
        for i in np.argsort(-apart)[: options.count]:
            picture = batch.pictures[i].permute(1, 2, 0).numpy()
            layers = (_WHITE, batch.uv[i].numpy()), (_RED, own[i]), (_GREEN, other[i])
            found.append((float(apart[i]), drawn(picture, *layers)))
        found = sorted(found, key=lambda each: -each[0])[: options.count]
    cells = [cell for _, cell in found]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % _COLUMNS)
    rows = [np.hstack(cells[i : i + _COLUMNS]) for i in range(0, len(cells), _COLUMNS)]
    if not cv2.imwrite(str(options.out), np.vstack(rows)):
        raise DataError(f'{options.out}: cannot be written; its folder must exist')
    px = [apart for apart, _ in found]
    print(f'the {len(px)} worst: {px[0]:.1f} to {px[-1]:.1f} px of 128 apart')


if __name__ == '__main__':
    main()
