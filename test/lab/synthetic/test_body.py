# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Normals, shadows and the mesh that is drawn."""

import math

import numpy as np
import pytest
import torch
from face_pose_lab.synthetic import body as module
from face_pose_lab.synthetic.body import Body, HairStyle, Material, lit_from, vertex_normals
from helpers.facekit import load_facekit

BALD = HairStyle(0.0, 0.0, 0.0)


@pytest.fixture(scope='module')
def body():
    return Body(load_facekit())


def grid(size: float, z: float, count: int = 41) -> tuple[torch.Tensor, torch.Tensor]:
    """A square that faces up, vertices (V, 3) and triangles."""
    x = torch.linspace(-size, size, count)
    X, Y = torch.meshgrid(x, x, indexing='xy')
    index = np.arange(count * count).reshape(count, count)
    corners = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = module._split([c.ravel() for c in corners])
    xyz = torch.stack([X, Y, torch.full_like(X, z)], -1).flatten(0, 1)
    return xyz, torch.from_numpy(triangles)


def test_normals_point_out_of_counter_clockwise_triangles():
    xyz, triangles = grid(1.0, 0.0, 5)
    up = torch.tensor([0.0, 0, 1]).expand_as(xyz)
    torch.testing.assert_close(vertex_normals(xyz, triangles), up)


@pytest.mark.parametrize('slant', [0.0, 0.5])
def test_a_plate_shades_what_lies_below_it(slant):
    ground, below = grid(0.3, 0.0)
    plate, above = grid(0.1, 0.2)
    xyz = torch.cat([ground, plate])
    triangles = torch.cat([below, above + len(ground)])
    towards = torch.tensor([math.sin(slant), 0.0, math.cos(slant)])
    lit = lit_from(towards, xyz, triangles, ground + torch.tensor([0, 0, 0.004]))
    middle = torch.tensor([-0.2 * math.tan(slant), 0.0])
    outside = (ground[:, :2] - middle).abs().amax(-1) - 0.1
    assert (lit[outside < -0.006] == 0).all()
    assert (lit[outside > 0.006] == 1).all()


def test_hollows_are_less_open_than_the_forehead(body):
    facekit = load_facekit()
    brow, corner = facekit.landmark68_vertices[[19, 39]]
    assert body.openness.min() >= 0
    assert body.openness.max() <= 1
    teeth = body.triangles[body.material == Material.TEETH].unique()
    assert body.openness[brow] > 0.8 > body.openness[corner] > body.openness[teeth].mean()


def test_the_skin_s_normals_point_outwards(body):
    facekit = load_facekit()
    normals = vertex_normals(body.xyz, body.triangles[body.drawn(BALD)])
    nose = int(facekit.landmark68_vertices[30])
    assert normals[nose, 0] > 0.7
    cloth = body.triangles[body.material == Material.CLOTH].unique()
    chest = cloth[(cloth >= len(facekit.neutral)) & (body.xyz[cloth, 0] > -0.06)]
    assert (normals[chest, 0] > 0).all()


def test_only_the_hair_there_is_gets_drawn(body):
    def hairs(style):
        drawn = body.drawn(style)
        assert drawn[body.material != Material.HAIR].all()
        return int(drawn[body.material == Material.HAIR].sum())

    short, long = HairStyle(0.01, 0.0, 0.0), HairStyle(0.01, 0.0, 0.2)
    assert hairs(BALD) == 0
    assert 0 < hairs(short) < hairs(long) == int((body.material == Material.HAIR).sum())


def test_hair_leaves_the_face_free_and_stands_off_the_scalp(body):
    facekit = load_facekit()
    neutral = torch.from_numpy(facekit.neutral)
    xyz = body.assemble(neutral, HairStyle(0.03, 0.0, 0.0))
    assert torch.equal(xyz[: len(neutral)], neutral)
    hair = xyz[
        body.triangles[
            body.drawn(HairStyle(0.03, 0, 0)) & (body.material == Material.HAIR)
        ].unique()
    ]
    brows = neutral[torch.from_numpy(facekit.landmark68_vertices[17:27])]
    assert hair[hair[:, 0] > -0.02, 2].min() > brows[:, 2].max() + 0.02
    top, crown = hair[:, 2].max(), neutral[:, 2].max()
    assert 0.015 < top - crown < 0.045


def test_the_torso_goes_on_where_the_bust_ends(body):
    cloth = body.triangles[body.material == Material.CLOTH]
    edges = torch.cat([cloth[:, [0, 1]], cloth[:, [1, 2]], cloth[:, [2, 0]]])
    skin = body.triangles[body.material == Material.SKIN]
    skin_edges = torch.cat([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    shared = {tuple(e) for e in edges.tolist()} & {tuple(e[::-1]) for e in skin_edges.tolist()}
    assert len(shared) == len(body._rim)  # every edge of the rim has a neighbour on both sides
