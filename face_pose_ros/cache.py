# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cache folders for compiled networks."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

NAME = 'face_pose_ros'
_MIN_FREE_BYTES = 64 << 20  # more than any one cache takes


def writable_folder(kind: str) -> Path | None:
    """The first folder that is writable and has enough space; None if there is none.

    The contents are executed. So the folder must belong to this user and must not be writable by
    others: anyone can create a folder in /tmp.

    Args:
        kind: Name of the folder in the user's cache (XDG base directory specification), or else
            in the folder for temporary files.
    """
    for folder in _folders_of_user(kind):
        if _is_usable(folder) and _is_private(folder):
            return folder
    return None


def _folders_of_user(kind: str) -> Iterator[Path]:
    base = Path(os.environ.get('XDG_CACHE_HOME', ''))
    if not base.is_absolute():
        base = Path(os.path.expanduser('~'), '.cache')
    if base.is_absolute():  # '~' is not expanded for a user without a home
        yield base / NAME / kind
    try:
        yield Path(tempfile.gettempdir(), f'{NAME}-{os.geteuid()}-{kind}')
    except FileNotFoundError:  # no temporary folder is writable
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
    status = os.lstat(folder)  # not stat: another user may have made a link
    others = stat.S_IWGRP | stat.S_IWOTH
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & others
    )
