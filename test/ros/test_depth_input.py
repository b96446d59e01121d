# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images: paired, read, registered; each problem is reported once, with topic and cause."""

import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from builtin_interfaces.msg import Time
from helpers.cameras import make_camera
from helpers.depth_messages import compressed_depth_msg, depth_msg
from std_msgs.msg import Header

from face_pose_ros.results import DepthEvidence
from face_pose_ros.ros.conversions import camera_info_msg
from face_pose_ros.ros.depth_input import DepthInput

CAMERA = make_camera('plumb_bob_5')
FRAME, PERIOD_NS = 'colour_optical', 33_000_000
GOOD = DepthEvidence(visible=60, measured=50, agreeing=45, size_ratio=1.02)


def header(i, off_ns=0, frame=FRAME):
    ns = i * PERIOD_NS + off_ns
    return Header(stamp=Time(sec=7 + ns // 10**9, nanosec=ns % 10**9), frame_id=frame)


def some_depth(kind=np.uint16):
    z = 800 + np.arange(CAMERA.width * CAMERA.height) % 1300
    z = z.reshape(CAMERA.height, CAMERA.width)
    return z.astype(np.uint16) if kind == np.uint16 else (0.001 * z).astype(np.float32)


class Face:
    def __init__(self, depth):
        self.depth = depth


@pytest.fixture
def depth():
    def no_tf(target, source, stamp):
        raise ValueError(f"TF does not connect '{target}' and '{source}'")

    found = DepthInput('/cam/depth', '/cam/depth/camera_info', 0.02, False, no_tf)
    found.add_info(camera_info_msg(CAMERA, header(0)))
    return found


def findings_of(depth, images, make):
    """Findings after so many images, each with the depth message that `make` gives."""
    findings = []
    for i in range(images):
        depth.add_image(make(i))
        depth.at(header(i))
        findings += depth.news()
    return findings


def test_the_nearest_stamp_within_the_bound_is_taken(depth):
    for i in (3, 4, 5):
        z = some_depth()
        z[0, 0] = i
        depth.add_image(depth_msg(z, header(i, 7_000_000)))
    assert depth.at(header(4)).z[0, 0] == 4
    assert depth.at(header(4, 25_000_000)).z[0, 0] == 5
    assert depth.at(header(8)) is None
    assert not depth.findings


@pytest.mark.parametrize('codec', ['png', 'rvl'])
def test_a_compressed_depth_image_is_taken(codec, depth):
    depth.add_image(compressed_depth_msg(some_depth(), codec, header(3)))
    np.testing.assert_array_equal(depth.at(header(3)).z, some_depth())


def test_no_finding_while_a_message_is_missing(depth):
    assert DepthInput('/a', '/b', 0.02, False, None).at(header(0)) is None
    assert depth.at(header(0)) is None
    assert not depth.news()


def test_memory_of_depth_images_is_bounded(depth):
    for i in range(30):
        depth.add_image(depth_msg(some_depth(), header(i)))
    assert depth.at(header(2)) is None
    assert depth.at(header(29)) is not None


def cut(msg):
    msg.data = msg.data[:500]
    return msg


WRONG = {
    'another stamp': (
        lambda i: depth_msg(some_depth(), header(i, 900_000_000)),
        's later than the image, expected at most 0.02 s',
    ),
    'empty': (lambda i: depth_msg(0 * some_depth(), header(i)), 'no pixel has a depth'),
    'saturated': (
        lambda i: depth_msg(np.full_like(some_depth(), 65535), header(i)),
        'all pixels are 65535',
    ),
    'of another size': (
        lambda i: depth_msg(some_depth()[:100, :200].copy(), header(i)),
        '200 x 100 px, expected',
    ),
    'of another encoding': (
        lambda i: depth_msg(some_depth(), header(i), encoding='mono8'),
        "encoding 'mono8'",
    ),
    'damaged': (
        lambda i: cut(compressed_depth_msg(some_depth(), 'png', header(i))),
        "bytes of format '16UC1; compressedDepth png', expected a PNG",
    ),
    'of a frame without TF': (
        lambda i: depth_msg(some_depth(), header(i, frame='depth_optical')),
        "TF does not connect 'colour_optical' and 'depth_optical'",
    ),
}


@pytest.mark.parametrize('name', WRONG)
def test_a_wrong_depth_image_is_reported_once_with_topic_and_cause(name, depth):
    make, text = WRONG[name]
    findings = findings_of(depth, 12, make)
    assert len(findings) == 1
    assert findings[0].text.startswith('/cam/depth')
    assert text in findings[0].text
    assert depth.at(header(11)) is None
    assert depth.findings[0].key == findings[0].key
    assert depth.state.startswith('/cam/depth')


def test_a_slow_depth_camera_is_named_and_used_where_it_fits(depth):
    findings, used = [], 0
    for i in range(40):  # 3 depth images a second beside 30 images
        if i % 10 == 0:
            depth.add_image(depth_msg(some_depth(), header(i)))
        used += depth.at(header(i)) is not None
        depth.judge([Face(GOOD)] if i % 10 == 0 else [])
        findings += depth.news()
    assert used == 4
    (finding,) = findings
    assert 'depth images come as often as images' in finding.text


@pytest.mark.parametrize('name', WRONG)
def test_an_occasional_wrong_depth_image_is_not_reported(name, depth):
    make, _ = WRONG[name]
    for i in range(40):
        depth.add_image(make(i) if i % 4 else depth_msg(some_depth(), header(i)))
        depth.at(header(i))
        depth.judge([Face(GOOD)] if i % 4 == 0 else [])
    assert not depth.news()


@pytest.mark.parametrize(
    ('evidence', 'text'),
    [
        (DepthEvidence(60, 50, 0, 1004.0), 'in millimetres, expected metres'),
        (DepthEvidence(60, 50, 0, 0.00103), 'in metres, expected millimetres'),
        (DepthEvidence(60, 50, 0, 2.3), 'does not fit the faces. Check that it is aligned'),
    ],
)
def test_depth_that_does_not_fit_the_faces_is_reported_once(evidence, text, depth):
    findings = []
    for _ in range(9):
        depth.judge([Face(evidence)])
        findings += depth.news()
    assert [text in finding.text for finding in findings] == [True]
    depth.judge([Face(GOOD)])
    assert not depth.findings
    assert depth.state == '1 of 1 faces have a depth'


def test_a_face_beyond_the_depth_cameras_range_is_not_judged(depth):
    for _ in range(30):
        depth.judge([Face(DepthEvidence(60, 2, 0, 4.0)), Face(None)])
    assert not depth.findings


def test_a_depth_camera_in_a_frame_of_its_own_is_registered_by_tf():
    T = np.eye(4)
    T[:3, 3] = 0.015, -0.002, 0.003
    requested = []
    depth = DepthInput('/d', '/i', 0.02, False, lambda *what: requested.append(what[:2]) or T)
    depth.add_info(camera_info_msg(CAMERA, header(0)))
    depth.add_image(depth_msg(some_depth(), header(0, frame='depth_optical')))
    np.testing.assert_array_equal(depth.at(header(0)).T_cam_depth, T)
    assert requested == [(FRAME, 'depth_optical')]
    assert depth.needs_tf
