# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ICT-FaceKit, where a machine has it: too large for the repository."""

import functools
import os
from pathlib import Path

import pytest
from face_pose_lab.synthetic.ict_facekit import IctFaceKit

PATH = Path(
    os.environ.get(
        'FACE_POSE_ICT_FACEKIT',
        Path(__file__).parents[3] / 'shared' / 'assets' / 'ict_facekit' / 'ict_facekit.npz',
    )
)


@functools.cache
def load_facekit() -> IctFaceKit:
    """The data set, read once; skips the test where there is none."""
    if not PATH.is_file():
        pytest.skip(f'{PATH} not found; set FACE_POSE_ICT_FACEKIT to the .npz of ICT-FaceKit')
    return IctFaceKit(PATH)
