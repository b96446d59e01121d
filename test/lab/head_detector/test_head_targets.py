# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cell and grid to which a head is assigned."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from face_pose_lab.head_detector.heads import Heads
from face_pose_lab.head_detector.targets import joined, targets_of_image
from lab.head_detector.material import one_head

from face_pose_ros.faces.head_cells import STRIDES, cell_centres

SIDE = 256
COUNTS = [(SIDE // stride) ** 2 for stride in STRIDES]
FIRST = np.cumsum([0, *COUNTS])
CENTRES = np.concatenate([cell_centres(SIDE // s, SIDE // s, s) for s in STRIDES])


def of_level(values: np.ndarray, level: int) -> np.ndarray:
    return values[FIRST[level] : FIRST[level + 1]]


@pytest.mark.parametrize(('size', 'level'), [(20, 0), (30, 0), (80, 1), (160, 2), (350, 3)])
def test_the_size_of_a_head_chooses_the_grid(size, level):
    uv = np.array([100.3, 61.2])
    targets = targets_of_image(one_head(uv, size), SIDE, SIDE)
    assert [(of_level(targets.score, k) > 0).any() for k in range(4)] == [
        k == level for k in range(4)
    ]
    (cell,) = np.flatnonzero(targets.score == 1)
    assert (abs(CENTRES[cell] - uv) <= 0.5 * STRIDES[level]).all()
    assert cell in targets.cell
    assert (abs(CENTRES[targets.cell] - uv) <= STRIDES[level]).all()
    assert 4 <= len(targets.cell) <= 9
    np.testing.assert_array_equal(targets.uv, np.tile(uv, (len(targets.cell), 1)))
    assert not targets.ignored.any()


@pytest.mark.parametrize(('size', 'level', 'neighbour'), [(44, 0, 1), (52, 1, 0), (250, 3, 2)])
def test_near_a_limit_the_other_grid_may_answer_too(size, level, neighbour):
    targets = targets_of_image(one_head((100.3, 61.2), size), SIDE, SIDE)
    assert (of_level(targets.score, level) == 1).sum() == 1
    ignored = [bool(of_level(targets.ignored, k).any()) for k in range(4)]
    assert ignored == [k == neighbour for k in range(4)]
    near = CENTRES[targets.ignored] - (100.3, 61.2)
    assert (np.linalg.norm(near, axis=-1) < 0.3 * size + STRIDES[neighbour]).all()


def test_unwanted_heads_are_neither_heads_nor_background():
    heads = one_head((100.3, 61.2), 80)
    targets = targets_of_image(replace(heads, wanted=np.zeros(1, bool)), SIDE, SIDE)
    assert not targets.score.any()
    assert len(targets.cell) == 0
    for level in range(4):
        ignored = FIRST[level] + np.flatnonzero(of_level(targets.ignored, level))
        assert len(ignored) > 0
        nearest = np.linalg.norm(CENTRES[ignored] - (100.3, 61.2), axis=-1).min()
        assert nearest < STRIDES[level]


def test_a_cell_between_heads_is_the_nearer_one_s():
    left, right = np.array([100.0, 60.0]), np.array([116.0, 60.0])
    heads = one_head(left, 30).join(one_head(right, 40))
    targets = targets_of_image(heads, SIDE, SIDE)
    assert (targets.score == 1).sum() == 2
    to_left = np.linalg.norm(CENTRES[targets.cell] - left, axis=-1)
    to_right = np.linalg.norm(CENTRES[targets.cell] - right, axis=-1)
    expected = np.where(to_left < to_right, np.log(30), np.log(40))
    sure = abs(to_left - to_right) > 2
    np.testing.assert_array_equal(targets.log_size[sure], expected[sure])
    assert len(set(targets.log_size)) == 2


def test_an_image_without_heads_is_background():
    targets = targets_of_image(Heads.none(), 64, 128)
    assert len(targets.score) == sum((64 // s) * (128 // s) for s in STRIDES)
    assert not targets.score.any()
    assert not targets.ignored.any()
    assert len(targets.cell) == 0


def test_a_batch_knows_the_image_of_each_pair():
    unposed = replace(one_head((50, 60), 30), posed=np.zeros(1, bool))
    images = [one_head((100, 60), 30), Heads.none(), unposed]
    batch = joined([targets_of_image(heads, SIDE, SIDE) for heads in images])
    assert batch.score.shape == batch.ignored.shape == (3, FIRST[-1])
    assert set(batch.image.tolist()) == {0, 2}
    assert torch.equal(batch.uv[:, 0], torch.where(batch.image == 0, 100.0, 50.0))
    assert torch.equal(batch.posed, batch.image == 0)
    floats = batch.score, batch.uv, batch.log_size, batch.R_box_head
    assert {x.dtype for x in floats} == {torch.float32}
