# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Configurations: files of the repository, overrides, and errors that say what was expected."""

from pathlib import Path

import pytest
from face_pose_lab.training.config import (
    ConfigError,
    config_from_dict,
    config_to_dict,
    load_config,
)

FOLDER = Path(__file__).parents[3] / 'lab' / 'config'
FILES = sorted(FOLDER.glob('*.yaml'))


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_the_files_of_the_repository_are_valid_and_survive_a_checkpoint(path):
    config = load_config(path)
    assert config_from_dict(config_to_dict(config), 'checkpoint') == config


def test_overrides_reach_every_group():
    config = load_config(
        FOLDER / 'hourglass.yaml',
        ['steps=7', 'optimiser.learning_rate=1e-4', 'data.train=[a, b]', 'hourglass.stacks=3'],
    )
    assert (config.steps, config.optimiser.learning_rate) == (7, 1e-4)
    assert config.data.train == ('a', 'b')
    assert config.hourglass.stacks == 3


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        ('stepz=3', 'unknown stepz; expected some of out, steps'),
        ('hourglass.depth=3', 'hourglass: unknown depth'),
        ('steps=many', "steps: expected int, got 'many'"),
        ('amp=1', 'amp: expected bool, got 1'),
        ('steps=true', 'steps: expected int, got True'),
        ('optimiser.clip_norm=wide', "clip_norm: expected float, got 'wide'"),
        ('hourglass.channels=64', 'channels: expected a list, got 64'),
        ('hourglass.input_px=100', 'input_px must be a multiple of'),
        ('steps', "'steps': expected key=value"),
        ('steps.more=1', 'steps is no group'),
        ('batch=0', 'batch must be at least 1, got 0'),
        ('hourglass=3', 'hourglass: expected keys and values, got 3'),
    ],
)
def test_what_cannot_be_is_refused(override, message):
    with pytest.raises(ConfigError) as error:
        load_config(FOLDER / 'hourglass.yaml', [override])
    assert message in str(error.value)


def test_what_has_no_default_must_be_given():
    with pytest.raises(ConfigError, match=r'file\.yaml: hourglass must be given'):
        config_from_dict({'out': 'x', 'steps': 1, 'batch': 1}, 'file.yaml')


@pytest.mark.parametrize('content', [None, '- a\n', 'a: [b\n'])
def test_damaged_files_are_named(content, tmp_path):
    path = tmp_path / 'broken.yaml'
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r'broken\.yaml'):
        load_config(path)
