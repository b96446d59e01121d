# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Package a trained head detector: weights, calibration, graph, and their sums.

    python -m face_pose_lab.head_detector.export STATE --calibration calibration.npz

writes face_pose_ros/weights/head_detector.safetensors (float16, vectors float32; batch
normalisation folded in) and .xml, and puts their sums into face_pose_ros/weights/__init__.py and
the card.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from face_pose_lab.head_detector.load import trained_network
from face_pose_lab.package_networks import package, packaged_weights
from face_pose_ros.faces.head_uncertainty import HeadUncertainty

NAME = 'head_detector'


def main(args: Sequence[str] | None = None) -> None:
    """Package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training')
    parser.add_argument('--calibration', type=Path, required=True, help='.npz of `calibrate`')
    options = parser.parse_args(args)
    with np.load(options.calibration) as calibration:
        fields = {
            name: torch.from_numpy(calibration[name]).float() for name in HeadUncertainty._fields
        }
    package(NAME, packaged_weights(trained_network(options.state)) | fields)


if __name__ == '__main__':
    main()
