# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A studio with all assets."""

import os
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(os.environ.get('FACE_POSE_ASSETS', Path(__file__).parents[5] / 'shared' / 'assets'))


@pytest.fixture(scope='session')
def renderer():
    module = pytest.importorskip(
        'face_pose_lab.training.heads.renderer', reason='moderngl is not installed'
    )
    try:
        return module.Renderer()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='session')
def models():
    pytest.importorskip('moderngl', reason='moderngl is not installed')
    from face_pose_lab.training.heads.assets import Assets, MissingAssetError
    from face_pose_lab.training.heads.studio import Models

    try:
        return Models.load(Assets(FOLDER))
    except MissingAssetError as error:
        pytest.skip(f'{error} Set FACE_POSE_ASSETS to the folder of the assets.')


@pytest.fixture(scope='session')
def studio(models, renderer):
    from face_pose_lab.training.heads.studio import Studio

    return Studio(models, seed=5)


@pytest.fixture
def rng():
    return np.random.default_rng(3)
