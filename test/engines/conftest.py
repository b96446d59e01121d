# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Faces as the networks see them."""

import cv2
import numpy as np
import pytest

from face_pose_ros.keypoints.network_output import INPUT_PX
from face_pose_ros.samples import load_portraits

# Square crops (left, top, side) px around the faces, 1.5 times as large as these.
CROPS = {'grace_hopper': (111, 77, 300), 'astronaut': (144, 41, 162)}


@pytest.fixture(scope='session')
def crops():
    """(3, 3, 128, 128) float32 RGB in [0, 1]: two faces, and one of them in a mirror."""
    pictures = []
    for name, (left, top, side) in CROPS.items():
        crop = load_portraits()[name][top : top + side, left : left + side]
        pictures.append(cv2.resize(crop, (INPUT_PX, INPUT_PX)))
    pictures.append(pictures[0][:, ::-1])
    return planes(np.stack(pictures))


@pytest.fixture(scope='session')
def scene():
    """(1, 3, 224, 416) float32 RGB in [0, 1]: a portrait beside grey."""
    portrait = load_portraits()['astronaut']
    picture = np.full((224, 416, 3), 96, np.uint8)
    picture[:, 100:324] = cv2.resize(portrait, (224, 224), interpolation=cv2.INTER_AREA)
    return planes(picture[None])


def planes(pictures):
    """(N, 3, H, W) float32 in [0, 1] of (N, H, W, 3) uint8."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def places_px(output):
    """(N, 86, 2) px, where the numbers (N, 437) of the keypoint network are keypoints."""
    return 12.8 * output[:, :-7].reshape(len(output), 86, 5)[..., :2]
