"""What may import what: the estimator runs where there is no ROS."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize('module', ['face_pose_ros', 'face_pose_ros.evaluation.camera_rotation'])
def test_no_ros_import_outside_ros(module):
    code = (
        f'import sys, {module}; '
        "print([m for m in sys.modules if m.startswith(('rclpy', 'sensor_msgs', 'cv_bridge'))])"
    )
    run = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == '[]'
