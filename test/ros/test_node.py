# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node in-process: real portraits in, poses and TF out; bad messages, one warning each."""

import array
import time

import numpy as np
import pytest
from helpers.portraits import portrait_view, without_face

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

import cv2
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from helpers.depth_messages import compressed_depth_msg
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from face_pose_ros.ros.conversions import camera_info_msg
from face_pose_ros.ros.node import PoseNode

pytestmark = pytest.mark.dds

RGB, CAMERA = portrait_view()


class Robot:
    """A camera and a consumer around the pose node."""

    def __init__(self, ros, **parameters):
        self.ros = ros
        self.warnings, self.silences = [], []
        self.node = PoseNode(
            context=ros.context,
            use_global_arguments=False,
            parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()],
        )
        logger = self.node.get_logger()
        self.node.get_logger = lambda: _Recorder(logger, self.warnings, self.silences)
        assert self.node.autostart()
        ros.add(self.node)
        self.robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
        compressed = parameters.get('image_transport') == 'compressed'
        self.image_pub = self.robot.create_publisher(
            CompressedImage if compressed else Image, self.node.image_topic, 10
        )
        info_qos = QoSProfile(depth=10)
        if parameters.get('camera_info_is_latched'):
            info_qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
        self.info_pub = self.robot.create_publisher(CameraInfo, 'camera_info', info_qos)
        self.received = {}
        for topic, kind in {
            'face_pose/pose': PoseStamped,
            'face_pose/pose_with_covariance': PoseWithCovarianceStamped,
            'face_pose/poses': PoseArray,
            'face_pose/faces/f00001/pose': PoseStamped,
            'face_pose/faces/f00001/pose_with_covariance': PoseWithCovarianceStamped,
            '/tf': TFMessage,
        }.items():
            self.received[topic] = []
            self.robot.create_subscription(
                kind, topic, self.received[topic].append, QoSProfile(depth=100)
            )
        ros.wait_for(lambda: self.image_pub.get_subscription_count() == 1)
        ros.wait_for(lambda: self.info_pub.get_subscription_count() == 1)
        # What is published before the publisher knows of a subscription is lost.
        ros.wait_for(
            lambda: all(
                publisher.get_subscription_count()
                for publisher in self.node.publishers
                if publisher.topic_name.removeprefix('/') in self.received
                or publisher.topic_name in self.received
            )
        )
        self.count = 0

    def header(self, **kwargs) -> Header:
        self.count += 1
        stamp = Time(sec=1000 + self.count, nanosec=123456789)
        return Header(**{'stamp': stamp, 'frame_id': 'camera_optical', **kwargs})

    def send(self, image, info=None) -> None:
        self.image_pub.publish(image)
        self.info_pub.publish(info or camera_info_msg(CAMERA, image.header))

    def answers(self) -> list:
        return self.received['face_pose/poses']

    def wait_for_answer_to(self, header: Header) -> PoseArray:
        self.ros.wait_for(lambda: any(a.header == header for a in self.answers()))
        return next(a for a in self.answers() if a.header == header)

    def wait_for_warning(self, text: str) -> str:
        self.ros.wait_for(lambda: any(text in w for w in self.warnings))
        return next(w for w in self.warnings if text in w)


class _Recorder:
    """A logger whose warnings can be read; on a busy machine silence may be among them."""

    def __init__(self, logger, warnings, silences):
        self._logger = logger
        self._warnings = warnings
        self._silences = silences

    def warning(self, text):
        is_silence = text.startswith('no message on')
        (self._silences if is_silence else self._warnings).append(text)
        self._logger.warning(text)

    def __getattr__(self, name):
        return getattr(self._logger, name)


def image_msg(header: Header, rgb: np.ndarray = RGB, encoding: str = 'rgb8') -> Image:
    height, width = rgb.shape[:2]
    data = array.array('B')
    data.frombytes(rgb.tobytes())
    return Image(
        header=header, height=height, width=width, encoding=encoding, step=3 * width, data=data
    )


@pytest.fixture
def robot(ros):
    return Robot(ros)


def test_a_portrait_becomes_poses_and_frames_with_the_images_header(robot):
    header = robot.header()
    robot.send(image_msg(header))
    answer = robot.wait_for_answer_to(header)
    assert len(answer.poses) == 1
    for topic in ('face_pose/pose', 'face_pose/pose_with_covariance', '/tf'):
        robot.ros.wait_for(lambda topic=topic: robot.received[topic])
    pose = robot.received['face_pose/pose'][0]
    assert pose.header == header
    assert pose.pose == answer.poses[0]
    assert 0.6 < pose.pose.position.z < 1.2
    with_covariance = robot.received['face_pose/pose_with_covariance'][0]
    assert with_covariance.header == header
    assert with_covariance.pose.pose == pose.pose
    covariance = np.array(with_covariance.pose.covariance).reshape(6, 6)
    np.testing.assert_allclose(covariance, covariance.T, rtol=1e-9)
    assert np.linalg.eigvalsh(covariance).min() > 0
    head, gaze = robot.received['/tf'][0].transforms
    assert head.child_frame_id == 'face_f00001'
    assert gaze.child_frame_id == 'gaze_f00001'
    for transform in (head, gaze):
        assert transform.header == header
    p, t = pose.pose.position, head.transform.translation
    assert max(abs(p.x - t.x), abs(p.y - t.y), abs(p.z - t.z)) < 1e-6
    assert head.transform.rotation == pose.pose.orientation


def test_every_face_has_topics_of_its_own(robot):
    topic = 'face_pose/faces/f00001/pose'
    waitables = len(list(robot.node.waitables))

    def publish_and_look():
        robot.send(image_msg(robot.header()))
        return robot.received[topic] and robot.received[topic + '_with_covariance']

    robot.ros.wait_for(publish_and_look)
    assert robot.received[topic][0].header in [a.header for a in robot.answers()]
    assert len(list(robot.node.waitables)) == waitables  # the executor has no more work


def test_a_lost_face_takes_its_topics_along(robot):
    robot.send(image_msg(robot.header()))
    robot.ros.wait_for(lambda: robot.robot.count_publishers('face_pose/faces/f00001/pose') == 1)
    header = robot.header(stamp=Time(sec=9000))
    robot.send(image_msg(header, without_face(RGB)))
    assert len(robot.wait_for_answer_to(header).poses) == 0
    robot.ros.wait_for(lambda: robot.robot.count_publishers('face_pose/faces/f00001/pose') == 0)


def test_no_face_is_an_ordinary_answer(robot):
    header = robot.header()
    robot.send(image_msg(header, without_face(RGB)))
    assert len(robot.wait_for_answer_to(header).poses) == 0
    assert robot.received['face_pose/pose'] == []
    assert robot.warnings == []


def test_compressed_images(ros):
    robot = Robot(ros, image_transport='compressed')
    assert robot.node.image_topic == '/image/compressed'
    header = robot.header()
    data = cv2.imencode('.jpg', RGB[..., ::-1])[1].tobytes()
    robot.send(CompressedImage(header=header, format='jpeg', data=data))
    assert len(robot.wait_for_answer_to(header).poses) == 1
    bad = CompressedImage(header=robot.header(), format='jpeg', data=b'none')
    robot.send(bad)
    assert robot.wait_for_warning('expected a picture that OpenCV decodes').startswith(
        '/image/compressed: '
    )


def test_a_remapped_compressed_topic_is_the_one_in_messages(ros):
    node = PoseNode(
        context=ros.context,
        use_global_arguments=False,
        cli_args=['--ros-args', '-r', 'image/compressed:=/cam/picture'],
        parameter_overrides=[Parameter('image_transport', value='compressed')],
    )
    assert ros.add(node).image_topic == '/cam/picture'


def test_a_compressed_depth_image_makes_the_distance_metric(ros):
    pytest.importorskip('torch', reason='needs torch (make cuda)')
    from helpers.depth import face_depth

    robot = Robot(ros, use_depth=True, depth_transport='compressedDepth')
    estimator, size = robot.node.pipeline.estimator, 0.84  # a child of six
    (face,) = estimator.estimate(RGB, CAMERA)
    shape, T = face.shape.copy(), face.T_cam_head.copy()
    shape[0] = (size - 1) / estimator.model.size_sigma
    T[:3, 3] *= size
    z_mm = np.round(1000 * face_depth(estimator.model, shape, T, CAMERA)).astype(np.uint16)
    depth_pub = robot.robot.create_publisher(CompressedImage, 'depth/compressedDepth', 10)
    info_pub = robot.robot.create_publisher(CameraInfo, 'depth_camera_info', 10)
    for publisher in (depth_pub, info_pub):
        ros.wait_for(lambda publisher=publisher: publisher.get_subscription_count() == 1)
    for codec in ('png', 'rvl', 'png'):
        header = robot.header()
        depth_pub.publish(compressed_depth_msg(z_mm, codec, header))
        info_pub.publish(camera_info_msg(CAMERA, header))
        robot.send(image_msg(header))
        (pose,) = robot.wait_for_answer_to(header).poses
    position = pose.position.x, pose.position.y, pose.position.z
    assert np.linalg.norm(position) == pytest.approx(size * face.distance, rel=0.02)
    assert not robot.warnings


def truncated(header):
    msg = image_msg(header)
    del msg.data[-1000:]
    return msg


def with_zero_K(header):
    info = camera_info_msg(CAMERA, header)
    info.k = [0.0] * 9
    return info


@pytest.mark.parametrize(
    ('make_image', 'make_info', 'topic', 'expected'),
    [
        (truncated, None, '/image', 'bytes of data, expected 921600'),
        (
            lambda h: image_msg(h, encoding='rgb9'),
            None,
            '/image',
            'expected one of mono8, mono16, rgb8',
        ),
        (
            lambda h: image_msg(h, np.ascontiguousarray(RGB[:-2])),
            None,
            '/image',
            'is 512 x 598 px, expected 512 x 600 px as in /camera_info',
        ),
        (image_msg, with_zero_K, '/camera_info', 'K[0] is 0: the camera is not calibrated'),
    ],
    ids=['truncated', 'encoding', 'size', 'zero K'],
)
def test_bad_message_is_one_warning_and_the_node_goes_on(
    robot, make_image, make_info, topic, expected
):
    for _ in range(3):
        header = robot.header()
        robot.send(make_image(header), make_info(header) if make_info else None)
    warning = robot.wait_for_warning(expected)
    assert warning.startswith(topic)
    header = robot.header()
    robot.send(image_msg(header))
    assert len(robot.wait_for_answer_to(header).poses) == 1
    assert len(robot.warnings) == 1
    assert all(a.header == header for a in robot.answers())


def test_frame_id_mismatch_warns_and_poses_are_in_the_images_frame(robot):
    header = robot.header()
    other = Header(stamp=header.stamp, frame_id='elsewhere')
    robot.send(image_msg(header), camera_info_msg(CAMERA, other))
    warning = robot.wait_for_warning("frame_id 'elsewhere', expected the image's 'camera_optical'")
    assert warning.startswith('/camera_info')
    assert robot.wait_for_answer_to(header).header.frame_id == 'camera_optical'


def test_images_without_camera_info_are_one_warning(robot):
    def warned():
        robot.image_pub.publish(image_msg(robot.header()))
        return robot.warnings

    robot.ros.wait_for(warned)
    warning = robot.wait_for_warning('no CameraInfo on /camera_info')
    assert 'expected one with the same stamp' in warning
    header = robot.header()
    robot.send(image_msg(header))
    robot.wait_for_answer_to(header)
    assert len(robot.warnings) == 1


def test_stamps_that_are_never_equal_but_near_are_paired_with_one_warning(robot):
    def answered():
        header = robot.header()
        near = Header(
            stamp=Time(sec=header.stamp.sec, nanosec=123459789), frame_id='camera_optical'
        )
        robot.send(image_msg(header), camera_info_msg(CAMERA, near))
        return len(robot.answers()) > 2

    robot.ros.wait_for(answered)
    warning = robot.wait_for_warning('less than a millisecond (+3 us): the nearest are paired')
    assert warning.startswith('stamps on /camera_info and /image are never equal')
    assert len(robot.warnings) == 1


def test_a_latched_camera_info_holds_for_every_image(ros):
    robot = Robot(ros, camera_info_is_latched=True)
    robot.info_pub.publish(camera_info_msg(CAMERA, Header(frame_id='camera_optical')))

    def answered():
        robot.image_pub.publish(image_msg(robot.header()))
        return len(robot.answers()) > 2

    ros.wait_for(answered)
    assert len(robot.answers()[-1].poses) == 1


def test_camera_info_is_refreshed_when_it_changes(robot):
    first, second = robot.header(), robot.header()
    robot.send(image_msg(first))
    z = robot.wait_for_answer_to(first).poses[0].position.z
    info = camera_info_msg(CAMERA, second)
    info.k[0] *= 2
    info.k[4] *= 2
    robot.send(image_msg(second), info)
    # Twice the focal length puts the same picture at twice the distance.
    assert robot.wait_for_answer_to(second).poses[0].position.z == pytest.approx(2 * z, rel=0.05)


def test_newest_frame_wins(robot, monkeypatch):
    estimator = robot.node.pipeline.estimator
    track = estimator.track

    def slowly(*arguments):
        time.sleep(0.1)
        return track(*arguments)

    monkeypatch.setattr(estimator, 'track', slowly)
    headers = [robot.header() for _ in range(12)]
    for header in headers:
        robot.send(image_msg(header))
    robot.wait_for_answer_to(headers[-1])
    stamps = [a.header.stamp.sec for a in robot.answers()]
    assert stamps == sorted(stamps)
    assert len(stamps) < len(headers)


def test_a_failing_network_costs_one_frame(robot, monkeypatch):
    def fail(*args):
        raise RuntimeError('out of memory')

    with monkeypatch.context() as patch:
        patch.setattr(robot.node.pipeline.estimator, 'track', fail)
        robot.send(image_msg(robot.header()))
        robot.wait_for_warning("frame from /image lost: RuntimeError('out of memory')")
    header = robot.header()
    robot.send(image_msg(header))
    assert len(robot.wait_for_answer_to(header).poses) == 1


def test_markers_and_overlay_are_published_for_subscribers(robot):
    header = robot.header()
    robot.send(image_msg(header))
    robot.wait_for_answer_to(header)
    seen = {MarkerArray: [], Image: []}
    for kind, topic in ((MarkerArray, 'markers'), (Image, 'overlay')):
        robot.robot.create_subscription(kind, f'face_pose/{topic}', seen[kind].append, 10)
        robot.ros.wait_for(
            lambda topic=topic: robot.robot.count_subscribers(f'face_pose/{topic}') == 1
        )

    def both():
        robot.send(image_msg(robot.header()))
        return all(seen.values())

    robot.ros.wait_for(both)
    headers = [answer.header for answer in robot.answers()]
    markers, overlay = seen[MarkerArray][-1].markers, seen[Image][-1]
    assert {marker.ns for marker in markers} >= {'mesh', 'axes', 'gaze', 'label'}
    assert all(marker.header in headers for marker in markers)
    assert overlay.header in headers
    assert (overlay.width, overlay.height, overlay.encoding) == (512, 600, 'rgb8')
    drawn = np.frombuffer(overlay.data, np.uint8).reshape(RGB.shape)
    changed = (drawn != RGB).any(axis=-1)
    assert 0.02 < changed.mean() < 0.5
