# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Locks on a sphere, and modelled hair in other shapes."""

from dataclasses import replace

import numpy as np
import pytest
from face_pose_lab.training.heads import hair
from face_pose_lab.training.heads.mesh import Mesh

RADIUS, CENTRE = 0.1, np.array([-0.09, 0, 0])
POINTS = 11  # of a lock


@pytest.fixture(scope='module')
def skin():
    """A head that is a ball with hair on its upper half."""
    turn, height = np.meshgrid(np.linspace(-np.pi, np.pi, 80), np.linspace(-1, 1, 40))
    ring = np.sqrt(1 - height**2)
    normals = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], -1).reshape(-1, 3)
    shares = np.ones_like(normals)
    shares[:, 2] = normals[:, 2] > 0.2
    cells = np.arange(39)[:, None] * 80 + np.arange(79)
    triangles = np.stack([cells, cells + 1, cells + 80], -1).reshape(-1, 3)
    xyz = CENTRE + RADIUS * normals
    return Mesh(*(a.astype(np.float32) for a in (xyz, normals, normals[:, :2])), triangles, shares)


def middle_lines(mesh):
    """(S, P, 3) of ribbons."""
    return mesh.xyz.reshape(-1, POINTS, 2, 3).mean(2)


def test_locks_start_on_the_scalp_and_lie_upon_the_head(skin, rng):
    for _ in range(20):
        style = replace(hair.random_style(rng), curl=0.0)
        line = middle_lines(hair.grown(skin, style, rng))
        assert len(line) == style.locks
        distance = np.linalg.norm(line - CENTRE, axis=-1)
        assert np.abs(distance[:, 0] - RADIUS).max() < 0.015
        assert line[:, 0, 2].min() > 0.2 * RADIUS - 0.015
        assert distance[:, 1:].min() > RADIUS - 0.001  # the ball is made of flat triangles


def test_locks_have_the_requested_length(skin, rng):
    for _ in range(20):
        # Without volume, which pushes short locks away from the skin and so stretches them.
        plain = {'curl': 0.0, 'fringe': 0.0, 'frizz': 0.05, 'volume': 0.0}
        style = replace(hair.random_style(rng), **plain)
        line = middle_lines(hair.grown(skin, style, rng))
        length = np.linalg.norm(np.diff(line, axis=1), axis=-1).sum(1)
        assert np.median(length) == pytest.approx(style.length, rel=0.35)


def test_a_fringe_hangs_before_the_forehead(skin, rng):
    style = replace(
        hair.random_style(rng), curl=0.0, length=0.2, fringe=0.12, weight=30.0, back=1.0, lift=0.1
    )
    with_fringe = middle_lines(hair.grown(skin, style, np.random.default_rng(0)))
    without = middle_lines(hair.grown(skin, replace(style, fringe=0.0), np.random.default_rng(0)))

    def in_front(line):
        end = line[:, -1]
        return ((end[:, 0] > -0.03) & (np.abs(end[:, 1]) < 0.05)).mean()

    assert in_front(with_fringe) > in_front(without) + 0.03
    over_forehead = with_fringe[with_fringe[:, 0, 0] > -0.05]
    length = np.linalg.norm(np.diff(over_forehead, axis=1), axis=-1).sum(1)
    assert np.median(length) == pytest.approx(style.fringe, rel=0.3)


def test_heavy_locks_hang(skin, rng):
    style = replace(hair.random_style(rng), length=0.3, fringe=0.0, curl=0.0, lift=0.8)
    light, heavy = (
        middle_lines(hair.grown(skin, replace(style, weight=weight), np.random.default_rng(0)))
        for weight in (0.0, 40.0)
    )
    assert heavy[:, -1, 2].mean() < light[:, -1, 2].mean() - 0.1


def test_ribbons_are_whole_meshes(skin, rng):
    for make in (hair.random_style, hair.loose_style):
        mesh = hair.grown(skin, make(rng), rng)
        assert mesh.triangles.max() == len(mesh.xyz) - 1
        assert np.isfinite(mesh.xyz).all()
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-4)
        assert mesh.xyz.dtype == mesh.normals.dtype == mesh.uv.dtype == np.float32
        # A triangle belongs to one lock.
        lock = mesh.triangles // (2 * POINTS)
        assert (lock == lock[:, :1]).all()


def test_modelled_hair_changes_below_the_crown(skin, rng):
    xyz = skin.xyz
    moved = np.stack([hair.reshaped(xyz, rng) - xyz for _ in range(40)])
    far = np.linalg.norm(moved, axis=-1)
    assert far[:, xyz[:, 2] > 0].max() < 0.04
    assert far.mean() > 0.002
    assert moved.std(0).min() > 0


def test_trimming_only_takes_away(skin, rng):
    kept = [len(hair.trimmed(skin, rng).triangles) for _ in range(60)]
    assert max(kept) == len(skin.triangles)
    assert min(kept) < 0.8 * max(kept)


def test_locks_have_gaps():
    texture = hair.lock_texture()
    assert texture.shape == (256, 256, 4)
    share = (texture[..., 3] < 0.35 * 255).mean()
    assert 0.02 < share < 0.4
