# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""State of a tracker as plain values, to resume in another process.

Numbers, texts, lists and dicts of them alone: `json` writes and reads them without loss (it spells
an infinity `Infinity`), and reading them runs no code.
"""

from __future__ import annotations

from typing import Any

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.tracking.tracker import Tracker

VERSION = 4  # version of the format


def snapshot(tracker: Tracker) -> dict[str, Any]:
    """The state of a tracker, without options and priors."""
    camera = tracker.camera
    return {
        'version': VERSION,
        'images_since_detection': tracker.images_since_detection,
        'camera': camera
        and {
            'K': camera.K.tolist(),
            'width': camera.width,
            'height': camera.height,
            'dist': camera.dist.tolist(),
            'distortion_model': camera.distortion_model,
        },
        **tracker.state(),
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
        images_since_detection = state['images_since_detection']
        tracker.set_state(state)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f'no snapshot of a tracker: {error!r}') from error
    tracker.camera, tracker.images_since_detection = camera, images_since_detection
