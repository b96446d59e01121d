"""What may import what: the estimator runs where there is no ROS."""

import subprocess
import sys

import pytest


def modules_loaded_by(module: str, prefixes: tuple[str, ...]) -> str:
    code = f'import sys, {module}; print([m for m in sys.modules if m.startswith({prefixes})])'
    run = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=60
    )
    return run.stdout.strip()


@pytest.mark.parametrize(
    'module', ['face_pose_ros.estimator', 'face_pose_lab.evaluation.camera_rotation']
)
def test_no_ros_import_outside_ros(module):
    assert modules_loaded_by(module, ('rclpy', 'sensor_msgs', 'cv_bridge')) == '[]'


def test_the_estimator_needs_nothing_of_training():
    assert modules_loaded_by('face_pose_ros.estimator', ('face_pose_lab.training',)) == '[]'


@pytest.mark.parametrize('name', ['look_at', 'who_looks'])
def test_consumers_are_light(name):
    pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')
    assert modules_loaded_by(f'face_pose_ros.ros.consumers.{name}', ('torch.', 'cv2')) == '[]'


@pytest.mark.parametrize('name', ['node', 'demo.camera', 'demo.main', 'demo.checker'])
def test_a_robot_without_a_gpu_needs_neither_torch_nor_what_plots(name):
    pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')
    unwanted = ('torch', 'skimage', 'matplotlib')
    assert modules_loaded_by(f'face_pose_ros.ros.{name}', unwanted) == '[]'
