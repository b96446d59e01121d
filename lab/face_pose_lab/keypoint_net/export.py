# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Package a trained keypoint network: weights, calibration, graph and checksums.

    python -m face_pose_lab.keypoint_net.export STATE --calibration calibration.npz

writes face_pose_ros/weights/keypoint_network.safetensors (float16, vectors float32, batch
normalisation folded in) and .xml; writes their checksums to face_pose_ros/weights/__init__.py and
the card, and the calibration's independent keypoints to face_pose_ros/options.py. STATE is a file
of `train`, or a .safetensors file of an earlier export.

    python -m face_pose_lab.keypoint_net.export STATE --judge FOLDER ...

also prints the change of keypoints between float32 and bfloat16 for the crops of these folders.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from face_pose_lab.keypoint_net.decode import decode
from face_pose_lab.keypoint_net.examples import Examples, rendered
from face_pose_lab.keypoint_net.predict import load_network
from face_pose_lab.keypoint_net.train import plain_batches
from face_pose_lab.package_networks import package, packaged_weights
from face_pose_lab.training_loop import as_input
from face_pose_ros import options as runtime_options
from face_pose_ros.engines.openvino import OpenVinoNetwork

NAME = 'keypoint_network'


def tensors_of(state: Path, calibration: NDArray[np.floating]) -> dict[str, Tensor]:
    """The packaged tensors: rounded weights and calibration."""
    if state.suffix == '.safetensors':
        tensors = {k: v for k, v in load_file(state).items() if k != 'calibration'}
    else:
        tensors = packaged_weights(load_network(state))
    return tensors | {'calibration': torch.from_numpy(calibration).float()}


def set_independent_keypoints(count: float) -> None:
    """Write the default of `PoseOptions.independent_keypoints`, which belongs to the weights."""
    source = Path(runtime_options.__file__)
    text, found = re.subn(
        r'(independent_keypoints: float = )[\d.]+', rf'\g<1>{count:.2f}', source.read_text()
    )
    assert found == 1
    source.write_text(text)


def crops_of(examples: Examples) -> NDArray[np.float32]:
    """(N, 3, 128, 128), centred like crops of tracked faces."""
    batches = plain_batches(examples, is_photograph=False)
    return np.concatenate([as_input(batch.pictures).numpy() for batch in batches])


def moved_px(weights: Path, crops: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) mean change of the keypoints of each crop by bfloat16."""
    exact, rounded = (
        decode(torch.from_numpy(OpenVinoNetwork(NAME, 1, weights, precision)(crops)[0])).uv
        for precision in ('f32', 'bf16')
    )
    return (rounded - exact).norm(dim=-1).mean(1).numpy()


def main(args: Sequence[str] | None = None) -> None:
    """Package, and compare precisions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training, or .safetensors')
    parser.add_argument('--calibration', type=Path, required=True, help='.npz of `calibrate`')
    parser.add_argument('--judge', type=Path, nargs='*', default=(), help='rendered crops')
    options = parser.parse_args(args)
    tensors = tensors_of(options.state, np.load(options.calibration)['calibration'])
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch, f'{NAME}.safetensors')
        weights.write_bytes(save(tensors))
        for folder in options.judge:
            off = moved_px(weights, crops_of(rendered([folder])))
            print(
                f'{folder}: bfloat16 moves keypoints by {off.mean():.3f} px of {len(off)} crops '
                f'on average, by {off.max():.3f} px in the worst one'
            )
    package(NAME, tensors)
    set_independent_keypoints(float(tensors['calibration'][-1]))


if __name__ == '__main__':
    main()
