# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Package a trained head detector: weights, calibration, graph, and their sums.

    python -m face_pose_lab.head_detector.export STATE --calibration calibration.npz \
        --scenes FOLDER

writes face_pose_ros/weights/head_detector.safetensors (float16, vectors float32; batch
normalisation folded in), .xml and _int8.xml, and puts their sums into
face_pose_ros/weights/__init__.py and the card. Rendered scenes of the training give the ranges of
the 8-bit graph.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from face_pose_lab.head_detector.load import trained_network
from face_pose_lab.head_detector.sources import Scenes
from face_pose_lab.package_networks import package, packaged_weights
from face_pose_lab.quantise_networks import package_quantised
from face_pose_ros.faces.head_detector import network_input
from face_pose_ros.faces.head_uncertainty import HeadUncertainty
from face_pose_ros.faces.resize import resize

NAME = 'head_detector'
_PICTURES, _WIDTH, _HEIGHT = 150, 512, 288  # for the ranges


def pictures_for_ranges(scenes: Scenes) -> list[NDArray[np.float32]]:
    """Random scenes as the network gets them."""
    chosen = np.random.default_rng(0).choice(len(scenes), _PICTURES, replace=False)
    return [
        network_input(resize(np.ascontiguousarray(scenes.picture(int(i))[0]), _HEIGHT, _WIDTH))
        for i in chosen
    ]


def main(args: Sequence[str] | None = None) -> None:
    """Package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training')
    parser.add_argument('--calibration', type=Path, required=True, help='.npz of `calibrate`')
    parser.add_argument('--scenes', type=Path, nargs='+', required=True, help='rendered')
    options = parser.parse_args(args)
    with np.load(options.calibration) as calibration:
        fields = {
            name: torch.from_numpy(calibration[name]).float() for name in HeadUncertainty._fields
        }
    package(NAME, packaged_weights(trained_network(options.state)) | fields)
    package_quantised(NAME, pictures_for_ranges(Scenes(options.scenes)))


if __name__ == '__main__':
    main()
