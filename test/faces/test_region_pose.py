# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The second stage: regions stand upright around heads, and their numbers mean poses exactly."""

import math

import numpy as np
import pytest
from helpers.asserts import assert_poses_close
from helpers.cameras import DISTORTIONS, make_camera
from helpers.heads import frontal, random_poses

from face_pose_ros.faces.region_pose import (
    FRONTAL_COLUMNS,
    MOST_REGIONS,
    REGION_PX,
    REGION_SCALE,
    pose_proposals,
    poses_of_regions,
    read_regions,
    regions_of_poses,
)
from face_pose_ros.faces.single_shot import (
    HEAD_CENTRE,
    CellPoses,
    PosedFaces,
    middles_of_poses,
)
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import render_crops

CENTRE = np.array(HEAD_CENTRE)


def numbers_of(cells, score=3.0):
    """What the network should answer (N, 16)."""
    half = 0.5 * REGION_PX
    return np.concatenate(
        [
            np.broadcast_to(score, cells.log_size.shape)[:, None],
            (cells.uv - half + 0.5) / half,
            (cells.log_size - math.log(REGION_PX / REGION_SCALE))[:, None],
            cells.columns - FRONTAL_COLUMNS,
            np.zeros((len(cells.uv), 6)),
        ],
        -1,
    )


def answer_for(T, regions):
    """What the network should answer (N, 16) about heads at T in these regions."""
    rows = []
    for pose, R, f in zip(T, regions.R_cam_crop, regions.focal_px, strict=True):
        middle = 0.5 * (REGION_PX - 1)
        camera = Camera.from_K([f, 0, middle, 0, f, middle, 0, 0, 1], REGION_PX, REGION_PX)
        in_crop = rotations.from_rt(R.T, np.zeros(3)) @ pose
        rows.append(numbers_of(middles_of_poses(in_crop[None], camera))[0])
    return np.array(rows)


def disturbed(T, rng):
    """Proposals near heads: turned by up to half a radian, moved, too near or too far."""
    R = rotations.exp(0.2 * rng.standard_normal((len(T), 3))) @ T[:, :3, :3]
    return rotations.from_rt(R, T[:, :3, 3] + 0.02 * rng.standard_normal((len(T), 3)))


@pytest.mark.parametrize('lens', DISTORTIONS)
def test_numbers_mean_poses_exactly_whatever_the_lens(lens, rng):
    T = random_poses(100, make_camera(lens), rng)
    regions = regions_of_poses(disturbed(T, rng))
    cells, sigma = read_regions(answer_for(T, regions))
    assert_poses_close(poses_of_regions(cells, regions), T, max_deg=1e-5, max_mm=1e-5)
    np.testing.assert_allclose(sigma, 0.1)


@pytest.mark.parametrize('lens', ['none', 'plumb_bob_5', 'equidistant'])
def test_heads_stand_upright_in_the_middle_at_one_size(lens, rng):
    T = random_poses(100, make_camera(lens), rng)
    regions = regions_of_poses(T)
    cells, _ = read_regions(answer_for(T, regions))
    np.testing.assert_allclose(cells.uv, 0.5 * (REGION_PX - 1), atol=1e-6)
    np.testing.assert_allclose(np.exp(cells.log_size), REGION_PX / REGION_SCALE, rtol=1e-6)
    up = np.einsum('nji,nj->ni', regions.R_cam_crop, T[:, :3, 2])
    assert np.abs(up[:, 0]).max() < 1e-9
    assert (up[:, 1] < 0).all()
    np.testing.assert_allclose(np.linalg.det(regions.R_cam_crop), 1)


def test_a_head_below_the_camera_has_a_region_too():
    # Its z axis points at the camera.
    R = np.diag([1.0, -1, -1])
    T = rotations.from_rt(R, np.array([0.0, 0, 1.0]) - R @ CENTRE)[None]
    regions = regions_of_poses(T)
    assert np.isfinite(regions.R_cam_crop).all()
    cells, _ = read_regions(answer_for(T, regions))
    assert_poses_close(poses_of_regions(cells, regions), T, max_deg=1e-5, max_mm=1e-5)


def spot(T, camera):
    """An image that is bright at the middle of the head."""
    uv = camera.project(T[:3, :3] @ CENTRE + T[:3, 3]).uv
    rows, columns = np.mgrid[: camera.height, : camera.width]
    sq = (columns - uv[0]) ** 2 + (rows - uv[1]) ** 2
    return np.repeat((255 * np.exp(-sq / 50)).round().astype(np.uint8)[..., None], 3, -1)


class OnRegions:
    """A network given as a function of rendered regions (N, 3, 64, 64)."""

    def __init__(self, function):
        self.function = function

    def on_crops(self, image, crops, camera, shrink=1):
        return (self.function(render_crops(image, crops, camera)).astype(np.float32),)


def finds_the_spot(regions, columns=FRONTAL_COLUMNS):
    """Says where a region is bright, and these columns."""
    weight = regions.astype(float).mean(1)
    places, total = np.arange(REGION_PX), weight.sum((-2, -1))
    uv = np.stack([weight.sum(-2) @ places, weight.sum(-1) @ places], -1) / total[:, None]
    size = np.full(len(uv), math.log(REGION_PX / REGION_SCALE))
    return numbers_of(CellPoses(total, uv, size, np.tile(columns, (len(uv), 1))))


def proposed_at(T, score):
    return PosedFaces(T, np.zeros((len(T), 4)), np.full(len(T), score))


@pytest.mark.parametrize('lens', ['none', 'plumb_bob_5', 'equidistant'])
def test_the_second_stage_finds_the_head_beside_the_proposal(lens):
    camera = make_camera(lens)
    T = frontal([0.15, -0.1, 0.8])
    beside = T.copy()
    beside[:2, 3] += [0.03, -0.02]
    proposed = proposed_at(np.array([T, beside]), 0.6)
    heads = pose_proposals(OnRegions(finds_the_spot), spot(T, camera), proposed, camera)
    # Both proposals are the same head, once: 3 of the second stage and 0.405 of the first.
    assert heads.logits.tolist() == pytest.approx([3.405], abs=1e-3)
    middle = rotations.apply(heads.T_cam_head, CENTRE[None])[0, 0]
    expected = T[:3, :3] @ CENTRE + T[:3, 3]
    across = middle / np.linalg.norm(middle) - expected / np.linalg.norm(expected)
    assert np.linalg.norm(across) < 0.004


@pytest.mark.parametrize(('score', 'rounds'), [(0.6, 2), (0.005, 1)])
def test_a_probable_head_gets_another_region_around_it(score, rounds):
    """The stand-in's answer is wrong by a tenth of how far the head is from the middle."""
    camera, T, given = make_camera('none'), frontal([0.1, 0.05, 0.8]), []
    beside = T.copy()[None]
    beside[:, 0, 3] += 0.02

    def network(regions):
        given.append(len(regions))
        numbers = finds_the_spot(regions)
        numbers[:, 1:3] *= 0.9
        return numbers

    image, proposed = spot(T, camera), proposed_at(beside, score)
    heads = pose_proposals(OnRegions(network), image, proposed, camera)
    assert given == [1] * rounds
    found = middles_of_poses(heads.T_cam_head, camera).uv
    off_px = float(np.linalg.norm(found - middles_of_poses(T[None], camera).uv))
    assert (off_px < 0.5) == (rounds == 2), off_px


def test_a_head_beyond_the_border_is_none():
    camera = make_camera('none')
    T = np.tile(frontal([0.0, 0, 0.8]), (2, 1, 1))
    T[1, 0, 3] = 1.2 * 0.8 * 0.5 * camera.width / camera.K[0, 0]
    network = OnRegions(lambda regions: np.zeros((len(regions), 16)))
    heads = pose_proposals(network, spot(T[0], camera), proposed_at(T, 0.5), camera)
    assert len(heads.logits) == 1
    assert abs(heads.T_cam_head[0, 0, 3]) < 0.01


def test_without_proposals_the_network_does_not_run():
    camera, T = make_camera('none'), frontal([0.0, 0, 0.8])[None]
    network = OnRegions(lambda _: pytest.fail('was run'))
    nobody = pose_proposals(network, spot(T[0], camera), proposed_at(T[:0], 0.5), camera)
    assert nobody.T_cam_head.shape == (0, 4, 4)
    assert nobody.sigma.shape == (0, 6)


def test_an_image_full_of_proposals_takes_no_longer_than_its_best_ones():
    camera, T, given = make_camera('none'), frontal([0.0, 0, 0.8]), []

    def network(regions):
        given.append(len(regions))
        return np.full((len(regions), 16), -9.0)

    many = proposed_at(np.tile(T, (3 * MOST_REGIONS, 1, 1)), 0.5)
    pose_proposals(OnRegions(network), spot(T, camera), many, camera)
    assert given == [MOST_REGIONS]
