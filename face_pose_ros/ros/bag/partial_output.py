# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writes poses to a partial file, which becomes an .mcap when complete."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from face_pose_ros.results import FacePose
from face_pose_ros.ros import conversions
from face_pose_ros.ros.bag.plot import plot_people, read_people
from face_pose_ros.ros.bag.reader import BagError

NAMESPACE = '/face_pose'  # name of the node, prefix of its private topics


def messages_of(
    faces: Sequence[FacePose], header: Header, publish_tf: bool
) -> Iterator[tuple[str, Any]]:
    """Topics and messages that the node publishes for one image."""
    for name, message in conversions.face_messages(faces, header):
        yield f'{NAMESPACE}/{name}', message
    transforms = conversions.face_transforms(faces, header)
    if publish_tf and transforms:
        yield '/tf', TFMessage(transforms=transforms)


class PartialOutput:
    """The messages so far and the state to resume from, committed together.

    One SQLite file beside the output. After a killed run it has the state of the last commit.
    """

    def __init__(self, output: Path, job: str) -> None:
        """Open the file of an interrupted run, or start a new one.

        Args:
            output: The .mcap to write at the end.
            job: `Job.fingerprint`; messages of another job are deleted.

        Raises:
            BagError: Another run or another version uses the file, or it cannot be written.
        """
        self.output = output
        self.path = output.with_name(output.name + '.partial')
        try:
            # The lock is kept, so that no second run uses the same output.
            self._db = sqlite3.connect(self.path, timeout=0, isolation_level=None)
            self._db.execute('PRAGMA locking_mode = EXCLUSIVE')
            self._db.execute('BEGIN IMMEDIATE')
            self._begin(job)
        except sqlite3.Error as error:
            raise BagError(
                f'{self.path}: {error}; another run uses it; if not, remove it'
            ) from error

    def _begin(self, job: str) -> None:
        tables = {name for (name,) in self._db.execute('SELECT name FROM sqlite_master')}
        if tables - {'progress', 'messages'}:
            raise self.foreign()
        self._db.execute('CREATE TABLE IF NOT EXISTS progress (job TEXT, state TEXT)')
        self._db.execute(
            'CREATE TABLE IF NOT EXISTS messages '
            '(time_ns INTEGER, topic TEXT, type TEXT, cdr BLOB)'
        )
        left = self._db.execute('SELECT job, state FROM progress').fetchone()
        self.state = ''  # of the last commit; empty: nothing was processed
        if left and left[0] == job:
            self.state = left[1]
        else:
            self._db.execute('DELETE FROM messages')
            self._db.execute('DELETE FROM progress')
            self._db.execute('INSERT INTO progress VALUES (?, ?)', (job, ''))

    def foreign(self) -> BagError:
        """The error for a partial file of another version."""
        return BagError(
            f'{self.path}: left by another version of face_pose_bag, or damaged; '
            'remove it to start over'
        )

    def __enter__(self) -> PartialOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, time_ns: int, topic: str, message: Any) -> None:
        """Add a message with its recording time."""
        row = time_ns, topic, conversions.type_name(type(message)), serialize_message(message)
        self._db.execute('INSERT INTO messages VALUES (?, ?, ?, ?)', row)

    def commit(self, state: str) -> None:
        """Commit all messages so far, together with the state to resume from."""
        self._db.execute('UPDATE progress SET state = ?', (state,))
        self._db.execute('COMMIT')
        self._db.execute('BEGIN IMMEDIATE')

    def finish(self) -> None:
        """Write the .mcap and its plot atomically, and remove the partial file."""
        with tempfile.TemporaryDirectory(dir=self.output.parent, prefix='.face_pose_bag_') as tmp:
            folder = Path(tmp) / 'poses'
            self._write(folder)
            mcap, plot = folder / 'poses.mcap', Path(tmp) / 'plot.png'
            plot_people(read_people(mcap), plot, self.output.stem)
            plot.replace(self.output.with_suffix('.png'))
            mcap.replace(self.output)
        self.discard()

    def discard(self) -> None:
        """Remove the partial file."""
        self._db.close()
        self.path.unlink()

    def _write(self, folder: Path) -> None:
        types = get_typestore(Stores.LATEST)
        connections: dict[str, Any] = {}
        with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
            rows = self._db.execute(
                'SELECT time_ns, topic, type, cdr FROM messages ORDER BY rowid'
            )
            for time_ns, topic, kind, cdr in rows:
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=types)
                writer.write(connections[topic], time_ns, cdr)
