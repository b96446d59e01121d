# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The reason why a topic is silent, from the graph of nodes and topics."""

import time

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: make setup, or a distribution')

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from face_pose_ros.ros import silence
from face_pose_ros.ros.silence import CAMERA_INFO, COMPRESSED, IMAGE, SilenceWatch, why_silent
from face_pose_ros.ros.topics import sensor_data

pytestmark = pytest.mark.dds

KINDS = {IMAGE: Image, COMPRESSED: CompressedImage, CAMERA_INFO: CameraInfo}
ARGUMENTS = {IMAGE: 'image', COMPRESSED: 'image', CAMERA_INFO: 'camera_info'}
DEPTH, INFO = '/cam/depth/image_raw', (CameraInfo, 'camera_info')


@pytest.fixture
def nodes(ros):
    """A listener, and a camera driver that publishes as another process would."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros.domain_id)
    driver = Node('driver', namespace='cam', context=context, use_global_arguments=False)
    yield ros.add(Node('face_pose', context=ros.context, use_global_arguments=False)), driver
    driver.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize(
    ('published', 'topic', 'kind', 'expected'),
    [
        ({}, '/image', IMAGE, 'no node publishes /image, nor any other Image'),
        (
            {'/cam/image_raw': Image, '/cam/points': PointCloud2},
            '/image',
            IMAGE,
            'no node publishes /image; Image is published on /cam/image_raw: '
            'image:=/cam/image_raw',
        ),
        (
            {'/cam/image_raw/compressed': CompressedImage},
            '/cam/image_raw/compressed',
            IMAGE,
            '/cam/image_raw/compressed is a CompressedImage, expected Image: '
            'image:=/cam/image_raw image_transport:=compressed',
        ),
        (
            {'/cam/image_raw/compressed': CompressedImage},
            '/cam/image_raw/compressed/compressed',
            COMPRESSED,
            'no node publishes /cam/image_raw/compressed/compressed; /cam/image_raw/compressed is '
            'a CompressedImage: image:=/cam/image_raw image_transport:=compressed',
        ),
        (
            {'/cam/image_raw/compressed': CompressedImage},
            '/cam/image_raw',
            IMAGE,
            'no node publishes /cam/image_raw; /cam/image_raw/compressed is a CompressedImage: '
            'image:=/cam/image_raw image_transport:=compressed',
        ),
        (
            {'/cam/image_raw': Image},
            '/cam/image_raw/compressed',
            COMPRESSED,
            'no node publishes /cam/image_raw/compressed; /cam/image_raw is a Image: '
            'image:=/cam/image_raw image_transport:=raw',
        ),
        (
            {'/cam/picture': CompressedImage},
            '/cam/picture',
            IMAGE,
            '/cam/picture is a CompressedImage, expected Image: image_transport compressed, with '
            'the remapping image/compressed:=/cam/picture',
        ),
        (
            {'/cam/picture': CompressedImage, '/cam/depth/compressedDepth': CompressedImage},
            '/cam/pictures/compressed',
            COMPRESSED,
            'no node publishes /cam/pictures/compressed; CompressedImage is published on '
            '/cam/picture: image_transport compressed, with the remapping '
            'image/compressed:=/cam/picture',
        ),
        (
            {'/cam/camera_info': CameraInfo, '/depth/camera_info': CameraInfo},
            '/cam/info',
            CAMERA_INFO,
            'no node publishes /cam/info; CameraInfo is published on /cam/camera_info, '
            '/depth/camera_info: camera_info:=/cam/camera_info',
        ),
        ({'/info': Image}, '/info', CAMERA_INFO, '/info is a Image, expected CameraInfo'),
        (
            {'/image': Image},
            '/image',
            IMAGE,
            '/cam/driver publishes /image, but no message has arrived: it may not have started '
            'yet, or large images are lost, see docs/troubleshooting.md',
        ),
    ],
)
def test_reason_and_way_out(ros, nodes, published, topic, kind, expected):
    listener, driver = nodes
    listener.create_subscription(KINDS[kind], topic, lambda _: None, sensor_data())
    for name, published_kind in published.items():
        driver.create_publisher(published_kind, name, 1)
    ros.wait_for(lambda: all(listener.count_publishers(name) for name in published))
    ros.wait_for(lambda: why_silent(listener, topic, kind, ARGUMENTS[kind])[0] == expected)


@pytest.mark.parametrize(
    ('published', 'topic', 'kind', 'expected'),
    [
        (
            {f'{DEPTH}/compressedDepth': CompressedImage},
            DEPTH,
            IMAGE,
            f'no node publishes {DEPTH}; {DEPTH}/compressedDepth is a CompressedImage: '
            f'depth:={DEPTH} depth_transport:=compressedDepth',
        ),
        (
            {f'{DEPTH}/compressed': CompressedImage},
            f'{DEPTH}/compressedDepth',
            COMPRESSED,
            f'no node publishes {DEPTH}/compressedDepth; {DEPTH}/compressed is a CompressedImage: '
            f'depth:={DEPTH} depth_transport:=compressed',
        ),
        (
            {DEPTH: Image},
            f'{DEPTH}/compressedDepth',
            COMPRESSED,
            f'no node publishes {DEPTH}/compressedDepth; {DEPTH} is a Image: '
            f'depth:={DEPTH} depth_transport:=raw',
        ),
        (
            {DEPTH: Image},
            '/depth',
            IMAGE,
            f'no node publishes /depth; Image is published on {DEPTH}: depth:={DEPTH}',
        ),
        (
            {f'{DEPTH}/compressedDepth': CompressedImage},
            '/depth/compressed',
            COMPRESSED,
            f'no node publishes /depth/compressed; CompressedImage is published on '
            f'{DEPTH}/compressedDepth: depth:={DEPTH} depth_transport:=compressedDepth',
        ),
    ],
)
def test_reason_and_way_out_of_a_depth_image(ros, nodes, published, topic, kind, expected):
    listener, driver = nodes
    for name, published_kind in published.items():
        driver.create_publisher(published_kind, name, 1)
    ros.wait_for(lambda: all(listener.count_publishers(name) for name in published))
    ros.wait_for(lambda: why_silent(listener, topic, kind, 'depth')[0] == expected)


def test_a_nodes_own_images_are_not_suggested(ros, nodes):
    listener, _ = nodes
    listener.create_publisher(Image, '/face_pose/overlay', 1)
    ros.wait_for(lambda: listener.count_publishers('/face_pose/overlay'))
    expected = 'no node publishes /image, nor any other Image'
    assert why_silent(listener, '/image', IMAGE, 'image') == (expected, False)


def test_a_quality_of_service_that_does_not_fit_is_named(ros, nodes):
    listener, driver = nodes
    latched = QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
    listener.create_subscription(CameraInfo, '/info', lambda _: None, latched)
    driver.create_publisher(CameraInfo, '/info', 1)
    ros.wait_for(lambda: listener.count_publishers('/info'))
    expected = "/cam/driver publishes /info with a QoS that does not fit this node's: Volatile "
    what = '/info', CAMERA_INFO, 'camera_info'
    ros.wait_for(lambda: why_silent(listener, *what)[0].startswith(expected))
    reason, is_published = why_silent(listener, *what)
    assert not is_published
    assert 'qos_overrides./info.subscription.' in reason


def test_each_silent_topic_is_spoken_of_once_and_no_more_when_it_speaks(ros, nodes, monkeypatch):
    monkeypatch.setattr(silence, '_PATIENCE_S', 0.0)
    reported = []
    watch = SilenceWatch(
        nodes[0],
        {'/image': (Image, 'image'), '/info': INFO},
        lambda topic, waited_s, reason: reported.append((topic, reason)),
    )
    watch.received('/info')
    watch.check()
    watch.check()
    assert reported == [('/image', 'no node publishes /image, nor any other Image')]
    nodes[1].create_publisher(Image, '/cam/image', 1)

    def told_of_another():
        watch.check()
        return len(reported) == 2

    ros.wait_for(told_of_another)
    assert 'image:=/cam/image' in reported[1][1]


def test_nothing_is_reported_at_once(nodes):
    watch = SilenceWatch(nodes[0], {'/info': INFO}, lambda *_: pytest.fail('too early'))
    watch.check()


def test_a_camera_that_is_found_has_time_to_start(ros, nodes, monkeypatch):
    monkeypatch.setattr(silence, '_PATIENCE_S', 0.0)
    listener, driver = nodes
    reported = []
    watch = SilenceWatch(
        listener,
        {'/image': (Image, 'image')},
        lambda topic, waited_s, reason: reported.append(reason),
    )
    listener.create_subscription(Image, '/image', lambda _: None, sensor_data())
    begin_s = time.monotonic()

    def check_after(duration_s):
        with monkeypatch.context() as patch:
            patch.setattr(time, 'monotonic', lambda: begin_s + duration_s)
            watch.check()

    check_after(60)
    assert reported == ['no node publishes /image, nor any other Image']
    driver.create_publisher(Image, '/image', 1)
    ros.wait_for(lambda: why_silent(listener, '/image', IMAGE, 'image')[1])
    check_after(65)
    assert len(reported) == 1
    check_after(80)
    assert 'it may not have started yet' in reported[1]
