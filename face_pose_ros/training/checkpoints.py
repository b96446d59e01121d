"""Checkpoints: everything that the next step depends on, written so that none is ever half."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


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
