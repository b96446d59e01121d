# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the keypoint network on rendered heads and photographs in equal parts.

    python -m face_pose_lab.keypoint_net.train --out RUN --rendered FOLDER --photographs FOLDER

The same command resumes from RUN's newest state. The learning rate is constant; with --decay STEPS
it decreases to zero over so many steps, after which the weights are ready for use. --resume FILE
branches off from any state. The batch of a step depends only on the seed, the step and the data.
See `training_loop` for signals and several processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from face_pose_lab.keypoint_net.decode import decode
from face_pose_lab.keypoint_net.examples import Examples, photographs, rendered
from face_pose_lab.keypoint_net.losses import Batch, LossOptions, distances, losses
from face_pose_lab.keypoint_net.views import (
    Move,
    around_false_head,
    as_chip,
    augmented,
    moved,
    random_move,
    without_face,
)
from face_pose_lab.torch_geometry import so3
from face_pose_lab.training.shards import open_shards
from face_pose_lab.training_loop import Recipe, as_input, begin, train
from face_pose_ros.keypoints.network_output import INPUT_PX, KEYPOINTS
from face_pose_ros.networks.keypoint_network import KeypointNetwork

_CHIPS = {False: 0.3, True: 0.1}  # share of crops cut like chips: rendered, photographs
_TURNED_SHARE = 0.125  # share of `profiled` photographs in a batch
_WARM_UP = 300  # steps
FALSE_HELD_OUT = 500  # pictures of `false_heads`, for the calibration
_AVERAGE_STEPS = 700


@dataclass(frozen=True)
class Options:
    """Options of a training; saved in its states."""

    batch: int = 64  # heads, half of them photographs
    empty: int = 6  # additional crops beside faces, and as many of `false_heads`
    lr: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 0
    decay: int = 0  # steps over which the learning rate decreases to zero; 0: constant
    decay_from: int = 0
    stop_at: int = 1 << 40


def is_hidden(name: str) -> bool:
    """Whether a parameter maps features to features."""
    return not name.startswith(('stages.0.', 'last.'))


class Source(NamedTuple):
    """A source of heads."""

    examples: Examples
    is_photograph: bool
    share: float  # of a batch's heads


def sources_of(drawn: Examples, real: Examples, turned: Examples | None) -> list[Source]:
    """Half of the heads rendered, half from photographs, a part of these rotated."""
    if turned is None:
        return [Source(drawn, False, 0.5), Source(real, True, 0.5)]
    return [
        Source(drawn, False, 0.5),
        Source(real, True, 0.5 - _TURNED_SHARE),
        Source(turned, True, _TURNED_SHARE),
    ]


def make_batch(
    sources: Sequence[Source], false_heads: NDArray[np.uint8], options: Options, step: int
) -> Batch:
    """The batch of a step: heads of each source in order, then crops without a face.

    Args:
        sources: Of heads.
        false_heads: (N, S, S, 3) pictures of `false_heads`; N may be 0.
        options: Of the training.
        step: Number of the batch.
    """
    rng = np.random.default_rng((options.seed, step))
    heads: list[tuple[Any, ...]] = []
    other: NDArray[np.uint8] | None = None
    for source, is_photograph, share in sources:
        labels = source.labels
        for index in rng.integers(0, len(source), round(share * options.batch)):
            crop, uv, R = moved(
                source.picture(index),
                labels.uv[index],
                labels.R_crop_head[index],
                labels.focal_px[index],
                random_move(rng),
            )
            if rng.random() < _CHIPS[is_photograph]:
                crop = as_chip(crop, uv, rng)
            shown = augmented(crop, crop[::-1] if other is None else other, rng)
            other = crop
            heads.append((shown, uv, labels.weight[index], R, is_photograph, True))
    for _ in range(options.empty):
        source = sources[rng.integers(len(sources))].examples
        index = int(rng.integers(len(source)))
        crops = [without_face(source.picture(index), source.labels.uv[index], rng)]
        if len(false_heads):
            crops.append(around_false_head(false_heads[rng.integers(len(false_heads))], rng))
        for crop in crops:
            shown = augmented(crop, crop[::-1], rng)
            nothing = np.zeros((KEYPOINTS, 2)), np.zeros(KEYPOINTS), np.eye(3)
            heads.append((shown, *nothing, False, False))
    return collated(heads)


def collated(heads: Sequence[tuple[Any, ...]]) -> Batch:
    """One batch from the fields of each head."""
    pictures, uv, weight, R, is_photograph, present = zip(*heads, strict=True)
    return Batch(
        torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2),
        torch.from_numpy(np.stack(uv)).float(),
        torch.from_numpy(np.stack(weight)).float(),
        torch.from_numpy(np.stack(R)).float(),
        torch.tensor(is_photograph),
        torch.tensor(present),
    )


def plain_batches(source: Examples, is_photograph: bool, size: int = 64) -> Iterator[Batch]:
    """All examples of a source, in crops centred like those of tracked faces; for validation."""
    for first in range(0, len(source), size):
        heads = []
        for i in range(first, min(first + size, len(source))):
            labels = source.labels
            view = moved(
                source.picture(i), labels.uv[i], labels.R_crop_head[i], labels.focal_px[i], Move()
            )
            heads.append((*view[:2], labels.weight[i], view[2], is_photograph, True))
        yield collated(heads)


@torch.no_grad()
def validate(network: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
    """Mean and median of keypoint distance [px] and rotation error [deg]; median NEES."""
    network.eval()
    away, angle, nees = [], [], []
    for batch in batches:
        output = decode(network(as_input(batch.pictures)))
        away.append(
            0.5
            * INPUT_PX
            * (batch.weight * distances(output, batch.uv)).sum(1)
            / batch.weight.sum(1)
        )
        R = so3.from_columns(output.columns)
        angle.append(so3.angle_between(R.double(), batch.R_crop_head.double()).rad2deg())
        error = (batch.uv - output.uv)[..., None]
        scaled = torch.linalg.solve_triangular(output.cholesky, error, upper=False)
        nees.append(0.5 * scaled.square().sum((-2, -1)).median(1).values)
    a, r, n = torch.cat(away), torch.cat(angle), torch.cat(nees)
    return {
        'px': float(a.mean()),
        'px_median': float(a.median()),
        'rotation_deg': float(r.mean()),
        'rotation_median_deg': float(r.median()),
        'keypoint_nees_median': float(n.median()),
    }


def learning_rate(step: int, options: Options) -> float:
    """Warm-up, then constant, then linear to zero."""
    rate = options.lr * min(1.0, (step + 1) / _WARM_UP)
    if options.decay:
        left = 1 - (step - options.decay_from) / options.decay
        rate *= min(1.0, max(left, 0.0)) + 1e-3
    return rate


def recipe(
    sources: Sequence[Source],
    false_heads: NDArray[np.uint8],
    validation: Mapping[str, Sequence[Batch]],
    options: Options,
) -> Recipe[Batch]:
    """The training for `training_loop`."""

    def terms(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        with torch.autocast('cpu', torch.bfloat16):
            numbers = network(as_input(batch.pictures))
        return losses(numbers.float(), batch, LossOptions())

    def validated(average: nn.Module) -> dict[str, dict[str, float]]:
        return {
            name: {key: round(value, 3) for key, value in validate(average, batches).items()}
            for name, batches in validation.items()
        }

    return Recipe(
        make_network=KeypointNetwork,
        is_hidden=is_hidden,
        make_batch=partial(make_batch, sources, false_heads, options),
        terms=terms,
        learning_rate=lambda step: learning_rate(step, options),
        end=options.decay_from + options.decay if options.decay else options.stop_at,
        pictures=options.batch,
        weight_decay=options.weight_decay,
        clip_norm=5.0,
        average_steps=_AVERAGE_STEPS,
        average_from=0,
        seed=options.seed,
        options=vars(options),
        validate=validated,
    )


def split(source: Examples, count: int) -> tuple[Examples, Examples]:
    """The first `count` examples for validation, the others for training."""
    return source.part(0, count), source.part(count, len(source))


def main(args: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, required=True, help='folder of the states')
    parser.add_argument('--rendered', type=Path, nargs='+', required=True)
    parser.add_argument('--photographs', type=Path, nargs='+', required=True)
    parser.add_argument('--turned', type=Path, nargs='+', help='photographs of `profiled`')
    parser.add_argument('--test', type=Path, help='rendered crops of the test split')
    parser.add_argument('--false-heads', type=Path, help='pictures of `false_heads`')
    parser.add_argument('--left-out', type=Path, help='names of photographs that do not count')
    parser.add_argument('--resume', type=Path, help='state to branch from')
    parser.add_argument('--decay', type=int, default=0, help='steps of the final descent')
    parser.add_argument('--lr', type=float, default=Options.lr)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--stop-at', type=int, default=Options.stop_at)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--workers', type=int, default=1)
    chosen = parser.parse_args(args)
    state = begin(chosen.out, chosen.resume, chosen.threads)
    decay_from = state['step'] if state else 0
    if state and chosen.decay and (chosen.out / 'last.pt').is_file():
        decay_from = state['options']['decay_from']
    options = Options(
        lr=chosen.lr,
        seed=chosen.seed,
        decay=chosen.decay,
        decay_from=decay_from,
        stop_at=chosen.stop_at,
    )
    names = frozenset(chosen.left_out.read_text().split()) if chosen.left_out else frozenset()
    held_out, real = split(photographs(chosen.photographs, names), 400)
    drawn = rendered(chosen.rendered)
    turned = None
    if chosen.turned:
        turned = rendered(chosen.turned).without(names | set(held_out.names))
    sources = sources_of(drawn, real, turned)
    print(*(f'{len(s.examples)} of {s.share:.1%}' for s in sources), flush=True)
    validation = {'photographs': list(plain_batches(held_out, True))}
    if chosen.test:
        validation['rendered'] = list(plain_batches(rendered([chosen.test]).part(0, 1024), False))
    false_heads = np.zeros((0, INPUT_PX, INPUT_PX, 3), np.uint8)
    if chosen.false_heads:
        shards = open_shards(chosen.false_heads)
        false_heads = np.concatenate([shard.pictures for shard in shards])[FALSE_HELD_OUT:]
    train(recipe(sources, false_heads, validation, options), chosen.out, state, chosen.workers)


if __name__ == '__main__':
    main()
