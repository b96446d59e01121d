#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: an .mcap whose summary does not repeat the channels, an option of the format and of mcap's
# own writer (repeat_channels=False).
# Seen with mcap 1.4.0 and rosbags 0.11.9: mcap's make_reader(...).iter_messages() stops with
# KeyError at the first message; rosbags states the right number of messages, lists no topics and
# yields none, without an error. mcap's NonSeekingReader reads all.
# Why it matters: a logger that saves bytes makes recordings that look broken or empty. Leave
# repeat_channels on, or copy the file with NonSeekingReader.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mcap==1.4.0 rosbags==0.11.9
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version
from mcap.reader import NonSeekingReader, make_reader
from mcap.writer import Writer
from rosbags.rosbag2 import Reader

print('mcap', version('mcap'), 'rosbags', version('rosbags'))
for repeat in (True, False):
    writer = Writer('bag.mcap', repeat_channels=repeat)
    writer.start(profile='ros2')
    schema = writer.register_schema('std_msgs/msg/Empty', 'ros2msg', b'')
    topic = writer.register_channel('/camera', 'cdr', schema)
    for i in range(4):
        writer.add_message(topic, i, b'\0\1\0\0\0', i)
    writer.finish()
    try:
        with open('bag.mcap', 'rb') as file:
            seeking = sum(1 for _ in make_reader(file).iter_messages())
    except KeyError as error:
        seeking = repr(error)
    with open('bag.mcap', 'rb') as file:
        whole = sum(1 for _ in NonSeekingReader(file).iter_messages())
    with Reader('bag.mcap') as reader:
        by_rosbags = reader.message_count, sum(1 for _ in reader.messages())
    print(f'repeat_channels={repeat}: make_reader {seeking}, NonSeekingReader {whole}, '
          f'rosbags (stated, read) {by_rosbags}')
    assert (seeking, whole, by_rosbags) == (
        (4, 4, (4, 4)) if repeat else ('KeyError(1)', 4, (4, 0))
    )
EOF
