# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Converts poses and cameras to messages and back: pure functions, no node, no context."""

from __future__ import annotations

import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseArray,
    PoseStamped,
    PoseWithCovarianceStamped,
    Quaternion,
    TransformStamped,
    Vector3,
)
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.results import FacePose
from face_pose_ros.ros.compat import quat_xyzw_from_matrix

# gaze_<id>: z along the face's x, x to the person's right, y down (REP-155).
R_HEAD_GAZE = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def camera_info_msg(
    camera: Camera, header: Header, R: NDArray[np.float64] | None = None
) -> CameraInfo:
    """CameraInfo of a camera without region of interest or binning."""
    K = camera.K
    P = np.hstack([K, np.zeros((3, 1))])
    dist = camera.dist
    if camera.distortion_model == 'plumb_bob':
        dist = dist[:5]
    return CameraInfo(
        header=header,
        width=camera.width,
        height=camera.height,
        distortion_model=camera.distortion_model,
        d=dist.tolist(),
        k=K.ravel().tolist(),
        r=(np.eye(3) if R is None else R).ravel().tolist(),
        p=P.ravel().tolist(),
    )


def image_msg(pixels: NDArray, encoding: str, header: Header) -> Image:
    """Image of pixels (H, W) or (H, W, C), whose type is that of the encoding."""
    # rclpy checks all types except array.array number by number.
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(pixels).data.cast('B'))
    height, width = pixels.shape[:2]
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        step=pixels.nbytes // height,
        data=data,
    )


def stamp_ns(stamp: Time) -> int:
    """A stamp in nanoseconds; faster than rclpy's Time."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def transform(position: Point | Vector3, orientation: Quaternion) -> NDArray[np.float64]:
    """Matrix (4, 4) of a Pose's or Transform's two parts.

    Raises:
        ValueError: A number is not finite, or the quaternion is not of unit length.
    """
    t = np.array([position.x, position.y, position.z])
    quat_xyzw = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    if not (np.isfinite(t).all() and abs(np.linalg.norm(quat_xyzw) - 1) < 1e-3):
        raise ValueError(
            f'position {t}, quaternion {quat_xyzw}: expected finite numbers, a unit quaternion'
        )
    return rotations.from_rt(rotations.from_quat_xyzw(quat_xyzw), t)


def pose_msg(T_a_b: NDArray[np.float64]) -> Pose:
    """Pose of a transform (4, 4)."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = map(float, T_a_b[:3, 3])
    o = pose.orientation
    o.x, o.y, o.z, o.w = map(float, quat_xyzw_from_matrix(T_a_b[:3, :3]))
    return pose


def pose_stamped_msg(face: FacePose, header: Header) -> PoseStamped:
    """The head's pose in the frame of the header."""
    return PoseStamped(header=header, pose=pose_msg(face.T_cam_head))


def pose_with_covariance_msg(face: FacePose, header: Header) -> PoseWithCovarianceStamped:
    """The head's pose and its covariance: x, y, z, rotation about the header frame's x, y, z."""
    msg = PoseWithCovarianceStamped(header=header)
    msg.pose.pose = pose_msg(face.T_cam_head)
    msg.pose.covariance = face.covariance.ravel().tolist()
    return msg


def pose_array_msg(faces: Sequence[FacePose], header: Header) -> PoseArray:
    """Poses of all heads."""
    return PoseArray(header=header, poses=[pose_msg(face.T_cam_head) for face in faces])


def transform_msg(T_a_b: NDArray[np.float64], header: Header, child: str) -> TransformStamped:
    """Transform (4, 4) of frame `child` in the frame of the header."""
    msg = TransformStamped(header=header, child_frame_id=child)
    t, pose = msg.transform.translation, pose_msg(T_a_b)
    t.x, t.y, t.z = pose.position.x, pose.position.y, pose.position.z
    msg.transform.rotation = pose.orientation
    return msg


def face_messages(faces: Sequence[FacePose], header: Header) -> Iterator[tuple[str, Any]]:
    """Topics, below the node's name, and messages of all faces of an image and of the nearest."""
    yield 'poses', pose_array_msg(faces, header)
    prefixed = [(f'faces/{face.id}/', face) for face in faces]
    if faces:
        prefixed.append(('', min(faces, key=lambda face: face.distance)))
    for prefix, face in prefixed:
        yield f'{prefix}pose', pose_stamped_msg(face, header)
        yield f'{prefix}pose_with_covariance', pose_with_covariance_msg(face, header)


def face_transforms(faces: Iterable[FacePose], header: Header) -> list[TransformStamped]:
    """Frames face_<id> and gaze_<id> of REP-155, all children of the header's frame.

    None if the header has no frame, which TF needs.
    """
    transforms = []
    for face in faces if header.frame_id else ():
        T_cam_gaze = face.T_cam_head.copy()
        T_cam_gaze[:3, :3] = face.T_cam_head[:3, :3] @ R_HEAD_GAZE
        transforms += [
            transform_msg(face.T_cam_head, header, f'face_{face.id}'),
            transform_msg(T_cam_gaze, header, f'gaze_{face.id}'),
        ]
    return transforms


def type_name(kind: type) -> str:
    """Name of a message's type, such as 'sensor_msgs/msg/Image'."""
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
