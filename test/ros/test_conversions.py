# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses as messages, without a node."""

import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion
from scipy.spatial.transform import Rotation
from std_msgs.msg import Header

from face_pose_ros.geometry import rotations
from face_pose_ros.results import FacePose, Fit
from face_pose_ros.ros import conversions

HEADER = Header(stamp=Time(sec=12, nanosec=345), frame_id='camera_optical')


@pytest.fixture
def face():
    T = np.eye(4)
    T[:3, :3] = rotations.exp([0.3, -0.8, 2.0])
    T[:3, 3] = 0.1, -0.2, 1.5
    covariance = np.arange(36.0).reshape(6, 6)
    return FacePose(
        T_cam_head=T,
        covariance=covariance,
        keypoints_uv=np.zeros((478, 2)),
        keypoints_sigma_px=np.ones(478),
        box_xyxy=np.zeros(4),
        score=1.0,
        shape=np.zeros(0),
        shape_covariance=np.zeros((0, 0)),
        fit=Fit(covariance, np.zeros((6, 0)), ''),
        id='f00042',
    )


def rotation_of(q) -> np.ndarray:
    return rotations.from_quat_xyzw([q.x, q.y, q.z, q.w])


def test_pose_messages_carry_the_header_and_the_pose(face):
    for msg, pose in (
        (conversions.pose_stamped_msg(face, HEADER), lambda m: m.pose),
        (conversions.pose_with_covariance_msg(face, HEADER), lambda m: m.pose.pose),
        (conversions.pose_array_msg([face], HEADER), lambda m: m.poses[0]),
    ):
        assert msg.header == HEADER
        p = pose(msg).position
        assert (p.x, p.y, p.z) == (0.1, -0.2, 1.5)
        np.testing.assert_allclose(
            rotation_of(pose(msg).orientation), face.T_cam_head[:3, :3], atol=1e-9
        )


def test_covariance_is_row_major(face):
    msg = conversions.pose_with_covariance_msg(face, HEADER)
    assert list(msg.pose.covariance) == list(range(36))


def test_face_and_gaze_frames_follow_rep_155(face):
    head, gaze = conversions.face_transforms([face], HEADER)
    assert (head.child_frame_id, gaze.child_frame_id) == ('face_f00042', 'gaze_f00042')
    assert head.header == gaze.header == HEADER
    R_head = rotation_of(head.transform.rotation)
    R_gaze = rotation_of(gaze.transform.rotation)
    np.testing.assert_allclose(R_gaze[:, 2], R_head[:, 0], atol=1e-9)  # z along the face's x
    np.testing.assert_allclose(R_gaze[:, 0], -R_head[:, 1], atol=1e-9)  # x right, not left
    np.testing.assert_allclose(R_gaze[:, 1], -R_head[:, 2], atol=1e-9)  # y down, not up
    assert head.transform.translation == gaze.transform.translation


def test_without_a_frame_there_are_no_transforms(face):
    assert conversions.face_transforms([face], Header(stamp=HEADER.stamp)) == []


def test_transform_is_the_messages_rotation_and_position():
    rotation = Rotation.from_rotvec([0.3, -0.8, 2.0])
    x, y, z, w = rotation.as_quat()
    T = conversions.transform(Point(x=1.0, y=2.0, z=3.0), Quaternion(x=x, y=y, z=z, w=w))
    np.testing.assert_allclose(T[:3, :3], rotation.as_matrix(), atol=1e-12)
    assert T[:, 3].tolist() == [1, 2, 3, 1]


@pytest.mark.parametrize(
    ('position', 'orientation'),
    [
        (Point(x=float('nan')), Quaternion()),
        (Point(), Quaternion(w=0.0)),
        (Point(), Quaternion(w=float('nan'))),
    ],
)
def test_what_is_no_pose_is_refused(position, orientation):
    with pytest.raises(ValueError, match='expected finite numbers, a unit quaternion'):
        conversions.transform(position, orientation)
