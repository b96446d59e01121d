# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered images on disk: a manifest, and shards that can be mapped into memory.

    FOLDER/manifest.json
    FOLDER/00000/pictures.npy    (N, H, W, 3) uint8 RGB
    FOLDER/00000/labels.npz      written last: a shard without it is not complete

lab/docs/rendering.md names the labels.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANIFEST = 'manifest.json'
VERSION = 1
# Keys that may change in a resumed run.
_MAY_CHANGE = ('count', 'commit')


class ShardError(RuntimeError):
    """A folder holds no shards, or those of another run."""


@dataclass(frozen=True)
class Shard:
    """Some pictures with their labels."""

    folder: Path

    @cached_property
    def pictures(self) -> NDArray[np.uint8]:
        """(N, H, W, 3) uint8 RGB, mapped into memory."""
        return np.asarray(np.load(self.folder / 'pictures.npy', mmap_mode='r'))

    @cached_property
    def labels(self) -> dict[str, NDArray]:
        """Name -> array."""
        with np.load(self.folder / 'labels.npz') as file:
            return {name: file[name] for name in file.files}

    @property
    def is_complete(self) -> bool:
        """Whether the shard was written completely."""
        return (self.folder / 'labels.npz').is_file()


def shard_folder(folder: Path, number: int) -> Path:
    """Folder of a shard."""
    return folder / f'{number:05d}'


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The manifest of a folder.

    Raises:
        ShardError: There is no manifest.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise ShardError(f'{path}: no such file; face_pose_lab.training.render writes it')
    return dict(json.loads(path.read_text(encoding='utf-8')))


def open_shards(folder: Path | str) -> list[Shard]:
    """The shards of a folder that are complete now.

    Raises:
        ShardError: There is no manifest.
    """
    read_manifest(folder)
    shards = [Shard(path) for path in sorted(Path(folder).glob('[0-9]*')) if path.is_dir()]
    return [shard for shard in shards if shard.is_complete]


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Start a folder, or continue one with the same settings.

    Raises:
        ShardError: The folder has other settings.
    """
    path = folder / MANIFEST
    if path.is_file():
        there = read_manifest(folder)
        new = json.loads(json.dumps(manifest))
        for key in sorted(set(there) | set(new)):
            if key not in _MAY_CHANGE and there.get(key) != new.get(key):
                raise ShardError(
                    f'{path}: {key} is {_short(there.get(key))} there and {_short(new.get(key))} '
                    'now; render into another folder'
                )
    folder.mkdir(parents=True, exist_ok=True)
    _replace(path, json.dumps(manifest, indent=1).encode())


def write_shard(folder: Path, pictures: NDArray[np.uint8], labels: dict[str, NDArray]) -> None:
    """Write a shard; an existing one is replaced.

    Args:
        folder: The shard's own folder.
        pictures: (N, H, W, 3) uint8 RGB.
        labels: Name -> array.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'labels.npz').unlink(missing_ok=True)
    np.save(folder / 'pictures.npy', pictures)
    part = folder / 'labels.part.npz'
    np.savez(part, **labels)
    os.replace(part, folder / 'labels.npz')


def _replace(path: Path, content: bytes) -> None:
    part = path.with_suffix('.part')
    part.write_bytes(content)
    os.replace(part, path)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else text[:77] + '...'
