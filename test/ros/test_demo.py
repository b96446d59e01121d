# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's processes: their parameters, and that the demo ends when one of them does."""

import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

import rclpy
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseArray
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.ros.conversions import image_msg
from face_pose_ros.ros.demo.recorder import VIDEO_HZ, DemoRecorder
from tools import demo

SLEEP = 'import time; time.sleep(60)'
REPORT = """
import signal, sys
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
print('ready', flush=True)
signal.pause()
"""


@pytest.fixture
def run(monkeypatch):
    """Runs the demo with stand-ins for its processes; gives its status and their parameters."""
    monkeypatch.setenv('ROS_DOMAIN_ID', '1')  # no other nodes here
    monkeypatch.setattr(demo, '_LAST_POSES_S', 0.0)
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    processes = []

    def run_main(*args, **codes):
        started = {}

        def start(name, parameters):
            started[name] = parameters
            code = codes.get(name, SLEEP)
            process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)
            processes.append(process)
            if code == REPORT:
                process.stdout.readline()
            return process

        monkeypatch.setattr(demo, '_start', start)
        with pytest.raises(SystemExit) as exit_info:
            demo.main(args)
        return exit_info.value.code, started

    yield run_main
    assert processes
    assert all(process.poll() is not None for process in processes)
    for number, handler in handlers.items():
        signal.signal(number, handler)


dying = pytest.mark.parametrize(
    ('name', 'args'),
    [
        ('pose_node', []),
        ('demo_camera', []),
        ('demo_camera', ['--source', 'a.mp4']),
        ('face_pose_view', ['--view']),
    ],
)


@dying
def test_a_process_that_is_killed_ends_the_demo_and_is_named(run, capfd, name, args):
    status, _ = run(*args, **{name: 'import os; os.kill(os.getpid(), 9)'})

    assert status == 1
    assert f'demo: {name} ended with status -9' in capfd.readouterr().err


@dying
def test_the_reason_of_a_process_that_fails_is_the_last_line(run, capfd, name, args):
    status, _ = run(*args, **{name: 'import sys; sys.exit("no such webcam")'})

    assert status == 1
    assert capfd.readouterr().err == 'no such webcam\n'


def test_after_the_virtual_camera_has_ended_the_checker_reports_in_its_time(run):
    checker = 'import time, sys; time.sleep(1); sys.exit(5)'
    status, started = run(**{'demo_camera': '', 'demo_checker': checker})

    assert status == 5
    assert set(started) == {'pose_node', 'demo_checker', 'demo_camera'}
    assert started['demo_camera'] == {'source': 'virtual', 'with_node': True}
    assert started['demo_checker'] == {'output': 'demo_output'}


def test_after_another_source_has_ended_the_recorder_reports(run):
    status, started = run('--source', 'a.mp4', **{'demo_camera': '', 'demo_recorder': REPORT})

    assert status == 7
    expected = {'source': 'a.mp4', 'with_node': True, 'horizontal_fov_deg': 60.0}
    assert started['demo_camera'] == expected


def test_ctrl_c_asks_for_the_report(run, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo.time, 'sleep', interrupted)
    status, _ = run('--source', 'webcam:0', **{'demo_recorder': REPORT})

    assert status == 7


def test_a_calibration_takes_the_place_of_the_guess(run):
    _, started = run('--source', 'webcam:0', '--calibration', 'camera.yaml', pose_node='')

    expected = {'source': 'webcam:0', 'with_node': True, 'calibration': 'camera.yaml'}
    assert started['demo_camera'] == expected


def test_images_of_a_folder_are_scenes_of_their_own_unless_a_rate_is_stated(run, tmp_path):
    _, started = run('--source', str(tmp_path), pose_node='')
    assert started['demo_camera']['rate_hz'] == 1.0
    assert started['pose_node']['tracking.lost_after_s'] < 1.0
    _, started = run('--source', str(tmp_path), '--rate', '30', pose_node='')
    assert started['demo_camera']['rate_hz'] == 30.0
    assert 'tracking.lost_after_s' not in started['pose_node']


def test_a_former_runs_recording_is_removed(run, tmp_path):
    recording = tmp_path / 'demo.rrd'
    recording.write_text('old')
    run('--output', str(tmp_path), pose_node='')
    assert not recording.exists()


@pytest.mark.parametrize('display', ['DISPLAY', 'WAYLAND_DISPLAY', None])
def test_the_view_is_shown_where_there_is_a_display(run, monkeypatch, display):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    if display:
        monkeypatch.setenv(display, ':1')
    _, started = run('--view', '--output', 'there', pose_node='')

    assert started['face_pose_view'] == {'output': 'there/demo.rrd', 'spawn': display is not None}


def test_parameters_arrive_as_what_they_are(monkeypatch):
    commands = []
    monkeypatch.setattr(subprocess, 'Popen', lambda command, **_: commands.append(command))
    parameters = {'folder': '12', 'text': 'é "b": {', 'angle': 60.0, 'count': 2, 'spawn': True}
    demo._start('pose_node', parameters)

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=1)
    node = Node(
        'started', context=context, cli_args=commands[0][4:], use_global_arguments=False,
        automatically_declare_parameters_from_overrides=True,
    )  # fmt: skip
    found = {name: node.get_parameter(name).value for name in parameters}
    node.destroy_node()
    rclpy.shutdown(context=context)
    assert found == parameters
    assert isinstance(found['angle'], float)


def test_without_the_rerun_sdk_one_line_names_what_to_install():
    code = """
import sys
sys.modules['rerun'] = None
import face_pose_ros.ros.view.view_node
"""
    run = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1
    assert 'pip install --no-deps -r requirements-view.txt' in run.stderr
    assert run.stderr.count('\n') == 1


@pytest.mark.dds
def test_the_recorder_writes_a_video_as_fast_as_it_happened(ros, tmp_path, capsys):
    (tmp_path / 'new').mkdir()
    for name in ('demo.mp4', 'demo.png', 'mine.mp4'):
        (tmp_path / 'new' / name).write_text('of a former run')
    recorder = DemoRecorder(
        context=ros.context,
        use_global_arguments=False,
        parameter_overrides=[Parameter('output', value=str(tmp_path / 'new'))],
    )
    ros.add(recorder)
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    info_pub = robot.create_publisher(CameraInfo, 'camera_info', 10)
    poses_pub = robot.create_publisher(PoseArray, 'face_pose/poses', 10)
    overlay_pub = robot.create_publisher(Image, 'face_pose/overlay', 10)
    for publisher in (info_pub, poses_pub, overlay_pub):
        ros.wait_for(lambda publisher=publisher: publisher.get_subscription_count() == 1)
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['mine.mp4']
    assert not recorder.began
    assert recorder.report() == 1
    assert 'none of 0 images' in capsys.readouterr().out

    # The second picture comes late, and stands for a tenth of a second.
    levels = {0: 40, 600_000_000: 120, 700_000_000: 200}
    begin_s = robot.get_clock().now().seconds_nanoseconds()[0]
    for i, (nanosec, level) in enumerate(levels.items()):
        header = Header(stamp=Time(sec=begin_s, nanosec=nanosec))
        info_pub.publish(CameraInfo(header=header))
        rgb = np.full((48, 64, 3), level, np.uint8)
        # The last picture is of another size.
        sent = rgb if i < 2 else np.full((96, 128, 3), level, np.uint8)
        height, width = sent.shape[:2]
        overlay = Image(
            height=height,
            width=width,
            encoding='rgb8',
            step=3 * width,
            data=sent.tobytes(),
            header=header,
        )
        overlay_pub.publish(overlay)
        poses_pub.publish(PoseArray(header=header, poses=[Pose()] * i))
        ros.wait_for(lambda i=i: len(recorder._heads) == recorder._images == i + 1)
        ros.wait_for(lambda rgb=rgb: np.array_equal(recorder._picture, rgb))
    assert recorder.report() == 0

    started = capsys.readouterr().out
    assert '3 of 3 images processed, 1.00 heads per image' in started
    video = cv2.VideoCapture(str(tmp_path / 'new' / 'demo.mp4'))
    assert video.get(cv2.CAP_PROP_FPS) == VIDEO_HZ
    seen = []
    while (read := video.read())[0]:
        seen.append(read[1].mean())
    np.testing.assert_allclose(seen, [40] * 18 + [120] * 3 + [200], atol=4)


@pytest.mark.parametrize('name', ['demo.mp4', 'demo.rrd'])
def test_a_source_that_the_demo_would_replace_is_kept(tmp_path, monkeypatch, capsys, name):
    source = tmp_path / name
    source.write_bytes(b'film')
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(SystemExit):
        demo.main(['--output', tmp_path.name, '--source', str(source)])
    assert f'this run would replace {source}: copy it' in capsys.readouterr().err
    assert source.read_bytes() == b'film'


def test_stamps_before_1970_are_recorded_too(ros, tmp_path):
    output = Parameter('output', value=str(tmp_path))
    recorder = DemoRecorder(
        context=ros.context, use_global_arguments=False, parameter_overrides=[output]
    )
    ros.add(recorder)
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    publishers = [
        robot.create_publisher(CameraInfo, 'camera_info', 10),
        robot.create_publisher(PoseArray, 'face_pose/poses', 10),
        robot.create_publisher(Image, 'face_pose/overlay', 10),
    ]
    ros.wait_for(lambda: all(p.get_subscription_count() == 1 for p in publishers))
    header = Header(stamp=Time(sec=-5, nanosec=7))
    picture = image_msg(np.zeros((48, 64, 3), np.uint8), 'rgb8', header)
    for publisher, msg in zip(
        publishers, (CameraInfo(header=header), PoseArray(header=header), picture), strict=True
    ):
        publisher.publish(msg)
    ros.wait_for(lambda: recorder._images and recorder._heads and recorder._picture is not None)
    assert recorder.report() == 0
