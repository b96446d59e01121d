# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Diagnostics: levels that mean something, rates and latencies over the last seconds."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from ros.test_node import Robot, image_msg

from face_pose_ros.ros.diagnostics import Monitor
from face_pose_ros.ros.node import PoseNode
from face_pose_ros.ros.plausibility import Finding

ROOT = Path(__file__).resolve().parents[2]
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
ABOUT = {'image topic': '/image', 'camera_info topic': '/camera_info', 'device': 'cpu'}


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def monitor(clock):
    return Monitor(clock)


def read(monitor, state='active'):
    camera, poses, device = monitor.statuses('face_pose', state, ABOUT)
    assert [s.name for s in (camera, poses, device)] == [
        'face_pose: camera',
        'face_pose: poses',
        'face_pose: device',
    ]
    return camera, poses, device


def values(status):
    return {v.key: v.value for v in status.values}


def stream(monitor, clock, seconds, rate_hz=20, processed=True):
    for _ in range(round(seconds * rate_hz)):
        clock.now_s += 1 / rate_hz
        monitor.image_received()
        if processed:
            monitor.camera_state('plumb_bob, 640 x 480 px', calibrated=True)
            monitor.frame_processed({'convert': 0.001, 'estimate': 0.030}, 1, ['f00001'])


def test_a_running_camera_is_ok_and_has_rates_and_latencies(monitor, clock):
    stream(monitor, clock, 12)
    camera, poses, device = read(monitor)
    assert [s.level for s in (camera, poses, device)] == [OK, OK, OK]
    assert float(values(camera)['images per second']) == pytest.approx(20, abs=0.2)
    assert float(values(poses)['processed images per second']) == pytest.approx(20, abs=0.2)
    assert values(poses)['estimate, p50 / p95 [ms]'] == '30.0 / 30.0'
    assert values(poses)['ids'] == 'f00001'
    assert values(device)['device'] == 'cpu'


def test_before_the_first_image_it_waits(monitor):
    camera, poses, _ = read(monitor)
    assert (camera.level, camera.message) == (WARN, 'no image on /image yet')
    assert poses.level == OK
    assert read(monitor, 'inactive')[0].level == OK


def test_no_camera_info_is_an_error(monitor, clock):
    stream(monitor, clock, 1, processed=False)
    camera, poses, _ = read(monitor)
    assert (camera.level, camera.message) == (ERROR, 'no CameraInfo yet')
    assert poses.level == OK  # there is nothing it could answer
    monitor.camera_state('/camera_info: K[0] is 0', calibrated=False)
    assert read(monitor)[0].message == '/camera_info: K[0] is 0'


def test_a_stale_camera_is_a_warning(monitor, clock):
    stream(monitor, clock, 3)
    clock.now_s += 2.5
    camera = read(monitor)[0]
    assert (camera.level, camera.message) == (WARN, 'no image for 2.5 s')


def test_images_that_are_not_processed_are_a_warning(monitor, clock):
    stream(monitor, clock, 1)
    stream(monitor, clock, 11, processed=False)
    poses = read(monitor)[1]
    assert poses.level == WARN
    assert poses.message.startswith('0.0 processed images')


def test_dropped_frames_are_counted_by_reason(monitor):
    for reason in ('size', 'size', 'overtaken'):
        monitor.frame_dropped(reason)
    poses = values(read(monitor)[1])
    assert (poses['dropped: size'], poses['dropped: overtaken']) == ('2', '1')


def test_a_failure_is_an_error_for_a_while_and_named_ever_after(monitor, clock):
    monitor.failed('out of memory')
    device = read(monitor)[2]
    assert (device.level, device.message) == (ERROR, 'out of memory')
    clock.now_s += 11
    device = read(monitor)[2]
    assert device.level == OK
    assert values(device)['last error'] == 'out of memory'


@pytest.mark.dds
def test_the_node_publishes_them_every_second(ros):
    robot = Robot(ros)
    seen = []
    listener = ros.add(Node('listener', context=ros.context, use_global_arguments=False))
    listener.create_subscription(DiagnosticArray, '/diagnostics', seen.append, 10)
    robot.send(image_msg(robot.header()))

    def processed():
        return seen and float(values(seen[-1].status[1])['processed images per second']) > 0

    ros.wait_for(processed)
    camera, poses, _ = seen[-1].status
    assert camera.message == 'plumb_bob, 512 x 600 px'
    assert camera.level == OK
    assert 'since capture, p50 / p95 [ms]' in values(poses)
    count = len(seen)
    ros.wait_for(lambda: len(seen) >= count + 2, timeout_s=8)  # 2 s, and more for a busy machine


@pytest.mark.dds
@pytest.mark.parametrize('name', ['pipeline', '_silence'])
def test_diagnostics_go_on_while_a_transition_frees_what_they_report(ros, name, monkeypatch):
    node = PoseNode(context=ros.context, use_global_arguments=False)
    assert node.autostart()
    reads = iter([getattr(node, name)])  # the transition's thread sets it to None after the first
    monkeypatch.setattr(PoseNode, name, property(lambda _: next(reads, None)), raising=False)
    node._publish_diagnostics()
    node.destroy_node()


def test_the_reason_for_a_silent_topic_is_in_the_message(monitor):
    assert read(monitor)[0].message == 'no image on /image yet'
    monitor.no_image('no node publishes /image')
    assert read(monitor)[0].message == 'no image on /image yet: no node publishes /image'


def test_an_inactive_node_reports_its_state(monitor):
    camera, _, device = read(monitor, 'loading the networks')
    assert camera.message == device.message == 'loading the networks'
    assert camera.level == device.level == OK


def test_a_finding_about_the_camera_is_a_warning_with_key_and_value(monitor, clock):
    monitor.image_received()
    finding = Finding('binning', '2 x 2, K fits 640 x 360 px', 'binning is applied twice')
    monitor.camera_state('plumb_bob, 640 x 360 px', calibrated=True, findings=[finding])
    camera, _, _ = read(monitor)
    assert (camera.level, camera.message) == (WARN, 'binning is applied twice')
    assert values(camera)['binning'] == '2 x 2, K fits 640 x 360 px'
    clock.now_s += 2.5
    assert read(monitor)[0].message == 'no image for 2.5 s; binning is applied twice'


def test_faces_that_were_dropped_for_want_of_a_direction_are_counted(monitor):
    monitor.frame_processed({}, 1, ['f00001'], without_rays=3)
    assert values(read(monitor)[1])['faces without ray'] == '3'


@pytest.mark.parametrize('node', ['face_pose', 'robot/left/face_pose'])
def test_the_aggregator_file_has_one_place_for_every_status(monitor, node):
    file = yaml.safe_load((ROOT / 'config' / 'diagnostics.yaml').read_text())
    parameters = file['analyzers']['ros__parameters']
    analyzers = [value for value in parameters.values() if isinstance(value, dict)]
    taken = [
        [a['path'] for a in analyzers if any(part in status.name for part in a['contains'])]
        for status in monitor.statuses(node, 'active', ABOUT)
    ]
    assert taken == [['Cameras'], ['Poses'], ['Devices']]
    assert all(a['type'] == 'diagnostic_aggregator/GenericAnalyzer' for a in analyzers)
