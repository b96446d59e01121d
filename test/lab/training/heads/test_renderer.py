# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The renderer draws where OpenCV projects, and its depths tell what a ray test tells."""

import numpy as np
import pytest

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.training.heads.mesh import Layer
from face_pose_lab.training.heads.renderer import Renderer
from face_pose_lab.training.heads.staging import Lens, Light, Pose
from face_pose_lab.training.heads.surface import ray_distances
from face_pose_lab.training.heads.views import facing_pose, look, project, transformed
from helpers.solids import ellipsoid, part, person, random_points

K = np.array([[310.0, 0, 151.3], [0, 322.0, 88.6], [0, 0, 1]])
STRAIGHT = Lens(K, 320, 180)
BENT = Lens(K, 320, 180, (-0.21, 0.06, 0.003, -0.002, 0.0), 1.2)
NOBODY = np.zeros((0, 3))


def plain_light(exposure=1.5):
    harmonics = np.zeros((9, 3), np.float32)
    harmonics[0] = 3.0
    return Light(
        harmonics, np.eye(3), np.array([0, 0, -1.0]), np.zeros(3), False, exposure,
        'black', 1.0, True, 0.0,
    )  # fmt: skip


@pytest.fixture(scope='module')
def black(renderer: Renderer):
    renderer.add_texture('black', np.zeros((2, 2, 3), np.uint8))
    return renderer


@pytest.mark.parametrize('lens', [STRAIGHT, BENT], ids=['straight', 'bent'])
@pytest.mark.parametrize('place', [(0.2, 0.11, 0.9), (-0.31, -0.12, 0.9), (0.25, -0.2, 1.0)])
def test_a_small_thing_is_drawn_where_opencv_projects_it(black, lens, place):
    xyz, triangles = ellipsoid((0.02, 0.02, 0.02))
    T = np.eye(4)
    T[:3, 3] = place
    with black.load(person([part(xyz, triangles)], NOBODY, NOBODY)) as loaded:
        picture = black.picture([(loaded, Pose(T))], lens, plain_light())
    weight = picture.astype(float).mean(-1)
    rows, columns = np.mgrid[: lens.height, : lens.width]
    found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    # A ball is seen as an ellipse whose middle lies a little outside of its centre's image.
    np.testing.assert_allclose(found, project(np.array([place]), lens)[0], atol=0.35)


def test_depth_is_metric(black):
    xyz, triangles = ellipsoid((0.1, 0.08, 0.12))
    T = np.eye(4)
    T[:3, 3] = (0.05, -0.03, 1.4)
    with black.load(person([part(xyz, triangles)], NOBODY, NOBODY)) as loaded:
        z = black.depth(loaded, Pose(T), STRAIGHT, {Layer.BODY})
        nothing = black.depth(loaded, Pose(T), STRAIGHT, {Layer.COVER})
    assert z.min() == pytest.approx(1.4 - 0.12, abs=2e-3)
    assert nothing.min() > 1e3
    row, column = np.unravel_index(z.argmin(), z.shape)
    u, v = project(np.array([[0.05, -0.03, 1.28]]), STRAIGHT)[0]
    assert abs(row - v) < 3
    assert abs(column - u) < 3


def test_what_reaches_behind_the_camera_is_cut_off(black):
    """A sheet below the camera, which it passes: its image ends at the horizon."""
    xyz = np.array([[-5, 0.5, -3], [5, 0.5, -3], [5, 0.5, 20], [-5, 0.5, 20]])
    sheet = part(xyz, np.array([[0, 1, 2], [0, 2, 3]]), two_sided=True)
    with black.load(person([sheet], NOBODY, NOBODY)) as loaded:
        z = black.depth(loaded, Pose(np.eye(4)), STRAIGHT, {Layer.BODY})
    rows = np.arange(STRAIGHT.height)
    below = rows > K[1, 2] + K[1, 1] * 0.5 / 20 + 1
    assert (z[~below][:-2] > 1e3).all()
    expected = 0.5 * K[1, 1] / (rows[below] - K[1, 2])
    near = expected > 1.95  # m; the camera sees less than the sheet's width from here on
    np.testing.assert_allclose(z[below][near][:, 150], expected[near], rtol=2e-3)


def test_visibility_agrees_with_rays(black, rng):
    """A head-like solid with a nose and an arm before it, against every triangle."""
    skull = ellipsoid((0.1, 0.08, 0.12))
    nose = ellipsoid((0.05, 0.012, 0.025))
    nose = (nose[0] + (0.09, 0, -0.02), nose[1])
    arm = ellipsoid((0.015, 0.2, 0.02))
    arm = (arm[0] + (0.2, 0.06, 0.0), arm[1])
    points = random_points(*skull, 400, rng)
    normals = points.of(skull[0] / np.array([0.1, 0.08, 0.12]) ** 2)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    parts = [part(*skull), part(*nose), part(*arm, layer=Layer.OBJECT)]
    body = person(parts, points.of(skull[0]), normals)
    corners = np.concatenate([solid[0][solid[1]] for solid in (skull, nose, arm)])
    lens = Lens(np.array([[420.0, 0, 63.5], [0, 420, 63.5], [0, 0, 1]]), 128, 128)
    wrong = doubtful = 0
    with black.load(body) as loaded:
        for yaw in (0, 35, 80, 150):
            c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
            R = np.array([[0, 1.0, 0], [0, 0, -1], [-1, 0, 0]]) @ [
                [c, -s, 0],
                [s, c, 0],
                [0, 0, 1],
            ]
            T = facing_pose(R, np.array([0, 0, 1.0]), 1.1)
            seen = look(black, loaded, Pose(T), lens)
            centre = -T[:3, :3].T @ T[:3, 3]
            for k, place in enumerate(body.keypoints):
                ray = place - centre
                distance = ray_distances(centre, ray, corners)[0].min()
                grazing = abs((ray * normals[k]).sum()) / np.linalg.norm(ray) < 0.15
                truth = distance > 0.995  # nothing lies 5 mm before it
                doubtful += grazing
                wrong += (truth != seen.visible[k]) & ~grazing
    assert doubtful < 350
    # A silhouette crosses the pixel of a few.
    assert wrong < 0.02 * 4 * 400


def test_hair_covers_and_does_not_hide(black):
    skull, hair = ellipsoid((0.1, 0.08, 0.12)), ellipsoid((0.11, 0.09, 0.13))
    top = hair[0][hair[1]].mean(1)[:, 2] > 0.02
    cap = part(hair[0], hair[1][top], layer=Layer.COVER, two_sided=True)
    places = np.array([[0.07, 0, 0.0857], [0.1, 0, 0], [-0.1, 0, 0]])
    body = person([part(*skull), cap], places, places / np.linalg.norm(places, axis=1)[:, None])
    T = facing_pose(np.array([[0, 1.0, 0], [0, 0, -1], [-1, 0, 0]]), np.array([0, 0, 1.0]), 1.0)
    with black.load(body) as loaded:
        seen = look(black, loaded, Pose(T), STRAIGHT)
    assert seen.visible.tolist() == [True, True, False]
    assert seen.covered.tolist()[:2] == [True, False]


def test_the_torso_turns_about_the_neck_and_the_head_stays(black):
    head, torso = ellipsoid((0.05, 0.05, 0.05)), ellipsoid((0.05, 0.05, 0.05))
    below = part(torso[0] + (0.1, 0, -0.3), torso[1])
    below.mesh.shares[:, 0] = 0
    body = person([part(*head), below], NOBODY, NOBODY)
    T = facing_pose(np.array([[0, 1.0, 0], [0, 0, -1], [-1, 0, 0]]), np.array([0, 0, 1.0]), 1.5)
    turned = Pose(T, np.array([0, 0, np.pi / 2]))
    with black.load(body) as loaded:
        before, after = (
            black.depth(loaded, pose, STRAIGHT, {Layer.BODY}) for pose in (Pose(T), turned)
        )
    # The torso lay 0.21 m before the neck's axis; now it lies as far to the person's left.
    neck = body.neck
    left = np.array([neck[0], 0.1 - neck[0], -0.3])
    u, v = project(transformed(T, left[None]), STRAIGHT)[0].round().astype(int)
    assert before[v, u] > 1e3
    assert after[v, u] == pytest.approx(1.5 - neck[0] - 0.05, abs=0.02)
    head_rows = slice(70, 100)
    np.testing.assert_array_equal(before[head_rows, 140:160], after[head_rows, 140:160])
