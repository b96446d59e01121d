#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: an Image whose rows are padded (step > width x bytes per pixel, which the message
# allows), converted by the cv_bridge that pip installs.
# Seen with cv_bridge 1.13.0.post0: imgmsg_to_cv2() ignores `step`. The padding of each row becomes
# the first pixels of the next; the picture is sheared, without an error. yuv422, yuv422_yuy2 and
# nv12, which are names in sensor_msgs, are a bare KeyError.
# Why it matters: 638 pixels in rows of 640 bytes become a slanted picture, in which a detector
# finds no face. Cut the rows with numpy: np.frombuffer(data).reshape(height, step)[:, :used].
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    cv-bridge==1.13.0.post0 ros-sensor-msgs==5.5.1 opencv-python-headless==4.11.0.86 numpy==2.2.6
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
import array
from importlib.metadata import version
import cv2  # before cv_bridge, which needs it
import cv_bridge
from sensor_msgs.msg import Image

names = 'cv-bridge', 'ros-sensor-msgs', 'opencv-python-headless', 'numpy'
print(*(f'{name} {version(name)}' for name in names))


def converted(encoding, height, width, step, data):
    message = Image(height=height, width=width, encoding=encoding, step=step)
    message.data = array.array('B', data)
    return cv_bridge.CvBridge().imgmsg_to_cv2(message).tolist()


tight = converted('mono8', 2, 3, 3, [1, 2, 3, 4, 5, 6])
padded = converted('mono8', 2, 3, 4, [1, 2, 3, 99, 4, 5, 6, 99])
print('step 3:', tight)
print('step 4:', padded)
assert tight == [[1, 2, 3], [4, 5, 6]]
assert padded == [[1, 2, 3], [99, 4, 5]]
for encoding, size in {'yuv422': 16, 'yuv422_yuy2': 16, 'nv12': 12}.items():
    try:
        converted(encoding, 2, 4, 8, bytes(size))
    except KeyError as error:
        print(f'{encoding}: KeyError {error}')
    else:
        raise SystemExit(f'{encoding} is taken now')
EOF
