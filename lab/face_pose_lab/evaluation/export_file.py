# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measurements of an evaluation in a file, so that scoring can be repeated."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from face_pose_lab.evaluation.data_error import DataError

_Export = TypeVar('_Export', bound='ExportFile')


class ExportFile:
    """A dataclass of arrays that can be saved and loaded."""

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        np.savez_compressed(path, **vars(self))

    @classmethod
    def load(cls: type[_Export], path: Path) -> _Export:
        """Read what `save` wrote.

        Raises:
            DataError: There is no such file, or it was not written by `save`.
        """
        try:
            with np.load(path) as arrays:
                return cls(**{f.name: arrays[f.name] for f in fields(cls)})  # type: ignore[arg-type]
        except FileNotFoundError:
            raise DataError(f'{path}: no such file') from None
        except Exception as error:  # np.load raises many kinds of errors for damaged files
            raise DataError(f'{path}: not a file of `export` ({error})') from error
