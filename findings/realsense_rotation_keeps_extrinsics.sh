#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: depth images turned by librealsense's rotation_filter, for a camera that is mounted on its
# side (realsense-ros: rotation_filter.enable), on a software_device that needs no camera.
# Seen with pyrealsense2 2.59.1.11053: focal lengths, sizes and pixels are turned, so points are in
# a camera that is turned, too. The turned stream's extrinsics to the other streams stay those of
# the camera that is not, and the principal point is one pixel off: width - cx for width - 1 - cx.
# Why it matters: point clouds and depth registered to colour with these extrinsics are turned by
# 90 or 180 deg about the optical axis, in the frame of the camera as it was. Turn the points back,
# or the extrinsics likewise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    pyrealsense2==2.59.1.11053 numpy==2.2.6
cd "$folder"
PYTHONPATH='' venv/bin/python - <<'EOF'
from importlib.metadata import version

import numpy as np
import pyrealsense2 as rs

print('pyrealsense2', version('pyrealsense2'), 'numpy', np.__version__)
width, height, f, (cx, cy) = 64, 48, 60.0, (30.0, 20.0)
device = rs.software_device()


def profile_of(kind, format, bytes_per_pixel):
    stream = rs.video_stream()
    stream.type, stream.fmt, stream.bpp = kind, format, bytes_per_pixel
    stream.width, stream.height, stream.fps, stream.uid = width, height, 30, int(kind)
    lens = rs.intrinsics()
    lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy = width, height, f, f, cx, cy
    stream.intrinsics = lens
    sensor = device.add_sensor(str(kind))
    return sensor, sensor.add_video_stream(stream)


depth_sensor, depth = profile_of(rs.stream.depth, rs.format.z16, 2)
_, colour = profile_of(rs.stream.color, rs.format.rgb8, 3)
depth_sensor.add_read_only_option(rs.option.depth_units, 0.001)
identity = rs.extrinsics()  # one camera for both: depth is aligned to colour
identity.rotation, identity.translation = np.eye(3).ravel().tolist(), [0.0, 0.0, 0.0]
depth.register_extrinsics_to(colour, identity)

pixels = np.full((height, width), 1000, np.uint16)
pixels[10, 50] = 2000  # a point 2 m away, right of and above the axis
frame = rs.software_video_frame()
frame.pixels, frame.bpp, frame.stride, frame.depth_units = pixels, 2, 2 * width, 0.001
frame.profile, frame.timestamp, frame.frame_number = depth.as_video_stream_profile(), 1.0, 1
queue = rs.frame_queue(1)
depth_sensor.open(depth)
depth_sensor.start(queue)
depth_sensor.on_video_frame(frame)
image = queue.wait_for_frame()


def point_in_colour(image):
    """The point [m] in the colour camera, from a depth image and the extrinsics of its stream."""
    ((v, u),) = np.argwhere(np.asanyarray(image.as_depth_frame().get_data()) == 2000)
    profile = image.profile.as_video_stream_profile()
    point = rs.rs2_deproject_pixel_to_point(profile.intrinsics, [float(u), float(v)], 2.0)
    return np.array(rs.rs2_transform_point_to_point(profile.get_extrinsics_to(colour), point))


truth = np.array([2 * (50 - cx) / f, 2 * (10 - cy) / f, 2.0])
print('not turned:', point_in_colour(image).round(3))
assert np.allclose(point_in_colour(image), truth, atol=1e-6)
for angle in 90, -90, 180:
    turn = rs.rotation_filter()
    turn.set_option(rs.option.rotation, angle)
    turned = turn.process(image)
    lens = turned.profile.as_video_stream_profile().intrinsics
    a, (x, y) = np.radians(angle), truth[:2]
    # The same point in a camera that is turned about its axis, but for one pixel.
    as_turned = np.array([np.cos(a) * x - np.sin(a) * y, np.sin(a) * x + np.cos(a) * y, 2.0])
    found = point_in_colour(turned)
    print(f'turned by {angle} deg: {found.round(3)}, principal point ({lens.ppx:g}, {lens.ppy:g})')
    assert np.linalg.norm(found - truth) > 0.5
    assert np.abs(found - as_turned).max() < 2 * 1.01 / f
    expected = {90: (height - cy, cx), -90: (cy, width - cx), 180: (width - cx, height - cy)}
    assert (lens.ppx, lens.ppy) == expected[angle]
    assert turned.profile.get_extrinsics_to(colour).rotation == identity.rotation
EOF
