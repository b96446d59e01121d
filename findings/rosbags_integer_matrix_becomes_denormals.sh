#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: a CameraInfo for a recording is made with K from a numpy array of integers, as one types a
# calibration with round numbers.
# Seen with rosbags 0.11.9: serialize_cdr() copies the bytes of an int64 array where float64 are
# declared. No error; K reads back as 3e-321 and the like. float32 and lists are refused.
# Why it matters: recordings made by script carry a calibration of zeros for all that use them.
# Give dtype=np.float64.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check rosbags==0.11.9 numpy==2.2.6
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version
import numpy as np
from rosbags.typesys import Stores, get_typestore

store = get_typestore(Stores.ROS2_HUMBLE)
name = 'sensor_msgs/msg/CameraInfo'
types = store.types


def there_and_back(K):
    stamp = types['builtin_interfaces/msg/Time'](sec=1, nanosec=2)
    info = types[name](
        header=types['std_msgs/msg/Header'](stamp=stamp, frame_id='camera'), height=480,
        width=640, distortion_model='plumb_bob', d=np.zeros(5), k=K, r=np.eye(3).ravel(),
        p=np.zeros(12), binning_x=0, binning_y=0,
        roi=types['sensor_msgs/msg/RegionOfInterest'](0, 0, 0, 0, False),
    )
    return store.deserialize_cdr(store.serialize_cdr(info, name), name).k


print('rosbags', version('rosbags'), 'numpy', np.__version__)
K = np.array([600, 0, 320, 0, 605, 240, 0, 0, 1])
as_float, as_int = there_and_back(K.astype(np.float64)), there_and_back(K.astype(np.int64))
print('K of float64:', as_float)
print('K of int64:  ', as_int)
assert np.array_equal(as_float, K)
assert np.array_equal(as_int, K.view(np.float64)) and 0 < as_int[0] < 1e-300
try:
    there_and_back(K.astype(np.float32))
except ValueError as error:
    print('K of float32:', error)
else:
    raise SystemExit('float32 is taken now')
EOF
