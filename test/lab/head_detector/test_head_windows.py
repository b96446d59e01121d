# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training images show their heads where the labels say."""

import numpy as np
import pytest

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.head_detector import windows
from face_pose_lab.head_detector.heads import Heads
from face_pose_lab.head_detector.windows import SIDE_PX, Material, draw_window
from lab.head_detector.material import (
    BlackBackgrounds,
    MarkedHeads,
    MarkedScenes,
    one_head,
)

MATERIAL = Material(
    ((MarkedHeads(), 0.7), (MarkedHeads(), 0.3)), MarkedScenes(), BlackBackgrounds()
)
BLACK = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)


def redness(image) -> np.ndarray:
    return (image[..., 0].astype(float) - image[..., 1]).clip(0)


def centre_of_mark(image, uv, size_px) -> np.ndarray:
    """Centroid (2,) of what is red around a head."""
    near = np.ceil(0.3 * size_px).astype(int)
    column, row = np.rint(uv).astype(int)
    red = redness(image[row - near : row + near + 1, column - near : column + near + 1])
    rows, columns = np.indices(red.shape)
    first = np.array([column - near, row - near])
    return first + np.array([(columns * red).sum(), (rows * red).sum()]) / red.sum()


def assert_marked(image, heads: Heads) -> int:
    """Check heads that lie inside of the image, and return how many there are."""
    count = 0
    for uv, log_size in zip(heads.uv, heads.log_size, strict=True):
        size = np.exp(log_size)
        if (uv > 0.35 * size + 1).all() and (uv < SIDE_PX - 2 - 0.35 * size).all():
            off = np.linalg.norm(centre_of_mark(image, uv, size) - uv)
            assert off < 0.35 + 0.02 * size
            count += 1
    return count


@pytest.mark.parametrize('seed', range(3))
def test_a_pasted_head_is_where_its_label_says(seed):
    rng = np.random.default_rng(seed)
    count = 0
    for _ in range(8):
        picture, head = MarkedHeads(empty=False).picture(1)
        image, heads = windows._pasted(BLACK.copy(), Heads.none(), picture, head, rng)
        count += assert_marked(image, heads)
    assert count > 2


def test_parts_of_scenes_and_single_heads_keep_their_labels(rng):
    count = 0
    for _ in range(15):
        count += assert_marked(*windows._of_scene(MarkedScenes(), rng))
        count += assert_marked(*windows._of_one_head(MATERIAL, rng))
    assert count > 10


def test_images_without_heads_have_none(rng, monkeypatch):
    monkeypatch.setattr(
        MarkedHeads, 'picture', lambda *_: (np.full((96, 96, 3), 90, np.uint8), Heads.none())
    )
    material = Material(((MarkedHeads(), 1.0),), None, BlackBackgrounds())
    drawn = [draw_window(material, rng) for _ in range(6)]
    assert all(len(heads) == 0 for _, heads in drawn)
    assert all(image.shape == (SIDE_PX, SIDE_PX, 3) for image, _ in drawn)


def test_covered_heads_are_not_wanted_and_hidden_ones_are_none(monkeypatch):
    monkeypatch.setattr(windows, '_mask', lambda side, *_: np.ones((side, side), np.float32))
    white = np.full((96, 96, 3), 255, np.uint8)
    kinds = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        below = one_head((128, 120), 80.0)
        image, heads = windows._pasted(BLACK.copy(), below, white, Heads.none(), rng)
        covered = (image[96:145, 104:153] > 128).mean()  # of the middle of the head
        if abs(covered - 0.35) < 0.04 or abs(covered - 0.75) < 0.04:
            continue
        kind = 'gone' if covered > 0.75 else 'dim' if covered > 0.35 else 'wanted'
        kinds.add(kind)
        assert len(heads) == (kind != 'gone')
        if len(heads):
            assert heads.wanted[0] == (kind == 'wanted')
    assert kinds == {'wanted', 'dim', 'gone'}


def test_only_heads_inside_of_a_fit_size_are_wanted():
    drawn = [draw_window(MATERIAL, np.random.default_rng(seed)) for seed in range(40)]
    heads = Heads.none()
    for _, some in drawn:
        heads = heads.join(some)
    size = np.exp(heads.log_size)
    inside = ((heads.uv >= -0.5) & (heads.uv <= SIDE_PX - 0.5)).all(-1)
    assert inside[heads.wanted].all()
    assert 14 <= size[heads.wanted].min() < 30
    assert 200 < size[heads.wanted].max() < 550
    assert 0.3 < heads.wanted.mean() < 1


def test_a_seed_gives_one_window():
    first, again, other = (draw_window(MATERIAL, np.random.default_rng(s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1].uv, again[1].uv)
    assert not np.array_equal(first[0], other[0])


def test_a_picture_is_not_aliased_when_it_shrinks(rng):
    stripes = np.zeros((160, 160, 3), np.uint8)
    stripes[:, ::2] = 255
    matrix = np.array([[0.2, 0, 0.0], [0, 0.2, 0.0]])
    small = windows._warped(stripes, matrix, (30, 30), 0, rng)
    assert abs(small[2:-2, 2:-2].astype(float) - 127.5).max() < 3


@pytest.mark.parametrize('side', [96, 97])
def test_a_halved_picture_lies_where_the_whole_one_does(side, rng):
    ramp = np.zeros((side, side, 3), np.uint8)
    ramp[:] = 2 * np.arange(side, dtype=np.uint8)[:, None]  # along x; means of two are whole
    matrix = np.array([[0.0, 0.3, 2.0], [0.3, 0.0, 3.0]])  # transposed as well
    small = windows._warped(ramp, matrix, (32, 32), 1, rng)
    rows = np.arange(6, 26)
    np.testing.assert_allclose(small[rows, 15, 0], 2 * (rows - 3.0) / 0.3, atol=0.7)
