# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings as recorders, tools and accidents leave them: read whole, or refused by name."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')
pytest.importorskip('rosbags', reason='needs pip install rosbags')

from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.ros.bag.reader import BagError, Recording

COUNT = 7
_FOREVER = QosTime(2147483647, 4294967295)  # as recorders of ROS 2 Foxy wrote it
QOS = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    _FOREVER,
    _FOREVER,
    QosLiveliness.AUTOMATIC,
    _FOREVER,
    False,
)


def message(i: int, kind: type) -> bytes:
    header = Header(stamp=Time(sec=1000 + i), frame_id='camera_optical')
    if kind is Image:
        return serialize_message(
            Image(header=header, width=4, height=3, step=12, encoding='rgb8', data=bytes(36))
        )
    return serialize_message(CameraInfo(header=header, width=4, height=3))


def record(
    folder: Path,
    storage: StoragePlugin = StoragePlugin.MCAP,
    version: int = 8,
    compression: CompressionMode | None = None,
    images: range = range(COUNT),
) -> Path:
    """A folder with images and CameraInfos, one of each per second."""
    types = get_typestore(Stores.LATEST)
    writer = Writer(folder, version=version, storage_plugin=storage)
    if compression:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {
            kind: writer.add_connection(
                topic,
                f'sensor_msgs/msg/{kind.__name__}',
                typestore=types,
                offered_qos_profiles=[QOS],
            )
            for topic, kind in (('/camera/image', Image), ('/camera/info', CameraInfo))
        }
        for i in images:
            for kind, connection in connections.items():
                writer.write(connection, 10**9 * (1000 + i), message(i, kind))
    return folder


def stamps(path: Path) -> list[int]:
    """Of all images that are paired with their CameraInfo [s]."""
    with Recording(path) as recording:
        found = [image.header.stamp.sec - 1000 for _, image, _ in recording.pairs()]
        assert recording.image_count == len(found)
    return found


def edit(folder: Path, change: Callable[[dict], object]) -> Path:
    """Change the metadata of a recording."""
    path = folder / 'metadata.yaml'
    tree = yaml.safe_load(path.read_text())
    change(tree['rosbag2_bagfile_information'])
    path.write_text(yaml.safe_dump(tree))
    return folder


def recorder_killed(folder: Path, journal_mode: str) -> Path:
    """The files of a db3 recording as they are while the last messages are being written."""
    record(folder / 'running', StoragePlugin.SQLITE3, images=range(4))
    database = sqlite3.connect(folder / 'running' / 'running.db3', isolation_level=None)
    database.execute(f'PRAGMA journal_mode = {journal_mode}')
    database.execute('PRAGMA synchronous = OFF')  # as rosbag2 has it
    database.execute('BEGIN')
    topics = dict(database.execute('SELECT name, id FROM topics'))
    for i in range(4, COUNT):
        for topic, kind in (('/camera/image', Image), ('/camera/info', CameraInfo)):
            database.execute(
                'INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)',
                (topics[topic], 10**9 * (1000 + i), message(i, kind)),
            )
    if journal_mode == 'wal':
        database.execute('COMMIT')
    shutil.copytree(folder / 'running', folder / 'left')
    database.close()
    return folder / 'left'


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize('version', [8, 9])  # QoS profiles as a string of numbers; by name
def test_files_and_folders_are_read(tmp_path, storage, version):
    folder = record(tmp_path / 'bag', storage, version)
    (file,) = (path for path in folder.iterdir() if path.suffix != '.yaml')
    assert stamps(folder) == stamps(file) == list(range(COUNT))


@pytest.mark.parametrize(
    ('storage', 'compression'),
    [
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    ],
)
def test_compressed_messages_are_read_with_and_without_their_folder(
    tmp_path, storage, compression
):
    folder = record(tmp_path / 'bag', storage, compression=compression)
    (file,) = (path for path in folder.iterdir() if path.suffix != '.yaml')
    assert stamps(folder) == stamps(file) == list(range(COUNT))


def test_compressed_files_are_read_out_of_their_folder_alone(tmp_path):
    folder = record(tmp_path / 'bag', StoragePlugin.SQLITE3, compression=CompressionMode.FILE)
    assert stamps(folder) == list(range(COUNT))
    with pytest.raises(BagError, match=r'bag\.db3\.zstd: .*expected the folder'):
        Recording(folder / 'bag.db3.zstd')
    (folder / 'bag.db3.zstd').write_bytes(b'torn')
    with pytest.raises(BagError, match=r'bag\.db3\.zstd: expected a complete'):
        Recording(folder)


@pytest.mark.parametrize('storage', [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize(
    'change',
    [
        lambda bag: bag.update(storage_identifier=''),  # ros2 bag reindex of Humble, from .mcap
        lambda bag: bag.update(storage_identifier='my_plugin'),
        lambda bag: bag.update(version=12),
        lambda bag: bag.update(message_count=0, topics_with_message_count=[]),
        # Versions 1 to 3: the paths begin with the folder, there are no QoS profiles.
        lambda bag: [
            bag.update(version=2, relative_file_paths=[f'bag/{bag["relative_file_paths"][0]}']),
            *[bag.pop(name) for name in ('compression_format', 'compression_mode', 'files')],
            *[bag.pop(name) for name in ('custom_data', 'ros_distro')],
            *[
                topic['topic_metadata'].pop('offered_qos_profiles')
                for topic in bag['topics_with_message_count']
            ],
        ],
        # So that another distribution plays it.
        lambda bag: [
            topic['topic_metadata'].update(offered_qos_profiles='')
            for topic in bag['topics_with_message_count']
        ],
        # ros2 bag reindex of today, from a recording of Foxy.
        lambda bag: [
            topic['topic_metadata'].update(
                offered_qos_profiles=topic['topic_metadata']['offered_qos_profiles']
                .replace('4294967295', '854775807')
                .replace('2147483647', '9223372036')
            )
            for topic in bag['topics_with_message_count']
        ],
    ],
)
def test_the_content_of_the_files_counts_and_not_metadata(tmp_path, storage, change):
    assert stamps(edit(record(tmp_path / 'bag', storage), change)) == list(range(COUNT))


def test_parts_are_read_in_the_order_of_metadata_and_none_may_be_missing(tmp_path):
    first = record(tmp_path / 'bag', images=range(3))
    second = record(tmp_path / 'late', images=range(3, COUNT))
    (first / 'bag.mcap').rename(first / 'bag_9.mcap')
    (second / 'late.mcap').rename(first / 'bag_10.mcap')
    edit(first, lambda bag: bag.update(relative_file_paths=['bag_9.mcap', 'bag_10.mcap']))
    assert stamps(first) == list(range(COUNT))
    (first / 'bag_9.mcap').unlink()
    with pytest.raises(BagError, match=r'bag: bag_9\.mcap missing'):
        Recording(first)


@pytest.mark.parametrize(
    ('mode', 'journal'), [('wal', 'running.db3-wal'), ('delete', 'running.db3-journal')]
)
def test_what_a_killed_recorder_had_not_moved_into_its_db3_is_not_skipped(tmp_path, mode, journal):
    left = recorder_killed(tmp_path, mode)
    for path in (left, left / 'running.db3'):
        with pytest.raises(BagError, match=rf"{journal} .*sqlite3 running\.db3 '") as raised:
            Recording(path)
    database = sqlite3.connect(left / 'running.db3')
    database.executescript(str(raised.value).split("'")[1])
    database.close()
    assert stamps(left) == list(range(COUNT if mode == 'wal' else 4))


def test_a_folder_without_metadata_names_its_files(tmp_path):
    folder = record(tmp_path / 'bag', StoragePlugin.SQLITE3)
    (folder / 'metadata.yaml').unlink()
    with pytest.raises(BagError, match=r'no metadata\.yaml: .*reindex .*files: bag\.db3'):
        Recording(folder)
    with pytest.raises(BagError, match='expected the folder of a recording'):
        Recording(tmp_path)


@pytest.mark.parametrize('content', ['', '- 1', 'a: [', 'rosbag2_bagfile_information: {}'])
def test_a_damaged_metadata_file_is_named(tmp_path, content):
    folder = record(tmp_path / 'bag')
    (folder / 'metadata.yaml').write_text(content)
    with pytest.raises(BagError, match=r'metadata\.yaml: expected a complete'):
        Recording(folder)


def test_the_error_for_an_unfinished_mcap_names_the_repair(tmp_path):
    file = record(tmp_path / 'bag') / 'bag.mcap'
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BagError, match=r'bag\.mcap: .*mcap recover'):
        Recording(file)


def test_recordings_of_ros_1_and_foreign_paths_are_refused_with_the_way_out(tmp_path):
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')
    with pytest.raises(BagError, match=r'old\.bag: .*ROS 1; rosbags-convert'):
        Recording(tmp_path / 'old.bag')
    folder = record(tmp_path / 'bag', StoragePlugin.SQLITE3).rename(tmp_path / 'run #3')
    with pytest.raises(BagError, match=r'opened with # in its path'):
        Recording(folder)
    with pytest.raises(BagError, match=r'metadata\.yaml: expected a complete'):
        Recording(folder / 'metadata.yaml')


def test_an_empty_recording_and_one_of_other_topics_have_different_errors(tmp_path):
    folder = record(tmp_path / 'bag', images=range(0))
    with pytest.raises(BagError, match=r'no messages of type .*, though /camera/image is listed'):
        Recording(folder)


@pytest.mark.parametrize('version', [1, 2, 3])
def test_databases_of_older_recorders_are_read(tmp_path, version):
    """Before 2 without QoS, before 3 without metadata, before 4 without message definitions."""
    folder = record(tmp_path / 'bag', StoragePlugin.SQLITE3)
    database = sqlite3.connect(folder / 'bag.db3')
    database.execute('DROP TABLE message_definitions')
    database.execute('ALTER TABLE topics DROP COLUMN type_description_hash')
    if version == 3:
        database.execute('UPDATE schema SET schema_version = 3')
    else:
        database.execute('DROP TABLE schema')
        database.execute('DROP TABLE metadata')
    if version == 1:
        database.execute('ALTER TABLE topics DROP COLUMN offered_qos_profiles')
    database.commit()
    database.close()
    assert stamps(folder) == list(range(COUNT))


def write_mcap(path: Path, encoding: str = 'cdr', channels: int = 1, **options) -> Path:
    """The same messages by another writer; each of several channels has a share of the images."""
    writer_of = pytest.importorskip('mcap.writer', reason='needs pip install mcap')
    writer = writer_of.Writer(str(path), chunk_size=200, **options)
    writer.start(profile='ros2', library='another')
    schemas = {
        kind: writer.register_schema(f'sensor_msgs/msg/{kind.__name__}', 'ros2msg', b'')
        for kind in (Image, CameraInfo)
    }
    images = [
        writer.register_channel('/camera/image', encoding, schemas[Image], {'part': str(i)})
        for i in range(channels)
    ]
    info = writer.register_channel('/camera/info', encoding, schemas[CameraInfo])
    for i in range(COUNT):
        time_ns = 10**9 * (1000 + i)
        writer.add_message(images[i % channels], time_ns, message(i, Image), time_ns)
        writer.add_message(info, time_ns, message(i, CameraInfo), time_ns)
    writer.finish()
    return path


@pytest.mark.parametrize(
    'options',
    [
        {'compression': 'LZ4'},
        {'compression': 'ZSTD'},
        {'use_chunking': False},
        {'index_types': 'NONE'},
        {'use_statistics': False},
        {'repeat_channels': False, 'repeat_schemas': False},
        {'channels': 2},
    ],
)
def test_mcap_files_of_another_writer_are_read(tmp_path, options):
    mcap = pytest.importorskip('mcap.writer', reason='needs pip install mcap')
    named = {'compression': mcap.CompressionType, 'index_types': mcap.IndexType}
    options = {
        name: named[name][value] if name in named else value for name, value in options.items()
    }
    assert stamps(write_mcap(tmp_path / 'bag.mcap', **options)) == list(range(COUNT))


def test_messages_that_an_mcap_has_no_index_of_are_not_skipped(tmp_path):
    mcap = pytest.importorskip('mcap.writer', reason='needs pip install mcap')
    options = {'index_types': mcap.IndexType.CHUNK}
    path = write_mcap(tmp_path / 'bag.mcap', **options)
    with Recording(path) as recording, pytest.raises(BagError, match=r'0 of 14 .*mcap recover'):
        list(recording.pairs())
    path = write_mcap(tmp_path / 'uncounted.mcap', use_statistics=False, **options)
    with pytest.raises(BagError, match=r'no messages of type .*mcap recover'):
        Recording(path)


def test_topics_that_an_mcap_has_no_index_of_are_not_skipped(tmp_path):
    path = write_mcap(tmp_path / 'bag.mcap', repeat_channels=False)
    with pytest.raises(BagError, match=r'topics of 0 of 14 messages; mcap recover'):
        Recording(path)


def test_messages_in_another_encoding_are_refused(tmp_path):
    with pytest.raises(BagError, match="/camera/image are 'json', expected 'cdr'"):
        Recording(write_mcap(tmp_path / 'bag.mcap', encoding='json'))
