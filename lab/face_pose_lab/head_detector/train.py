# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Train the head detector on composed images.

    python -m face_pose_lab.head_detector.train --out RUN --assets ASSETS --crops FOLDER \
        --chips FOLDER --turned FOLDER --scenes FOLDER

The same command goes on from RUN's newest state. The learning rate falls to nothing over --steps;
--resume FILE begins another descent from a state. The images of a step depend on the seed, the
step and the data alone. See `training_loop` for signals and several processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from face_pose_lab.head_detector.losses import LossOptions, losses
from face_pose_lab.head_detector.sources import (
    Backgrounds,
    Chips,
    Crops,
    Scenes,
    Source,
    panoramas,
)
from face_pose_lab.head_detector.targets import Targets, joined, targets_of_image
from face_pose_lab.head_detector.windows import SIDE_PX, Material, draw_window
from face_pose_lab.training.heads.assets import MissingAssetError
from face_pose_lab.training.shards import ShardError
from face_pose_lab.training_loop import Recipe, as_input, begin, train
from face_pose_ros.networks.head_detector import HeadDetectorNetwork
from face_pose_ros.pose.face_model import deformable_face

_AVERAGE_STEPS = 500
_WARM_UP = 100  # steps
_SHARES = 0.45, 0.45, 0.1  # of rendered crops, chips, turned chips among pasted heads
_POINTS = 8  # every so many-th point of the face enters the loss


@dataclass(frozen=True)
class Options:
    """Of a training; a state holds those of the run that wrote it."""

    batch: int = 16
    lr: float = 1.5e-3
    weight_decay: float = 1e-2
    seed: int = 0
    first: int = 0  # step at which the descent began
    steps: int = 10000  # of the descent


class Batch(NamedTuple):
    """Images and their targets."""

    images: Tensor  # (B, 3, 256, 256) uint8
    targets: Targets


def make_batch(material: Material, options: Options, number: int) -> Batch:
    """The images of a number, and their targets."""
    rng = np.random.default_rng((options.seed, number))
    windows = [draw_window(material, rng) for _ in range(options.batch)]
    images = torch.from_numpy(np.stack([image for image, _ in windows])).permute(0, 3, 1, 2)
    return Batch(images, joined([targets_of_image(h, SIDE_PX, SIDE_PX) for _, h in windows]))


def is_hidden(name: str) -> bool:
    """Whether a parameter maps features to features."""
    return not name.startswith(('stem.0.', 'last.'))


def learning_rate(step: int, options: Options) -> float:
    """Warm-up, then linear to nothing."""
    done = (step - options.first) / options.steps
    warm = min(1.0, (step - options.first + 1) / _WARM_UP)
    return options.lr * (warm * max(1 - done, 0.0) + 1e-3)


def recipe(material: Material, options: Options) -> Recipe[Batch]:
    """The training for `training_loop`."""
    xyz_head = torch.from_numpy(deformable_face().xyz_head[::_POINTS]).float()

    def terms(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        with torch.autocast('cpu', torch.bfloat16):
            outputs = network(as_input(batch.images))
        return losses(outputs, batch.targets, xyz_head, LossOptions())

    return Recipe(
        make_network=HeadDetectorNetwork,
        is_hidden=is_hidden,
        make_batch=partial(make_batch, material, options),
        terms=terms,
        learning_rate=lambda step: learning_rate(step, options),
        end=options.first + options.steps,
        pictures=options.batch,
        weight_decay=options.weight_decay,
        clip_norm=10.0,
        average_steps=_AVERAGE_STEPS,
        average_from=options.first,
        seed=options.seed,
        options=vars(options),
    )


def main(args: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='folder of the states')
    parser.add_argument('--assets', type=Path, required=True, help='with hdri/*.hdr')
    parser.add_argument('--crops', type=Path, nargs='+', required=True, help='rendered heads')
    parser.add_argument('--chips', type=Path, required=True, help='of `label_chips`')
    parser.add_argument('--turned', type=Path, nargs='+', help='chips of `keypoint_net.profiled`')
    parser.add_argument('--scenes', type=Path, nargs='+', help='rendered scenes')
    parser.add_argument('--resume', type=Path, help='state to branch from')
    parser.add_argument('--steps', type=int, default=Options.steps, help='of the descent')
    parser.add_argument('--lr', type=float, default=Options.lr)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=1)
    chosen = parser.parse_args(args)
    state = begin(chosen.out, chosen.resume)
    first = state['step'] if state else 0
    if state and (chosen.out / 'last.pt').is_file():
        first = state['options']['first']
    options = Options(lr=chosen.lr, seed=chosen.seed, steps=chosen.steps, first=first)
    try:
        backgrounds = Backgrounds(panoramas(chosen.assets))
        heads: list[tuple[Source, float]] = [
            (Crops(chosen.crops), _SHARES[0]),
            (Chips(chosen.chips), _SHARES[1]),
        ]
        if chosen.turned:
            heads.append((Crops(chosen.turned), _SHARES[2]))
        scenes = Scenes(chosen.scenes) if chosen.scenes else None
    except (MissingAssetError, ShardError) as error:
        parser.error(str(error))
    print(*(f'{len(s)} of {share:.0%}' for s, share in heads), len(scenes or ()), flush=True)
    material = Material(tuple(heads), scenes, backgrounds)
    train(recipe(material, options), chosen.out, state, chosen.workers)


if __name__ == '__main__':
    main()
