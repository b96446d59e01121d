# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera-rotation consistency on real portraits, and the virtual camera it stands on."""

import numpy as np
import pytest
from face_pose_lab.evaluation.camera_rotation import HEIGHT, WIDTH, measure, random_views
from helpers.portraits import portrait_view
from scipy.spatial.transform import Rotation

from face_pose_ros import FacePoseEstimator
from face_pose_ros.samples import load_portraits
from face_pose_ros.virtual_camera import (
    LENSES,
    View,
    lens_camera,
    render_view,
    spread,
)

FACE = np.array([[0.0, -0.09, 0.85], [0.07, -0.05, 0.9], [-0.07, 0.03, 0.88]])


def test_views_of_every_lens_are_the_same_and_show_the_whole_face():
    per_lens = [list(random_views(FACE, lens, 20, np.random.default_rng(3))) for lens in LENSES]
    for views in zip(*per_lens, strict=True):
        assert np.ptp([v.R_photo_cam for v in views], axis=0).max() == 0
        for view in views:
            uv, valid, _ = view.camera.project(FACE @ view.R_photo_cam)
            assert valid.all()
            assert ((uv > 0) & (uv < [WIDTH - 1, HEIGHT - 1])).all()
    angles = [Rotation.from_matrix(v.R_photo_cam).magnitude() for v in per_lens[0]]
    assert np.rad2deg(np.ptp(angles)) > 15


@pytest.mark.parametrize('lens', LENSES)
def test_a_view_shows_what_the_rays_say(lens):
    """A gradient photograph: the colour of a view's pixel tells the photograph's pixel."""
    _, photo_cam = portrait_view()
    v, u = np.mgrid[: photo_cam.height, : photo_cam.width]
    photo = np.stack([u // 3, v // 3, 0 * u], -1).astype(np.uint8)
    R = Rotation.from_euler('yxz', [4, -3, 12], degrees=True).as_matrix()
    view = View(R, lens_camera([700, 0, 470, 0, 690, 370, 0, 0, 1], WIDTH, HEIGHT, lens))
    picture = render_view(photo, photo_cam, view)
    for u_view, v_view in ((450, 350), (400, 400), (380, 300)):
        ray = view.camera.unproject([u_view, v_view]).rays
        expected = photo_cam.project(R @ ray).uv
        found = 3.0 * picture[v_view, u_view, :2] + 1
        np.testing.assert_allclose(found, expected, atol=3)


def test_spread_of_known_poses():
    T = np.tile(np.eye(4), (2, 1, 1))
    T[:, :3, 3] = [0, 0, 2.0]
    T[0, 0, 3], T[1, 0, 3] = 0.02, -0.02
    T[0, :3, :3] = Rotation.from_rotvec([0, 0.1, 0]).as_matrix()
    angle, offset = spread(T)
    np.testing.assert_allclose(angle, np.rad2deg(0.05), rtol=1e-6)
    np.testing.assert_allclose(offset, 1.0, rtol=1e-3)  # 2 cm at 2 m


@pytest.mark.slow
@pytest.mark.parametrize('name', ['grace_hopper', 'astronaut'])
def test_the_pose_is_constant_when_only_the_camera_turns(name):
    estimator = FacePoseEstimator()
    photo = load_portraits()[name]
    results = {lens: measure(name, photo, lens, 12, estimator) for lens in LENSES}
    for result in results.values():
        assert result.found == result.views
        assert result.angle_mean_deg <= 1.0
        assert result.translation_mean_percent <= 0.8
