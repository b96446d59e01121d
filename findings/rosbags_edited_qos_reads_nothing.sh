#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: a recording's folder whose metadata.yaml states other QoS profiles than its files do.
# It is a text that can be edited, and `ros2 bag reindex` of today spells the endless deadline of
# a Foxy recording anew (rosbag2_storage/qos.cpp).
# Seen with rosbags 0.11.9: the folder opens and counts its messages, and then yields none of them,
# without an error. Topics are matched between metadata.yaml and files with all they hold, QoS too.
# Why it matters: a job over a robot's recording ends at once with "0 images". Each file by itself
# can be read: open the files that metadata.yaml lists one by one.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check rosbags==0.11.9
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version
from pathlib import Path
from rosbags.interfaces import *
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

second = QosTime(1, 0)
qos = Qos(
    QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.VOLATILE,
    second, second, QosLiveliness.AUTOMATIC, second, False,
)


def counts(path):
    with Reader(path) as reader:
        return reader.message_count, sum(1 for _ in reader.messages())


print('rosbags', version('rosbags'))
for storage in StoragePlugin.MCAP, StoragePlugin.SQLITE3:
    folder = Path(storage.name)
    types = get_typestore(Stores.LATEST)
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        topic = writer.add_connection(
            '/camera', 'std_msgs/msg/Empty', typestore=types, offered_qos_profiles=[qos]
        )
        for i in range(5):
            writer.write(topic, i, b'\0\1\0\0\0')
    before = counts(folder)
    metadata = folder / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('reliable', 'best_effort'))
    (file,) = (path for path in folder.iterdir() if path != metadata)
    print(storage.name, '(stated, read): as recorded', before, 'edited', counts(folder),
          'its file alone', counts(file))
    assert (before, counts(folder), counts(file)) == ((5, 5), (5, 0), (5, 5))
EOF
