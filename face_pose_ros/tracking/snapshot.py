# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""State of a tracker as plain values, to resume in another process.

Numbers, texts, lists and dicts of them alone: `json` writes and reads them without loss (it spells
an infinity `Infinity`), and reading them runs no code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.tracking.filter import PoseFilter, PoseState
from face_pose_ros.tracking.shape_memory import Information, MeasuredSize, Shape, ShapeMemory
from face_pose_ros.tracking.tracker import Tracker, _Person

VERSION = 3  # version of the format


def snapshot(tracker: Tracker) -> dict[str, Any]:
    """The state of a tracker, without options and priors."""
    camera = tracker._camera
    return {
        'version': VERSION,
        'id_prefix': tracker.id_prefix,
        'count': tracker._count,
        'images_since_detection': tracker.images_since_detection,
        'stamp_s': float(tracker.stamp_s),
        'camera': camera
        and {
            'K': camera.K.tolist(),
            'width': camera.width,
            'height': camera.height,
            'dist': camera.dist.tolist(),
            'distortion_model': camera.distortion_model,
        },
        'people': [_person(person) for person in tracker._people],
    }


def restore(tracker: Tracker, state: dict[str, Any]) -> None:
    """Give a tracker the state of another one.

    Args:
        tracker: With the options, priors and expressions of the other one.
        state: Its `snapshot`.

    Raises:
        ValueError: The snapshot is invalid or of another version.
    """
    if state.get('version') != VERSION:
        raise ValueError(f'expected a snapshot of version {VERSION}, got {state.get("version")}')
    try:
        camera = state['camera'] and Camera.from_K(**state['camera'])
        people = [_restored(tracker, person) for person in state['people']]
        tracker.id_prefix = state['id_prefix']
        tracker._count = state['count']
        tracker.images_since_detection = state['images_since_detection']
        tracker.stamp_s = state['stamp_s']
    except (KeyError, TypeError) as error:
        raise ValueError(f'no snapshot of a tracker: {error!r}') from error
    tracker._camera, tracker._people = camera, people


def _person(person: _Person) -> dict[str, Any]:
    pose, memory = person.filter.state, person.memory
    return {
        'id': person.id,
        'number': person.number,
        'identity': person.identity.tolist(),
        'pose_of_identity': person.pose_of_identity.tolist(),
        'has_depth': person.has_depth,
        'keypoints_uv': person.keypoints_uv.tolist(),
        'velocity_px_s': person.velocity_px_s.tolist(),
        'seen_s': float(person.seen_s),
        'filter': {
            'T_cam_head': pose.T_cam_head.tolist(),
            'velocity': pose.velocity.tolist(),
            'covariance': pose.covariance.tolist(),
            'stamp_s': float(pose.stamp_s),
            'outliers': person.filter._outliers,
        },
        'memory': {
            'mean': memory.shape.mean.tolist(),
            'covariance': memory.shape.covariance.tolist(),
            'stamp_s': float(memory._stamp_s),
            'seen_s': float(memory._seen_s),
            'learned_matrix': memory._learned.matrix.tolist(),
            'learned_vector': memory._learned.vector.tolist(),
            'most': memory._most,
            'size': list(memory._size),
        },
    }


def _restored(tracker: Tracker, state: dict[str, Any]) -> _Person:
    of_filter, of_memory = state['filter'], state['memory']
    pose = PoseState(
        np.array(of_filter['T_cam_head']),
        np.array(of_filter['velocity']),
        np.array(of_filter['covariance']),
        of_filter['stamp_s'],
    )
    pose_filter = PoseFilter(pose.T_cam_head, np.eye(6), pose.stamp_s, tracker.options)
    pose_filter.state, pose_filter._outliers = pose, of_filter['outliers']
    memory = ShapeMemory(
        tracker._prior, tracker._kinds, of_memory['stamp_s'], tracker.options.shape
    )
    shape = Shape(np.array(of_memory['mean']), np.array(of_memory['covariance']))
    memory.identity = shape.part(tracker._kinds.identity)
    memory.expression = shape.part(tracker._kinds.expression)
    memory._seen_s, memory._most = of_memory['seen_s'], of_memory['most']
    memory._size = MeasuredSize(*of_memory['size'])
    memory._expect_size()
    memory._learned = Information(
        np.array(of_memory['learned_matrix']), np.array(of_memory['learned_vector'])
    )
    return _Person(
        state['id'],
        state['number'],
        pose_filter,
        memory,
        np.array(state['identity']),
        np.array(state['pose_of_identity']),
        state['has_depth'],
        np.array(state['keypoints_uv']),
        state['seen_s'],
        np.array(state['velocity_px_s']),
    )
