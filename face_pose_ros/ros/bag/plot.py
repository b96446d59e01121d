# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plots the tracks of a recording: distance, yaw, pitch and presence over time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from geometry_msgs.msg import PoseStamped
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader
from scipy.spatial.transform import Rotation

_FACE_TOPIC = re.compile(r'/faces/([^/]+)/pose$')
_NAMED_IDS = 30  # more names than this do not fit on the axis


@dataclass(frozen=True)
class Person:
    """One track, N poses."""

    stamp_s: NDArray[np.float64]  # (N,)
    distance_m: NDArray[np.float64]  # (N,) from the camera's centre
    # Direction of the face relative to the reversed optical axis: yaw is positive to the right of
    # the image, pitch positive upwards.
    yaw_deg: NDArray[np.float64]  # (N,) in [-180, 180]
    pitch_deg: NDArray[np.float64]  # (N,) in [-90, 90]


def read_people(bag: Path) -> dict[str, Person]:
    """All tracks of a recording with ~/faces/<id>/pose, by id."""
    poses: dict[str, list[PoseStamped]] = {}
    with Reader(bag) as reader:
        topics = [c for c in reader.connections if _FACE_TOPIC.search(c.topic)]
        # No connections would mean all of them.
        for connection, _, data in reader.messages(topics) if topics else ():
            face_id = _FACE_TOPIC.search(connection.topic)[1]  # type: ignore[index]
            poses.setdefault(face_id, []).append(deserialize_message(data, PoseStamped))
    return {face_id: _person(poses[face_id]) for face_id in sorted(poses)}


def _person(poses: list[PoseStamped]) -> Person:
    stamps = [p.header.stamp for p in poses]
    t = [(p.pose.position.x, p.pose.position.y, p.pose.position.z) for p in poses]
    o = [p.pose.orientation for p in poses]
    R_cam_head = Rotation.from_quat([(q.x, q.y, q.z, q.w) for q in o])
    x, y, z = R_cam_head.apply([1.0, 0.0, 0.0]).T  # out of the face
    return Person(
        stamp_s=np.array([s.sec + 1e-9 * s.nanosec for s in stamps]),
        distance_m=np.linalg.norm(t, axis=1),
        yaw_deg=np.rad2deg(np.arctan2(x, -z)),
        pitch_deg=np.rad2deg(np.arcsin(np.clip(-y, -1, 1))),
    )


def plot_people(people: Mapping[str, Person], path: Path, title: str) -> None:
    """Draw a PNG; seconds count from the first pose."""
    figure = Figure(figsize=(10, 9), dpi=100, layout='constrained')
    axes = figure.subplots(4, sharex=True)
    start_s = min((person.stamp_s.min() for person in people.values()), default=0.0)
    for row, person in enumerate(people.values()):
        series = (
            person.distance_m,
            person.yaw_deg,
            person.pitch_deg,
            np.full(len(person.stamp_s), row),
        )
        for axis, values in zip(axes, series, strict=True):
            axis.plot(person.stamp_s - start_s, values, '.', markersize=3)
    for axis, label in zip(axes, ('distance [m]', 'yaw [deg]', 'pitch [deg]', 'id'), strict=True):
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    if len(people) <= _NAMED_IDS:
        axes[3].set_yticks(range(len(people)), people)
    axes[3].set_xlabel('time since the first pose [s]')
    axes[0].set_title(title if people else f'{title}: no heads')
    figure.savefig(path)
