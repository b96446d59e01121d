# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""RViz markers of heads: a pure function of faces and header, no node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Vector3
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from face_pose_ros.pose.face_model import FaceModel
from face_pose_ros.results import FacePose
from face_pose_ros.ros.conversions import pose_msg
from face_pose_ros.ros.drawing.draw import face_points
from face_pose_ros.ros.drawing.style import (
    AXIS_COLOURS_RGB,
    AXIS_M,
    DOUBT_OPACITY,
    DOUBT_RGB,
    GAZE_M,
    SIGMAS,
    TEXT_RGB,
    Rgb,
    face_colour_rgb,
    face_label,
)

NAMESPACES = ('mesh', 'axes', 'gaze', 'position_covariance', 'label')
LIFETIME_S = 0.5  # markers expire after this time, even if the node dies

_LINE_M = 0.005  # width of lines
_LABEL_M = 0.05  # height of letters
_LABEL_AT = np.array([0.0, 0.0, 0.16])  # in the head frame: above the hair
_MIN_SIGMA_M = 1e-4  # RViz warns about a sphere without extent


def face_markers(
    faces: Sequence[FacePose], gone: Iterable[int], header: Header, model: FaceModel
) -> MarkerArray:
    """Mesh, axes, gaze, position covariance and label of each face; deletion of ended tracks.

    Each kind has its own namespace, so that RViz can hide all meshes at once; the marker's id is
    `FacePose.number`. The gaze is the x axis of the head frame.

    Args:
        faces: Faces of one tracker, in the header's frame.
        gone: `FacePose.number` of tracks that ended since the last call.
        header: Header of the image.
        model: The face model whose coefficients `FacePose.shape` are.
    """
    triangles = model.triangles.ravel()
    markers = []
    for face in faces:
        head = pose_msg(face.T_cam_head)
        markers += [
            _mesh(face, header, head, face_points(model, face.shape), triangles),
            _axes(face, header, head),
            _gaze(face, header, head),
            _position_covariance(face, header),
            _label(face, header),
        ]
    markers += [
        Marker(header=header, ns=ns, id=number, action=Marker.DELETE)
        for number in gone
        for ns in NAMESPACES
    ]
    return MarkerArray(markers=markers)


def _marker(
    face: FacePose,
    header: Header,
    ns: str,
    kind: int,
    pose: Pose,
    scale: Iterable[float],
    alpha: float,
) -> Marker:
    """A marker in the face's colour, with limited lifetime."""
    x, y, z = map(float, scale)
    return Marker(
        header=header,
        ns=ns,
        id=face.number,
        type=kind,
        action=Marker.ADD,
        pose=pose,
        scale=Vector3(x=x, y=y, z=z),
        color=_colour(face_colour_rgb(face.number), alpha),
        lifetime=Duration(nanosec=round(1e9 * LIFETIME_S)),
    )


def _mesh(
    face: FacePose,
    header: Header,
    head: Pose,
    xyz_head: NDArray[np.float64],
    triangles: NDArray[np.int64],
) -> Marker:
    marker = _marker(face, header, 'mesh', Marker.TRIANGLE_LIST, head, (1, 1, 1), alpha=0.6)
    # Triangles share their Point objects: six times fewer objects.
    points = [Point(x=x, y=y, z=z) for x, y, z in xyz_head.tolist()]
    marker.points = [points[i] for i in triangles.tolist()]
    return marker


def _axes(face: FacePose, header: Header, head: Pose) -> Marker:
    marker = _marker(face, header, 'axes', Marker.LINE_LIST, head, (_LINE_M, 0, 0), alpha=1.0)
    for tip, rgb in zip(AXIS_M * np.eye(3), AXIS_COLOURS_RGB, strict=True):
        marker.points += [Point(), _point(tip)]
        marker.colors += 2 * [_colour(rgb, 1.0)]
    return marker


def _gaze(face: FacePose, header: Header, head: Pose) -> Marker:
    scale = _LINE_M, 3 * _LINE_M, 8 * _LINE_M  # diameters of shaft and head, length of the head
    marker = _marker(face, header, 'gaze', Marker.ARROW, head, scale, alpha=0.8)
    marker.points = [Point(), Point(x=GAZE_M)]
    return marker


def _position_covariance(face: FacePose, header: Header) -> Marker:
    """The position's ellipsoid of SIGMAS; for 2, 74 % of a 3-D Gaussian lie within."""
    variances, axes = np.linalg.eigh(face.covariance[:3, :3])
    T = np.eye(4)
    # Eigenvectors may come as a mirror image of a rotation.
    T[:3, :3] = axes * [1, 1, np.linalg.det(axes)]
    T[:3, 3] = face.T_cam_head[:3, 3]
    diameters = 2 * SIGMAS * np.sqrt(np.maximum(variances, _MIN_SIGMA_M**2))
    marker = _marker(
        face, header, 'position_covariance', Marker.SPHERE, pose_msg(T), diameters, DOUBT_OPACITY
    )
    marker.color = _colour(DOUBT_RGB, DOUBT_OPACITY)
    return marker


def _label(face: FacePose, header: Header) -> Marker:
    above = face.T_cam_head[:3, :3] @ _LABEL_AT + face.T_cam_head[:3, 3]
    pose, scale = Pose(position=_point(above)), (0, 0, _LABEL_M)
    marker = _marker(face, header, 'label', Marker.TEXT_VIEW_FACING, pose, scale, alpha=1.0)
    marker.color = _colour(TEXT_RGB, 1.0)  # the darker face colours cannot be read
    marker.text = face_label(face)
    return marker


def _point(xyz: Iterable[float]) -> Point:
    x, y, z = map(float, xyz)
    return Point(x=x, y=y, z=z)


def _colour(rgb: Rgb, alpha: float) -> ColorRGBA:
    r, g, b = (value / 255 for value in rgb)
    return ColorRGBA(r=r, g=g, b=b, a=alpha)
