# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: everything that the next step depends on, written atomically."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from face_pose_ros.weights import read_safetensors


class CheckpointError(Exception):
    """A checkpoint that is missing, damaged, or of another training."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write `checkpoint_<step>.pt` and remove all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'checkpoint_{step:08d}.pt'
    partial = path.with_suffix('.partial')
    torch.save({'step': step, **state}, partial)
    os.replace(partial, path)
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    return sorted(folder.glob('checkpoint_*.pt'))


def as_exported(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A network's weights in the form of the package: float16.

    Vectors, of which there are few, stay float32.

    Raises:
        CheckpointError: A weight is not finite, or too large for float16.
    """
    exported = {}
    for name, value in weights.items():
        exported[name] = value.half() if value.ndim > 1 else value.float()
        if not exported[name].isfinite().all():
            raise CheckpointError(f'{name}: expected finite weights below 65504')
    return exported


class Beginning(NamedTuple):
    """A trained network that provides initial layers of another one."""

    weights: dict[str, Tensor]  # averaged
    history: dict[str, Any]  # for the card of the new network


def load_beginning(path: Path) -> Beginning:
    """Weights of a checkpoint, or of the .safetensors file that `training.export` made of one.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    if path.suffix != '.safetensors':
        state = load_checkpoint(path)
        keys = 'config', 'step', 'world', 'commit', 'initial'
        return Beginning(state['average'], {key: state.get(key) for key in keys})
    try:
        content = path.read_bytes()
        tensors = {name: torch.tensor(x) for name, x in read_safetensors(content).items()}
    except OSError as error:
        raise CheckpointError(f'{path}: {error.strerror}') from None
    except (ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f'{path}: not exported weights ({error})') from error
    prefix = 'network.'
    weights = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    sha256 = hashlib.sha256(content).hexdigest()
    return Beginning(weights, {'file': path.name, 'sha256': sha256})


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, of a file or of the newest one in a folder.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    if path.is_dir():
        found = checkpoints(path)
        if not found:
            raise CheckpointError(f'{path}: no checkpoint_*.pt in this folder')
        path = found[-1]
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f'{path}: no such file') from None
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        raise CheckpointError(f'{path}: not a checkpoint ({error})') from error
