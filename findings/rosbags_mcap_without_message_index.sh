#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: a valid .mcap whose chunks are indexed but whose messages are not (writers may leave the
# message index out to save space).
# Seen with rosbags 0.11.9 and mcap 1.4.0: rosbags states the right number of messages and yields
# none, without an error; where the statistics are left out too it states 0. mcap reads all.
# Without any index rosbags reads all of them as well.
# Why it matters: a recording of another tool than ros2 bag looks empty. Compare the number of
# messages read with the number stated; `mcap recover` writes the file anew with an index.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check rosbags==0.11.9 mcap==1.4.0
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version
from mcap.reader import make_reader
from mcap.writer import IndexType, Writer
from rosbags.rosbag2 import Reader


def write(path, **options):
    writer = Writer(path, chunk_size=64, **options)
    writer.start(profile='ros2')
    schema = writer.register_schema('std_msgs/msg/Empty', 'ros2msg', b'')
    topic = writer.register_channel('/camera', 'cdr', schema)
    for i in range(9):
        writer.add_message(topic, i, b'\0\1\0\0\0', i)
    writer.finish()


def counts(path):
    with Reader(path) as reader:
        by_rosbags = reader.message_count, sum(1 for _ in reader.messages())
    with open(path, 'rb') as file:
        return *by_rosbags, sum(1 for _ in make_reader(file).iter_messages())


print('rosbags', version('rosbags'), 'mcap', version('mcap'))
cases = {
    'whole index': ({}, (9, 9, 9)),
    'chunk index only': ({'index_types': IndexType.CHUNK}, (9, 0, 9)),
    'the same, no statistics': (
        {'index_types': IndexType.CHUNK, 'use_statistics': False}, (0, 0, 9)
    ),
    'no index': ({'index_types': IndexType.NONE}, (9, 9, 9)),
}
for name, (options, expected) in cases.items():
    write('bag.mcap', **options)
    found = counts('bag.mcap')
    print(f'{name}: (stated by rosbags, read by it, read by mcap) {found}')
    assert found == expected
EOF
