# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Write the averaged weights of a checkpoint as safetensors, with a card.

    python -m face_pose_lab.training.export CHECKPOINT --name hourglass --out FOLDER \
        --figures figures.json

The card is written from the checkpoint, the manifests of its data and the figures that
`training.evaluate --json` wrote. Needs the package safetensors.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from face_pose_lab.training.checkpoints import CheckpointError, as_exported, load_checkpoint
from face_pose_lab.training.shards import ShardError, open_shards, read_manifest


def tensors_of(state: dict[str, Any]) -> dict[str, Tensor]:
    """The exported tensors of a checkpoint: 'network.*' and, in float32, the extra ones."""
    tensors = {
        f'network.{name}': value.contiguous()
        for name, value in as_exported(state['average']).items()
        if not name.endswith('num_batches_tracked')
    }
    return tensors | {name: value.float().contiguous() for name, value in state['extra'].items()}


def card(name: str, state: dict[str, Any], content: bytes, figures: dict[str, Any] | None) -> str:
    """The Markdown card of the exported weights.

    Raises:
        ShardError: The folder of a training set has no manifest any more.
    """
    config = state['config']
    count = sum(value.numel() for key, value in tensors_of(state).items() if 'network.' in key)
    lines = [
        f'# {name}.safetensors',
        '',
        '| | |',
        '|---|---|',
        f'| what | stacked hourglass, {count / 1e6:.2f} M numbers, float16 '
        '(vectors float32), exponential moving average of the training |',
        '| publisher | this project |',
        '| licence | Apache-2.0, as the project |',
        *_history(state),
        f'| result | sha256 {hashlib.sha256(content).hexdigest()}, {len(content) / 1e6:.1f} MB |',
        '',
        '**Sizes**',
        '',
        *[f'    {key}: {value}' for key, value in config['hourglass'].items()],
        '',
        '**Training**',
        '',
    ]
    for group in ('hourglass_loss', 'optimiser', 'augment'):
        values = ', '.join(f'{key} {value}' for key, value in config[group].items())
        lines.append(f'- {group}: {values}')
    if figures is not None:
        lines += ['', f'**Figures** (`training.evaluate`, step {state["step"]})']
        for data, rows in figures['data'].items():
            lines += ['', f'{Path(data).name}', '', *_table(rows)]
        if 'aflw2000' in figures:
            rows = {row.pop('name'): row for row in map(dict, figures['aflw2000'])}
            lines += ['', 'AFLW2000-3D by |yaw| [deg], never trained on', '', *_table(rows)]
    return '\n'.join(lines) + '\n'


def _history(state: dict[str, Any]) -> list[str]:
    """Rows of the card: data and length of the training, and where its initial layers are from."""
    rows = [
        f'| data | {_data(state)} |',
        f'| made by | {_length(state)}, torch {torch.__version__} |',
    ]
    initial = state.get('initial')
    while initial:
        if 'sha256' in initial:
            text = f'{initial["file"]}, sha256 {initial["sha256"]}: see its card'
        else:
            text = f'{_length(initial)}, on {_data(initial)}'
        rows.append(f'| initial layers | {text} |')
        initial = initial.get('initial')
    return rows


def _data(state: dict[str, Any]) -> str:
    return '; '.join(map(_data_set, state['config']['data']['train']))


def _length(state: dict[str, Any]) -> str:
    config = state['config']
    pictures = state['step'] * config['batch'] * config['accumulate'] * state['world']
    return (
        f'{state["step"]} steps, {pictures} pictures, seed {config["seed"]}, '
        f'commit {state["commit"]}'
    )


def _data_set(folder: str) -> str:
    manifest = read_manifest(folder)
    families = ', '.join(manifest['families'])
    pictures = sum(len(shard.pictures) for shard in open_shards(Path(folder)))
    return (
        f'rendered {manifest["kind"]}, {pictures} pictures, families {families}, '
        f'split {manifest["split"]}, seed {manifest["seed"]}, commit {manifest["commit"]}'
    )


def _table(rows: dict[str, dict[str, float]]) -> list[str]:
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = ['| | ' + ' | '.join(keys) + ' |', '|---' * (len(keys) + 1) + '|']
    for name, row in rows.items():
        values = ' | '.join(f'{row[key]:.4g}' if key in row else '' for key in keys)
        lines.append(f'| {name} | {values} |')
    return lines


def commit_of_code() -> str:
    """The commit of this code, with a plus sign if files were changed since; or 'unknown'."""
    folder = Path(__file__).parent
    try:
        head = subprocess.run(
            ['git', 'rev-parse', 'HEAD'], cwd=folder, capture_output=True, text=True, check=True
        )
        status = subprocess.run(
            ['git', 'status', '--porcelain', '--untracked-files=no'],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return head.stdout.strip() + ('+' if status.stdout.strip() else '')


def main(args: Sequence[str] | None = None) -> None:
    """Export as the command line says."""
    import safetensors.torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', type=Path, help='file, or folder of which the newest counts')
    parser.add_argument('--name', required=True, help='of the files, without an ending')
    parser.add_argument('--out', type=Path, required=True, help='folder')
    parser.add_argument('--figures', type=Path, help='JSON file of training.evaluate')
    parser.add_argument('--calibration', type=Path, help='.npz file whose arrays are added')
    options = parser.parse_args(args)
    try:
        state = load_checkpoint(options.checkpoint)
        if options.calibration:
            with np.load(options.calibration) as arrays:
                state['extra'] |= {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        options_text = json.dumps(state['config']['hourglass'])
        metadata = {'network': 'hourglass', 'options': options_text, 'step': str(state['step'])}
        content = safetensors.torch.save(tensors_of(state), metadata)
        figures = json.loads(options.figures.read_text()) if options.figures else None
        if figures is not None and (step := figures.get('step')) != state['step']:
            raise CheckpointError(
                f'{options.figures}: of step {step}, expected those of step {state["step"]}'
            )
        text = card(options.name, state, content, figures)
    except (CheckpointError, ShardError, OSError) as error:
        parser.error(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f'{options.name}.safetensors').write_bytes(content)
    (options.out / f'{options.name}.md').write_text(text)


if __name__ == '__main__':
    main()
