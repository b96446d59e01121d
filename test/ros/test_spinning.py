"""An interruption ends spinning in silence, an error does not."""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: make setup, or a distribution')

import rclpy

from face_pose_ros.ros.spinning import until_interrupted


def test_an_interruption_is_no_error():
    with until_interrupted():
        raise KeyboardInterrupt


def test_an_executor_on_a_context_that_has_ended_is_no_error():
    assert not rclpy.ok()
    with until_interrupted():
        raise RuntimeError('failed to initialize wait set')


def test_an_error_of_a_callback_is_one():
    rclpy.init()
    try:
        with pytest.raises(RuntimeError, match='broken'), until_interrupted():
            raise RuntimeError('broken')
    finally:
        rclpy.shutdown()
