# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's camera as a node: pictures with their calibration, and clear errors at start."""

import re
import time

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from face_pose_ros.ros.camera_info import camera_from_info
from face_pose_ros.ros.conversions import camera_info_msg
from face_pose_ros.ros.demo import demo_camera
from face_pose_ros.ros.demo.scenes import Scene, Shot
from face_pose_ros.ros.images import image_to_rgb
from face_pose_ros.virtual_camera import lens_camera

pytestmark = pytest.mark.dds

WIDTH, HEIGHT = 96, 64
K = [80.0, 0.0, 50.25, 0.0, 82.0, 29.5, 0.0, 0.0, 1.0]
D = [-0.3, 0.1, 0.001, -0.002, 0.0]
NS = 1_000_000_000


def matrix(rows: int, cols: int, data) -> dict:
    return {'rows': rows, 'cols': cols, 'data': list(data)}


@pytest.fixture
def calibration(tmp_path):
    path = tmp_path / 'camera.yaml'
    document = {
        'image_width': WIDTH,
        'image_height': HEIGHT,
        'distortion_model': 'plumb_bob',
        'camera_matrix': matrix(3, 3, K),
        'distortion_coefficients': matrix(1, 5, D),
        'rectification_matrix': matrix(3, 3, np.eye(3).ravel().tolist()),
        'projection_matrix': matrix(3, 4, [70.0, 0, 50, 0, 0, 70.0, 30, 0, 0, 0, 1, 0]),
    }
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'pictures'
    path.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for i, rgb in enumerate(noise):
        cv2.imwrite(str(path / f'{i}.png'), rgb[..., ::-1])
    return path, noise


class Watcher:
    """Receives all that a demo camera sends."""

    def __init__(self, ros):
        self.ros = ros
        self.node = ros.add(Node('watcher', context=ros.context, use_global_arguments=False))
        self.images, self.infos, self.transforms = [], [], []
        self.node.create_subscription(
            TFMessage, '/tf', self.transforms.append, QoSProfile(depth=9)
        )
        self.subscribe(CameraInfo, 'camera_info', self.infos)

    def subscribe(self, kind, topic, received):
        self.node.create_subscription(kind, topic, received.append, qos_profile_sensor_data)

    def start(self, **parameters):
        camera = demo_camera.DemoCamera(
            context=self.ros.context,
            use_global_arguments=False,
            parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()],
        )
        self.ros.wait_for(lambda: camera.count_subscribers('camera_info') == 1)
        self.ros.wait_for(lambda: camera.count_subscribers('/tf') == 1)
        # A reader that does not know the writer yet would lose the first picture.
        self.ros.wait_for(lambda: self.node.count_publishers('image') == 1)
        return self.ros.add(camera)

    def watch(self):
        self.subscribe(Image, 'image', self.images)

    def assert_waits(self, camera):
        """Its timer runs, and there is no subscriber."""
        answers, is_watched = [], camera._is_watched
        camera._is_watched = lambda: answers.append(is_watched()) or answers[-1]
        self.ros.wait_for(lambda: len(answers) > 2)
        assert not any(answers)


@pytest.fixture
def watcher(ros):
    return Watcher(ros)


def ns(header) -> int:
    return header.stamp.sec * NS + header.stamp.nanosec


def test_a_folder_with_its_calibration(watcher, folder, calibration):
    path, pictures = folder
    camera = watcher.start(source=str(path), calibration=str(calibration), rate_hz=50.0)
    watcher.assert_waits(camera)
    watcher.watch()
    watcher.ros.wait_for(lambda: camera.finished)
    watcher.ros.wait_for(lambda: len(watcher.infos) == len(watcher.images) == 4)

    for image, info, rgb in zip(watcher.images, watcher.infos, pictures, strict=True):
        assert image.header == info.header
        assert image.header.frame_id == 'demo_camera_optical'
        np.testing.assert_array_equal(image_to_rgb(image), rgb)
    stamps_ns = [ns(image.header) for image in watcher.images]
    assert np.diff(stamps_ns).min() > 0
    info = watcher.infos[0]
    assert (info.width, info.height, info.distortion_model) == (WIDTH, HEIGHT, 'plumb_bob')
    assert (list(info.k), list(info.d), info.p[0]) == (K, D, 70.0)
    assert watcher.transforms == []


def test_with_the_node_a_folder_of_mixed_sizes_is_shown_one_by_one(watcher, folder):
    path, pictures = folder
    odd = pictures[3, :50, :80]
    cv2.imwrite(str(path / '3.png'), odd[..., ::-1])
    answer = watcher.node.create_publisher(PoseArray, 'face_pose/poses', 10)
    watcher.watch()
    camera = watcher.start(source=str(path), horizontal_fov_deg=60, rate_hz=100, with_node=True)
    for count in (1, 2, 3, 4):
        watcher.ros.wait_for(lambda count=count: len(watcher.images) == count)
        assert not camera.finished
        answer.publish(PoseArray(header=watcher.images[-1].header))
    watcher.ros.wait_for(lambda: camera.finished)
    assert len(watcher.images) == 4
    np.testing.assert_array_equal(image_to_rgb(watcher.images[-1]), odd)
    assert [(info.width, info.height) for info in watcher.infos[-2:]] == [
        (WIDTH, HEIGHT),
        (80, 50),
    ]
    focal_px = [info.k[0] / info.width for info in watcher.infos]
    np.testing.assert_allclose(focal_px, 0.5 / np.tan(np.deg2rad(30)))


def test_an_unprocessed_image_is_repeated_once_and_named(watcher, folder, monkeypatch, capfd):
    monkeypatch.setattr(demo_camera, '_PROCESSING_S', 0.2)
    watcher.node.create_publisher(PoseArray, 'face_pose/poses', 10)
    watcher.watch()
    camera = watcher.start(source=str(folder[0]), horizontal_fov_deg=60.0, with_node=True)
    watcher.ros.wait_for(lambda: camera.finished)
    watcher.ros.wait_for(lambda: len(watcher.images) == 8)
    assert '0.png was not processed' in capfd.readouterr().err


def test_a_guess_is_published_with_a_warning(watcher, folder, capfd):
    watcher.start(source=str(folder[0]), horizontal_fov_deg=60.0, loop=True, frame_id='eye')
    watcher.watch()
    # More than there are, so it has begun again.
    watcher.ros.wait_for(lambda: len(watcher.images) > 8)
    camera = camera_from_info(watcher.infos[0])
    np.testing.assert_allclose([camera.fx, camera.fy], 0.5 * WIDTH / np.tan(np.deg2rad(30)))
    assert not camera.dist.any()
    assert watcher.images[0].header.frame_id == 'eye'
    assert 'is guessed from parameter horizontal_fov_deg: 60 deg' in capfd.readouterr().err


def test_the_virtual_camera_waits_for_the_pose_node_and_sends_its_turn(watcher, monkeypatch):
    def shot(level, R):
        rgb = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
        return Shot(rgb, lens_camera(K, WIDTH, HEIGHT, 'equidistant'), R)

    turn = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0], [-0.8, 0.0, 0.6]])
    scenes = [
        Scene('astronaut', [shot(1, np.eye(3)), shot(2, turn)], 3),
        Scene('', [shot(3, turn)], 1),
    ]
    monkeypatch.setattr(demo_camera, 'make_scenes', lambda with_depth: scenes)
    camera = watcher.start()
    watcher.watch()
    watcher.ros.wait_for(lambda: camera._image_pub.get_subscription_count() == 1)
    watcher.assert_waits(camera)
    watcher.node.create_publisher(PoseArray, 'face_pose/poses', 10)
    watcher.ros.wait_for(lambda: camera.finished)
    watcher.ros.wait_for(lambda: len(watcher.images) == len(watcher.transforms) == 4)

    assert [image.data[0] for image in watcher.images] == [1, 2, 2, 3]
    expected = camera_info_msg(scenes[0].shots[0].camera, watcher.images[0].header)
    assert watcher.infos[0] == expected
    names = [[t.child_frame_id for t in msg.transforms] for msg in watcher.transforms]
    assert names == [['demo_camera_optical', 'portrait_astronaut']] * 3 + [['demo_camera_optical']]
    rotation = watcher.transforms[1].transforms[0].transform.rotation
    assert rotation.w == pytest.approx(np.sqrt(0.8))
    assert rotation.y == pytest.approx(np.sqrt(0.2))
    assert watcher.transforms[1].transforms[0].header.stamp == watcher.images[1].header.stamp


class Webcam:
    """A webcam whose pictures are a quarter of a second old."""

    def __init__(self, pictures):
        self.left = pictures

    def isOpened(self):
        return True

    def set(self, name, value):
        pass

    def get(self, name):
        return 1000 * (time.monotonic() - 0.25)

    def getBackendName(self):
        return 'V4L2'

    def grab(self):
        time.sleep(0.01)
        self.left -= 1
        return self.left >= 0

    def retrieve(self):
        return True, np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def test_a_webcams_images_carry_the_time_when_they_were_taken(watcher, calibration, monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', lambda index: Webcam(10_000))
    camera = watcher.start(source='webcam:0', calibration=str(calibration))
    ages_s = []

    def take_age(image):
        ages_s.append(1e-9 * (camera.get_clock().now().nanoseconds - ns(image.header)))

    watcher.node.create_subscription(Image, 'image', take_age, qos_profile_sensor_data)
    # On a busy machine most of them come late.
    watcher.ros.wait_for(lambda: len(ages_s) > 10 and min(ages_s) < 0.4)
    assert min(ages_s) >= 0.25


@pytest.fixture
def run(process_env, monkeypatch, capfd):
    """Runs the program in this process; gives the only line it wrote to stderr and its status."""
    monkeypatch.setenv('ROS_DOMAIN_ID', process_env['ROS_DOMAIN_ID'])
    monkeypatch.setenv('OPENCV_FFMPEG_LOGLEVEL', '-8')
    level = cv2.getLogLevel()

    def run_main(**parameters):
        args = [a for k, v in parameters.items() for a in ('-p', f'{k}:={v}')]
        with pytest.raises(SystemExit) as exit_info:
            demo_camera.main(['--ros-args', *args])
        fatal, *rest = [line for line in capfd.readouterr().err.splitlines() if 'INFO' not in line]
        assert rest == []
        assert '[FATAL]' in fatal
        return fatal, exit_info.value.code

    yield run_main
    cv2.setLogLevel(level)


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'source': 'webcam:0'}, 'source webcam:0 needs one of the parameters calibration'),
        (
            {'source': 'FOLDER', 'calibration': 'YAML', 'horizontal_fov_deg': '60.0'},
            'needs one of the parameters calibration, a YAML',
        ),
        ({'source': 'webcam:97', 'horizontal_fov_deg': '60.0'}, 'webcam:97 does not open'),
        ({'source': 'YAML', 'horizontal_fov_deg': '60.0'}, 'no video that OpenCV can read'),
        ({'source': '/nix.mp4', 'calibration': 'YAML'}, "'/nix.mp4' does not exist"),
        ({'source': 'FOLDER', 'calibration': '/nix.yaml'}, '/nix.yaml: No such file'),
        ({'rate_hz': '20.0'}, 'rate_hz does not apply to source virtual'),
        ({'source': 'webcam:0', 'loop': 'true'}, 'loop does not apply to source webcam:0'),
        ({'source': 'FOLDER', 'rate_hz': 'fast'}, 'parameter rate_hz .* expecting type'),
        ({'fov_deg': '60'}, 'fov_deg does not exist; did you mean horizontal_fov_deg?'),
        (
            {'source': 'FOLDER', 'horizontal_fov_deg': '190.0'},
            'horizontal_fov_deg .* out of range',
        ),
    ],
)
def test_a_bad_start_is_one_line_and_status_1(run, folder, calibration, parameters, message):
    paths = {'FOLDER': folder[0], 'YAML': calibration}
    line, status = run(**{k: paths.get(v, v) for k, v in parameters.items()})
    assert status == 1
    assert re.search(message, line), line


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('image_width', 97, r'is for 97 x 64 px, expected 96 x 64 px as source'),
        ('camera_matrix', matrix(3, 3, [0.0] * 9), 'K[0] is 0: the camera is not calibrated'),
        ('distortion_model', 'magic', "distortion_model 'magic' is not known"),
    ],
)
def test_a_calibration_that_does_not_belong_to_the_images(
    run, folder, calibration, field, value, message
):
    document = {**yaml.safe_load(calibration.read_text()), field: value}
    calibration.write_text(yaml.safe_dump(document))
    line, status = run(source=folder[0], calibration=calibration)
    assert status == 1
    assert f'calibration file {calibration}' in line
    assert message in line


def test_a_webcam_that_stops_ends_the_node(run, calibration, monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', lambda index: Webcam(2))
    line, status = run(source='webcam:0', calibration=calibration)
    assert status == 1
    assert 'webcam:0 stopped delivering pictures' in line
