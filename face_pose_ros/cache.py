# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where what the first start makes is kept for the next ones: machine code, compiled networks."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

NAME = 'face_pose_ros'
_MIN_FREE_BYTES = 64 << 20  # all that one kind takes is less


def writable_folder(kind: str, *preferred: Path) -> Path | None:
    """The first folder that can be written and has space; None if there is none.

    What is kept there gets executed. Behind the preferred folders, which are trusted as the
    installation and the environment are, only those count that belong to this user and that
    nobody else may write to: any user can make a folder of some name in /tmp.

    Args:
        kind: Name of the folder in the user's cache (XDG base directory specification) and, after
            that, in the folder for temporary files.
        preferred: Taken before these, in this order.
    """
    for folder in preferred:
        if _is_usable(folder):
            return folder
    for folder in _folders_of_user(kind):
        if _is_usable(folder) and _is_private(folder):
            return folder
    return None


def _folders_of_user(kind: str) -> Iterator[Path]:
    base = Path(os.environ.get('XDG_CACHE_HOME', ''))
    if not base.is_absolute():
        base = Path(os.path.expanduser('~'), '.cache')
    if base.is_absolute():  # '~' remains where a user has no home
        yield base / NAME / kind
    try:
        yield Path(tempfile.gettempdir(), f'{NAME}-{os.geteuid()}-{kind}')
    except FileNotFoundError:  # not even one of these can be written
        return


def _is_usable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize >= _MIN_FREE_BYTES


def _is_private(folder: Path) -> bool:
    status = os.lstat(folder)  # a link may lead to a folder of another user's choice
    others = stat.S_IWGRP | stat.S_IWOTH
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & others
    )
