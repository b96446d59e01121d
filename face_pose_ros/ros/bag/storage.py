# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the files of a rosbag2 recording.

rosbags reads each file; metadata.yaml gives only the list and order of the files. The rest of it
may contradict the files (`ros2 bag reindex` leaves the storage name empty, QoS profiles get
edited), and then rosbags' own folder reader skips messages without an error.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import yaml
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_STORAGES = '.mcap', '.db3'
# First bytes of a compressed message; a CDR message begins with 0.
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
# First bytes of SQLite journals that hold data (sqlite.org/fileformat2.html).
_JOURNALS = {
    '-wal': (b'\x37\x7f\x06\x82', b'\x37\x7f\x06\x83'),
    '-journal': (b'\xd9\xd5\x05\xf9',),
}
_FINISH = 'pragma journal_mode=delete; pragma user_version'  # the second reads the file
_URI_SYNTAX = '?#%'  # rosbags passes the path to SQLite in a URI, unescaped


class BagError(ValueError):
    """An unusable recording; the text names the file and what was expected."""


class Storage:
    """All messages of a recording, from one file or from the parts of a folder."""

    def __init__(self, path: Path) -> None:
        """Open all parts.

        Args:
            path: An .mcap or .db3 file, or the folder that ros2 bag makes.

        Raises:
            BagError: The recording cannot be read completely.
        """
        self.path = path
        self._stack = ExitStack()
        self._parts: list[Reader] = []
        try:
            for part in _parts_of(path):
                self._open(part)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all files."""
        self._stack.close()

    @property
    def connections(self) -> list[Connection]:
        """Topics with types and message counts, for each part."""
        return [connection for part in self._parts for connection in part.connections]

    def messages(
        self, connections: Sequence[Connection]
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Serialized messages with their recording times [ns].

        Args:
            connections: A subset of `connections`.

        Raises:
            BagError: The recording is damaged, or messages are missing in its index.
        """
        expected, found = sum(connection.msgcount for connection in connections), 0
        for part in self._parts:
            chosen = [c for c in part.connections if any(c is wanted for wanted in connections)]
            messages = part.messages(chosen) if chosen else iter(())  # an empty list means all
            while True:
                try:
                    connection, time_ns, data = next(messages)
                    if data[:4] == _ZSTD_MAGIC:
                        data = zstd.decompress(data)
                except StopIteration:
                    break
                except Exception as error:  # as in __init__
                    raise unreadable(self.path, error) from error
                found += 1
                yield connection, time_ns, data
        if found != expected:
            raise BagError(
                f'{self.path}: {found} of {expected} messages could be read, the index of the '
                'others is missing; mcap recover rebuilds it'
            )

    def _open(self, part: Path) -> None:
        try:
            if part.suffix == '.zstd':
                folder = Path(self._stack.enter_context(TemporaryDirectory()))
                with zstd.open(part) as packed, (folder / part.stem).open('wb') as unpacked:
                    shutil.copyfileobj(packed, unpacked)
                part = folder / part.stem
            reader = Reader(part)
            reader.open()
        # Damaged files raise errors of rosbags, struct, sqlite3 and others.
        except Exception as error:
            raise unreadable(part, error) from error
        self._stack.callback(reader.close)
        self._parts.append(reader)
        listed = sum(connection.msgcount for connection in reader.connections)
        if listed != reader.message_count:
            raise BagError(
                f'{part}: lists the topics of {listed} of {reader.message_count} messages; '
                'mcap recover rebuilds the index of an .mcap'
            )


def unreadable(path: Path, error: Exception) -> BagError:
    """The error for a file that could not be read to its end."""
    reason = ' '.join(str(error).split()).rstrip('.') or type(error).__name__
    repair = '; mcap recover repairs an unfinished .mcap' if path.suffix == '.mcap' else ''
    return BagError(
        f'{path}: expected a complete ROS 2 recording (.mcap, .db3 or folder), but: '
        f'{reason}{repair}'
    )


def _parts_of(path: Path) -> list[Path]:
    """The files of a recording in the order they were written."""
    if not path.exists():
        raise BagError(f'{path}: no such file or folder')
    if path.is_dir():
        parts = _parts_of_folder(path)
    elif path.suffix == '.bag':
        raise BagError(
            f'{path}: expected a ROS 2 recording, got one of ROS 1; '
            'rosbags-convert --src IN.bag --dst FOLDER converts it'
        )
    elif path.suffix == '.zstd':
        raise BagError(f'{path}: a compressed file, expected the folder with its metadata.yaml')
    else:
        parts = [path]
    for part in parts:
        _check(part)
    return parts


def _parts_of_folder(folder: Path) -> list[Path]:
    metadata = folder / 'metadata.yaml'
    if not metadata.exists():
        files = [file.name for file in sorted(folder.iterdir()) if _is_storage(file)]
        raise BagError(
            f'{folder} has no metadata.yaml: the recorder was killed or still runs; '
            f'ros2 bag reindex {folder} writes one, or give one of its files: {", ".join(files)}'
            if files
            else f'{folder}: expected the folder of a recording, with a metadata.yaml'
        )
    try:
        listed = yaml.safe_load(metadata.read_text())['rosbag2_bagfile_information']
        # Up to version 3 the paths start with the folder.
        parts = [folder / PurePosixPath(name).name for name in listed['relative_file_paths']]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise unreadable(metadata, error) from error
    if not parts:
        raise BagError(f'{metadata}: lists no files of the recording')
    if missing := [part.name for part in parts if not part.exists()]:
        raise BagError(f'{folder}: {", ".join(missing)} missing, which its metadata.yaml lists')
    return parts


def _is_storage(path: Path) -> bool:
    return Path(path.name.removesuffix('.zstd')).suffix in _STORAGES


def _check(part: Path) -> None:
    """Raise BagError for files that rosbags would read incompletely."""
    if part.suffix != '.db3':
        return
    for suffix, magics in _JOURNALS.items():
        journal = part.with_name(part.name + suffix)
        if journal.exists() and _beginning(journal) in magics:
            raise BagError(
                f'{part}: {journal.name} has data that {part.name} lacks (the recorder was killed '
                f"or still runs); sqlite3 {part.name} '{_FINISH}' merges them"
            )
    if found := [c for c in _URI_SYNTAX if c in str(part)]:
        raise BagError(f'{part}: a .db3 cannot be opened with {found[0]} in its path; rename it')


def _beginning(path: Path) -> bytes:
    with path.open('rb') as file:
        return file.read(4)
