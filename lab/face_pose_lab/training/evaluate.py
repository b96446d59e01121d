# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of a trained hourglass.

    python -m face_pose_lab.training.evaluate CHECKPOINT --data FOLDER ... --aflw2000 FOLDER

CHECKPOINT is a file, or a folder whose newest one counts. FOLDERs of --data hold rendered crops.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from face_pose_lab.evaluation import metrics
from face_pose_lab.evaluation.aflw2000_samples import load_samples
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.training.checkpoints import CheckpointError, as_exported, load_checkpoint
from face_pose_lab.training.config import ConfigError, DataOptions, TrainConfig, config_from_dict
from face_pose_lab.training.evaluate_photos import score_aflw2000
from face_pose_lab.training.head_shape import head_model
from face_pose_lab.training.hourglass_task import HourglassTask, make_task
from face_pose_lab.training.shards import ShardError


def load_trained(
    path: Path, data: DataOptions
) -> tuple[HourglassTask, TrainConfig, dict[str, Any]]:
    """The averaged network of a checkpoint in its task, with other data, rounded as if exported.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged or of an older version.
    """
    state = load_checkpoint(path)
    try:
        config = replace(config_from_dict(state['config'], str(path)), data=data)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    task = make_task(config, state['extra'])
    task.network.load_state_dict(as_exported(state['average']))
    task.network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return task, config, state


def evaluate_checkpoint(path: Path, data: DataOptions, aflw2000: Path | None) -> dict[str, Any]:
    """Step of a checkpoint, tables by data set, and rows of AFLW2000-3D.

    Raises:
        CheckpointError: See `load_trained`.
        DataError: There are no photographs.
    """
    task, config, state = load_trained(path, data)
    network = task.network
    figures: dict[str, Any] = {'step': state['step']}
    if aflw2000 is not None:
        shape = {k.removeprefix('shape.'): v for k, v in state['extra'].items()}
        samples = load_samples(aflw2000)
        bins = score_aflw2000(network, head_model(shape), samples, config.amp)
        figures['aflw2000'] = [asdict(row) for row in bins]
    return figures | {'data': task.validate(network)}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Bins below each other, figures beside each other."""
    names = list(rows['all'])
    lines = [f'{"bin":<10}' + ''.join(f'{name:>21}' for name in names)]
    lines += [
        f'{name:<10}' + ''.join(f'{row.get(k, float("nan")):>21.3f}' for k in names)
        for name, row in rows.items()
    ]
    return '\n'.join(lines)


def main(args: Sequence[str] | None = None) -> None:
    """Print the figures; write them to `--json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', type=Path, help='file, or folder of which the newest counts')
    parser.add_argument('--data', nargs='*', default=[], help='folders of rendered crops')
    parser.add_argument('--pictures', type=int, default=4000, help='of each folder, at most')
    parser.add_argument('--aflw2000', type=Path, help='folder as evaluation.aflw2000 wants it')
    parser.add_argument('--threads', type=int, help='CPU threads')
    parser.add_argument('--json', type=Path, help='file to write the figures to')
    options = parser.parse_args(args)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        data = DataOptions(validation=tuple(options.data), validation_pictures=options.pictures)
        figures = evaluate_checkpoint(options.checkpoint, data, options.aflw2000)
    except (CheckpointError, DataError, ShardError) as error:
        parser.error(str(error))
    print(f'step {figures["step"]}')
    for name, rows in figures['data'].items():
        print(f'\n{name}\n{table(rows)}')
    if 'aflw2000' in figures:
        bins = [metrics.Row(**row) for row in figures['aflw2000']]
        print('\n' + metrics.text({'AFLW2000-3D, the network alone': bins}))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == '__main__':
    main()
