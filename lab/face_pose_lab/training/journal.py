# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writes figures of a training as JSON lines, to the screen, and to TensorBoard if installed."""

from __future__ import annotations

import json
from pathlib import Path


class Journal:
    """`log.jsonl` in the folder of a training."""

    def __init__(self, folder: Path, step: int, active: bool = True) -> None:
        """Continue after a step; lines of later steps are removed.

        Args:
            folder: Of the training.
            step: Of the checkpoint.
            active: False writes nothing: for all processes but the first.
        """
        self._active = active
        self._board = None
        if not active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / 'log.jsonl'
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        kept = [line for line in lines if json.loads(line)['step'] <= step]
        self._path.write_text(''.join(f'{line}\n' for line in kept))
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return  # TensorBoard is optional
        self._board = SummaryWriter(str(folder), purge_step=step)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Add the figures of a step."""
        if not self._active:
            return
        with self._path.open('a') as file:
            file.write(json.dumps({'step': step, **figures}) + '\n')
        text = '  '.join(f'{name} {value:.4g}' for name, value in figures.items())
        print(f'step {step}  {text}', flush=True)
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
