"""Faces as the networks see them."""

import cv2
import numpy as np
import pytest
import torch

from face_pose_ros.keypoints.face_mesh import CROP_SIZE_PX
from face_pose_ros.samples import load_portraits

# Square crops (left, top, side) px around the faces, 1.5 times as large as these.
CROPS = {'grace_hopper': (111, 77, 300), 'astronaut': (144, 41, 162)}


@pytest.fixture(scope='session')
def crops():
    """(3, 3, 256, 256) float32 RGB in [0, 1]: two faces, and one of them in a mirror."""
    pictures = []
    for name, (left, top, side) in CROPS.items():
        crop = load_portraits()[name][top : top + side, left : left + side]
        pictures.append(cv2.resize(crop, (CROP_SIZE_PX, CROP_SIZE_PX)))
    pictures.append(pictures[0][:, ::-1])
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope='session')
def scene():
    """(1, 3, 224, 416) float32 RGB in [-1, 1]: a portrait beside grey."""
    portrait = load_portraits()['astronaut']
    picture = np.full((224, 416, 3), 96, np.uint8)
    picture[:, 100:324] = cv2.resize(portrait, (224, 224), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() * (2 / 255) - 1
