# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Allowed imports: the estimator runs without ROS."""

import os
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


@pytest.mark.parametrize('name', ['node', 'demo.demo_camera', 'demo.checker'])
def test_a_robot_without_a_gpu_needs_neither_torch_nor_what_plots(name):
    pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')
    unwanted = ('torch', 'skimage', 'matplotlib')
    assert modules_loaded_by(f'face_pose_ros.ros.{name}', unwanted) == '[]'


def test_the_node_imports_no_linear_algebra_of_scipy():
    pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')
    assert modules_loaded_by('face_pose_ros.ros.node', ('scipy.linalg', 'scipy.special')) == '[]'


TRACKED = """
import sys
from face_pose_ros import Camera, FacePoseEstimator
from face_pose_ros.samples import load_portraits
image, camera = load_portraits()['astronaut'], Camera.from_fov(512, 512, 28)
estimator = FacePoseEstimator('cpu')
estimator.warm_up()
print(len(estimator.track(image, camera, 0.0)), 'torch' in sys.modules)
"""

ANSWERED = """
import sys
import rclpy
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from face_pose_ros.ros.node import Frame, PoseNode
from face_pose_ros.samples import load_portraits
pixels = load_portraits()['astronaut']
image, info = Image(height=512, width=512, encoding='rgb8', step=1536), CameraInfo()
image.data = pixels.tobytes()
info.height, info.width, info.distortion_model, info.d = 512, 512, 'plumb_bob', [0.0] * 5
info.k = [1027.0, 0.0, 255.5, 0.0, 1027.0, 255.5, 0.0, 0.0, 1.0]
rclpy.init()
node = PoseNode(parameter_overrides=[Parameter('device', value='cpu')])
assert node.autostart()
answer = node.pipeline.answer
node.pipeline.answer = lambda *args: answers.append(answer(*args)) or answers[-1]
answers = []
node.work(Frame(image, info))
print(len(answers[0].faces), 'torch' in sys.modules)
"""


def printed_by(code: str, **env: str) -> str:
    run = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | env,
    )
    return run.stdout.strip() or run.stderr


def test_tracking_on_a_cpu_needs_no_torch():
    pytest.importorskip('openvino', reason='without OpenVINO torch runs the networks')
    assert printed_by(TRACKED) == '1 False'


@pytest.mark.dds
def test_a_node_that_answers_on_a_cpu_needs_no_torch():
    pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')
    pytest.importorskip('openvino', reason='without OpenVINO torch runs the networks')
    domain_coordinator = pytest.importorskip('domain_coordinator')
    with domain_coordinator.domain_id() as domain_id:
        assert printed_by(ANSWERED, ROS_DOMAIN_ID=str(domain_id)) == '1 False'
