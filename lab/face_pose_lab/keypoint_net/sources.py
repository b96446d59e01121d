# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads photographs of people from the objects of git repositories.

A clone without a working tree is enough: the files come from `git cat-file --batch`.
"""

from __future__ import annotations

import csv
import io
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

# Members up to this congress served before 1932; their pictures are presumably as old.
_LAST_OLD_CONGRESS = 71
_FIRST_OFFICIAL_CONGRESS = 110  # from 2007 on; the Biographical Directory's are official portraits
_LONDON = ('inst/neutral_front', 'inst/smiling_front', 'inst/canada')


@dataclass(frozen=True)
class Photograph:
    """One picture of one person."""

    name: str  # path in the repository
    rgb: Picture  # (H, W, 3)


def fairface(repository: Path) -> list[str]:
    """Paths of FairFace's chips (CC BY 4.0), training and validation split."""
    return _files(repository, ('fair_face/train', 'fair_face/val'))


def legislators(repository: Path) -> list[str]:
    """Paths of US legislators' portraits of voteview/member_photos: public domain or official."""
    table = io.StringIO(_blob(repository, 'HEAD:members.csv').decode())
    chosen = []
    for row in csv.DictReader(table):
        congress = int(row['congress'])
        official = row['source'] == 'bio_guide' and congress >= _FIRST_OFFICIAL_CONGRESS
        if congress <= _LAST_OLD_CONGRESS or official:
            chosen.append(row['image'])
    present = set(_files(repository, ('images',)))
    return [path for path in chosen if path in present]


def portraits_with_consent(repository: Path) -> list[str]:
    """Paths of webmorph's London and Canada sets (CC BY 4.0, signed consent)."""
    return _files(repository, _LONDON)


SOURCES = {
    'fairface': fairface,
    'legislators': legislators,
    'portraits': portraits_with_consent,
}


def read_photographs(repository: Path, paths: Sequence[str]) -> Iterator[Photograph]:
    """The photographs of paths that exist and can be decoded, in order."""
    command = ['git', '-C', str(repository), 'cat-file', '--batch']
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as git:
        assert git.stdin is not None
        assert git.stdout is not None
        for path in paths:
            git.stdin.write(f'HEAD:{path}\n'.encode())
            git.stdin.flush()
            *_, size = git.stdout.readline().split()
            if not size.isdigit():  # "HEAD:path missing"
                continue
            content = git.stdout.read(int(size))
            git.stdout.read(1)
            bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            if bgr is not None:
                yield Photograph(path, np.ascontiguousarray(bgr[..., ::-1]))


def _files(repository: Path, folders: Sequence[str]) -> list[str]:
    listed = _git(repository, 'ls-tree', '-r', '--name-only', 'HEAD', *folders).decode()
    return [path for path in listed.splitlines() if path.endswith('.jpg')]


def _blob(repository: Path, name: str) -> bytes:
    return _git(repository, 'cat-file', 'blob', name)


def _git(repository: Path, *args: str) -> bytes:
    command = ['git', '-C', str(repository), *args]
    return subprocess.run(command, check=True, capture_output=True).stdout
