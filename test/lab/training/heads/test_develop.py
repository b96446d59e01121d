# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera effects leave the labels true: nothing moves."""

import numpy as np
import pytest
from face_pose_lab.training.heads.develop import coarser, develop, motion_blur, replicated_border


@pytest.fixture
def spot():
    picture = np.zeros((61, 81, 3), np.uint8)
    picture[28:33, 48:53] = 220
    return picture


def centre(picture):
    weight = picture.astype(float).mean(-1)
    rows, columns = np.mgrid[: len(picture), : picture.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def test_motion_blur_is_symmetric(spot):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        blurred = motion_blur(spot, rng.uniform(1, 12), rng)
        np.testing.assert_allclose(centre(blurred), (50, 30), atol=0.15)
        assert blurred.max() < 221


def test_a_coarser_image_stays_in_place(spot):
    for seed in range(20):
        small = coarser(spot, 40, np.random.default_rng(seed))
        bright = np.where(small > 60, small, 0)
        np.testing.assert_allclose(centre(bright), (50, 30), atol=0.6)


def test_the_same_random_numbers_give_the_same_image(spot):
    first, second = (develop(spot, 60.0, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == spot.shape
    assert first.dtype == np.uint8


def test_a_replicated_border_repeats_and_moves_nothing(rng):
    picture = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    changed = [replicated_border(picture, np.random.default_rng(s)) for s in range(12)]
    same = [(out == picture).all(-1) for out in changed]
    assert any(not s.all() for s in same)
    assert all(s[14:26, 17:33].all() for s in same)
