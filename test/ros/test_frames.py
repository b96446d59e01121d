# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Transforms looked up in TF."""

import sys
import threading

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from face_pose_ros.ros.frames import Frames

pytestmark = pytest.mark.dds

TURNED = Quaternion(z=np.sin(np.pi / 4), w=np.cos(np.pi / 4))  # 90 deg about z


def step(parent, child, ms=0, x=0.0, rotation=None):
    return TransformStamped(
        header=Header(stamp=stamp(ms), frame_id=parent),
        child_frame_id=child,
        transform=Transform(translation=Vector3(x=x), rotation=rotation or Quaternion()),
    )


def stamp(ms):
    return Time(sec=100 + ms // 1000, nanosec=ms % 1000 * 1_000_000)


@pytest.fixture
def frames(ros):
    return Frames(ros.add(Node('frames', context=ros.context, use_global_arguments=False)))


@pytest.fixture
def publish_tf(ros, frames):
    """Publish on TF as a robot would; returns when it has arrived."""
    node = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    pubs = {
        '/tf': node.create_publisher(TFMessage, '/tf', 100),
        '/tf_static': node.create_publisher(TFMessage, '/tf_static', latched),
    }

    def publish_tf(topic, *steps):
        def arrived():
            pubs[topic].publish(TFMessage(transforms=list(steps)))
            return all(s.child_frame_id in frames._moving | frames._static for s in steps)

        ros.wait_for(arrived)

    return publish_tf


def test_through_a_common_parent(frames, publish_tf):
    publish_tf('/tf_static', step('base', 'camera', x=0.5, rotation=TURNED))
    publish_tf('/tf', step('base', 'tool', x=2.0))
    T_camera_tool = frames.lookup('camera', 'tool', stamp(0))
    # 1.5 m ahead of the camera's origin along base x, which is the camera's -y.
    np.testing.assert_allclose(T_camera_tool[:3, 3], [0, -1.5, 0], atol=1e-12)
    np.testing.assert_allclose(
        frames.lookup('tool', 'camera', stamp(0)) @ T_camera_tool, np.eye(4), atol=1e-12
    )


def test_along_a_chain(frames, publish_tf):
    publish_tf('/tf', step('map', 'base', x=1.0, rotation=TURNED), step('base', 'camera', x=0.5))
    # The x axis of the base is along map y, and the camera is in front of it.
    T_map_camera = frames.lookup('map', 'camera', stamp(0))
    np.testing.assert_allclose(T_map_camera[:3, 3], [1, 0.5, 0], atol=1e-12)


def test_the_transform_nearest_in_time_counts(frames, publish_tf):
    publish_tf('/tf', *(step('base', 'camera', ms=ms, x=ms / 1000) for ms in (0, 20, 40, 60)))
    for ms, x in ((-5, 0.0), (28, 0.02), (33, 0.04), (90, 0.06)):
        assert frames.lookup('base', 'camera', stamp(ms))[0, 3] == x


def test_a_frame_in_itself(frames):
    np.testing.assert_array_equal(frames.lookup('camera', 'camera', stamp(0)), np.eye(4))


def test_a_missing_or_unusable_transform_is_an_error(frames, publish_tf):
    publish_tf('/tf', step('base', 'camera'), step('b', 'a'), step('a', 'b'))
    with pytest.raises(ValueError, match="TF does not connect 'map' and 'camera'"):
        frames.lookup('map', 'camera', stamp(0))
    with pytest.raises(ValueError, match=r"TF of 'camera' is 2\.0 s from the stamp"):
        frames.lookup('base', 'camera', stamp(2000))
    with pytest.raises(ValueError, match='does not connect'):  # and does not hang
        frames.lookup('base', 'a', stamp(0))


def test_a_transform_may_arrive_during_a_lookup(frames):
    # The node looks up in its worker's thread, while the executor's receives.
    interval_s, found = sys.getswitchinterval(), threading.Event()
    frames._on_tf(TFMessage(transforms=[step('base', 'camera', x=0.7)] * 200))

    def receive():
        while not found.is_set():
            frames._on_tf(TFMessage(transforms=[step('base', 'camera', x=0.7)]))

    receiving = threading.Thread(target=receive)
    sys.setswitchinterval(1e-6)
    receiving.start()
    try:
        for _ in range(100):
            assert frames.lookup('base', 'camera', stamp(0))[0, 3] == 0.7
    finally:
        sys.setswitchinterval(interval_s)
        found.set()
        receiving.join()


def test_frames_that_are_no_longer_sent_are_forgotten(frames, monkeypatch):
    # Every person is two frames on /tf, which end with the track.
    now_s = 50.0
    monkeypatch.setattr('face_pose_ros.ros.frames.time.monotonic', lambda: now_s)
    for person in range(1000):
        now_s += 1.0
        faces = [step('camera', f'{kind}_f{person:05d}') for kind in ('face', 'gaze')]
        frames._on_tf(TFMessage(transforms=[step('base', 'camera', x=0.7), *faces]))
    assert frames.lookup('base', 'face_f00999', stamp(0))[0, 3] == 0.7
    assert len(frames._moving) < 30
    with pytest.raises(ValueError, match='does not connect'):
        frames.lookup('base', 'face_f00001', stamp(0))
