# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Markers for RViz: where they are, that RViz accepts them, and that they go away."""

import numpy as np
import pytest
from helpers.cameras import make_camera
from helpers.faces import MODEL, head_pose, make_face

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from face_pose_ros.ros.drawing import markers
from face_pose_ros.ros.drawing.markers import face_markers
from face_pose_ros.ros.drawing.style import AXIS_M, SIGMAS

HEADER = Header(stamp=Time(sec=12, nanosec=345), frame_id='camera_optical')
CAMERA = make_camera('plumb_bob_5')
SHAPE = np.linspace(-1.5, 2, len(MODEL.shape_names))
FACE = make_face(CAMERA, head_pose((0.1, -0.2, 1.5), (0.3, -0.4, 0.2)), 'front_f00042', 42, SHAPE)
OTHER = make_face(CAMERA, head_pose((-0.3, 0.1, 2.5)), 'front_f00007', 7)


def drawn(*faces, gone=()) -> list[Marker]:
    return list(face_markers(faces, gone, HEADER, MODEL).markers)


def drawn_as(ns: str, face=FACE) -> Marker:
    (marker,) = [m for m in drawn(face) if m.ns == ns]
    return marker


def transform(marker: Marker) -> np.ndarray:
    p, q = marker.pose.position, marker.pose.orientation
    quat_xyzw = [q.x, q.y, q.z, q.w]
    assert np.linalg.norm(quat_xyzw) == pytest.approx(1)
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(quat_xyzw).as_matrix()
    T[:3, 3] = p.x, p.y, p.z
    return T


def points_in_frame(marker: Marker) -> np.ndarray:
    T = transform(marker)
    return (
        np.array([[p.x, p.y, p.z] for p in marker.points]).reshape(-1, 3) @ T[:3, :3].T + T[:3, 3]
    )


def half_axes(marker: Marker) -> np.ndarray:
    return 0.5 * np.array([marker.scale.x, marker.scale.y, marker.scale.z])


def in_camera(xyz_head) -> np.ndarray:
    return np.asarray(xyz_head) @ FACE.T_cam_head[:3, :3].T + FACE.T_cam_head[:3, 3]


def test_each_face_has_one_marker_in_each_namespace():
    keys = [(m.ns, m.id) for m in drawn(FACE, OTHER)]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {(ns, number) for ns in markers.NAMESPACES for number in (42, 7)}


def test_every_marker_carries_the_header_and_expires():
    for marker in drawn(FACE, OTHER):
        assert marker.header == HEADER
        assert marker.action == Marker.ADD
        assert 0 < marker.lifetime.sec + 1e-9 * marker.lifetime.nanosec <= 1


def test_rviz_accepts_every_marker():
    """The conditions under which RViz 2 shows a warning or an error beside a marker."""
    for marker in drawn(FACE, OTHER):
        scale = np.array([marker.scale.x, marker.scale.y, marker.scale.z])
        assert np.isfinite(scale).all()
        assert np.isfinite(points_in_frame(marker)).all()
        assert len(marker.colors) in (0, len(marker.points))
        assert marker.color.a > 0
        if marker.type == Marker.TRIANGLE_LIST:
            assert len(marker.points) % 3 == 0
            assert scale.tolist() == [1, 1, 1]
        elif marker.type == Marker.LINE_LIST:
            assert len(marker.points) % 2 == 0
            assert scale[0] > 0
            assert scale[1] == scale[2] == 0
        elif marker.type == Marker.ARROW:
            assert len(marker.points) == 2
            assert (scale > 0).all()
        elif marker.type == Marker.SPHERE:
            assert (scale > 0).all()
        else:
            assert marker.type == Marker.TEXT_VIEW_FACING
            assert marker.text
            assert scale[2] > 0


def test_mesh_is_the_persons_own_face():
    xyz_head = MODEL.points(SHAPE[None])[0]
    expected = in_camera(xyz_head[MODEL.triangles.ravel()])
    np.testing.assert_allclose(points_in_frame(drawn_as('mesh')), expected, atol=1e-9)
    # Millimetres from the mean face, so that the mean would be noticed.
    assert np.abs(xyz_head - MODEL.xyz_head).max() > 0.003


def test_axes_are_red_green_blue_for_x_y_z():
    marker = drawn_as('axes')
    ends = points_in_frame(marker).reshape(3, 2, 3)
    np.testing.assert_allclose(ends[:, 0], in_camera(np.zeros((3, 3))), atol=1e-9)
    np.testing.assert_allclose(ends[:, 1], in_camera(AXIS_M * np.eye(3)), atol=1e-9)
    colours = np.array([[c.r, c.g, c.b] for c in marker.colors])
    assert colours.argmax(1).tolist() == [0, 0, 1, 1, 2, 2]


def test_gaze_leaves_the_face_along_its_x():
    start, end = points_in_frame(drawn_as('gaze'))
    np.testing.assert_allclose(start, FACE.T_cam_head[:3, 3], atol=1e-9)
    direction = (end - start) / np.linalg.norm(end - start)
    np.testing.assert_allclose(direction, FACE.T_cam_head[:3, 0], atol=1e-9)


@pytest.mark.parametrize('seed', range(8))
def test_ellipsoid_is_that_of_the_position(seed):
    # Some of these have eigenvectors that are a mirror image of a rotation.
    square_root = np.random.default_rng(seed).normal(size=(6, 6)) * [0.01, 0.02, 0.1, 1, 1, 1]
    covariance = square_root.T @ square_root
    face = make_face(CAMERA, FACE.T_cam_head, covariance=covariance)
    marker = drawn_as('position_covariance', face)
    T = transform(marker)
    np.testing.assert_allclose(T[:3, 3], FACE.T_cam_head[:3, 3], atol=1e-12)
    drawn_covariance = T[:3, :3] @ np.diag(half_axes(marker) ** 2) @ T[:3, :3].T
    np.testing.assert_allclose(
        drawn_covariance, SIGMAS**2 * covariance[:3, :3], rtol=1e-6, atol=1e-9
    )


def test_ellipsoid_without_extent_is_still_a_sphere():
    singular = np.zeros((6, 6))
    singular[2, 2] = -1e-18  # by rounding
    face = make_face(CAMERA, FACE.T_cam_head, covariance=singular)
    assert (half_axes(drawn_as('position_covariance', face)) > 0).all()


def test_the_doubt_of_the_distance_is_a_flat_needle_towards_the_camera():
    ray = FACE.position / FACE.distance
    sideways = np.eye(3) - np.outer(ray, ray)
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = 0.06**2 * np.outer(ray, ray) + 0.003**2 * sideways
    marker = drawn_as(
        'position_covariance', make_face(CAMERA, FACE.T_cam_head, covariance=covariance)
    )
    half = half_axes(marker)
    longest = transform(marker)[:3, :3][:, half.argmax()]
    assert abs(longest @ ray) == pytest.approx(1)
    np.testing.assert_allclose(np.sort(half), SIGMAS * np.array([0.003, 0.003, 0.06]), rtol=1e-6)
    # White, beside a gaze ray of the face's colour.
    assert marker.color.r == marker.color.g == marker.color.b == 1
    assert drawn_as('gaze').color != marker.color


def test_label_stands_above_the_head():
    marker = drawn_as('label')
    assert marker.text == 'front_f00042 1.52 m'
    p = marker.pose.position
    np.testing.assert_allclose([p.x, p.y, p.z], in_camera([0, 0, 0.16]), atol=1e-9)
    # Readable on a dark background, whatever the face's colour.
    assert marker.color.r == marker.color.g == marker.color.b == marker.color.a == 1


def test_a_face_that_is_gone_is_deleted_everywhere():
    before = {(m.ns, m.id) for m in drawn(FACE, OTHER) if m.id == 42}
    after = drawn(OTHER, gone=[42])
    deleted = [m for m in after if m.action == Marker.DELETE]
    assert {(m.ns, m.id) for m in deleted} == before
    assert {m.id for m in after if m.action == Marker.ADD} == {7}
    assert all(m.header == HEADER for m in deleted)


def test_no_face_is_an_empty_array():
    assert drawn() == []


def test_the_message_survives_the_wire():
    msg = face_markers([FACE], [7], HEADER, MODEL)
    data = serialize_message(msg)
    again = deserialize_message(data, MarkerArray)
    assert [(m.ns, m.id, m.action) for m in again.markers] == [
        (m.ns, m.id, m.action) for m in msg.markers
    ]
    # Not the bytes: what pads them is left as it was.
    assert deserialize_message(serialize_message(again), MarkerArray) == again
    assert [m.points for m in again.markers] == [m.points for m in msg.markers]
