# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A depth image comes and goes: ids stay, and distances stay metric."""

import numpy as np
import pytest
from helpers.depth import face_depth
from helpers.portraits import portrait_view

from face_pose_ros import DepthImage, FacePoseEstimator

SIZE = 0.84  # of the face, relative to an adult's: a child of six


@pytest.fixture(scope='module')
def estimator():
    return FacePoseEstimator('cpu')


@pytest.fixture(scope='module')
def scene(estimator):
    """Picture, camera, the distance of a face of mean size, and depth of a smaller one (m)."""
    rgb, camera = portrait_view()
    (face,) = estimator.estimate(rgb, camera)
    shape, T = face.shape.copy(), face.T_cam_head.copy()
    shape[0] = (SIZE - 1) / estimator.model.size_sigma
    T[:3, 3] *= SIZE
    return rgb, camera, face.distance, face_depth(estimator.model, shape, T, camera)


def test_pixels_an_image_and_a_function_that_gives_it_are_the_same_depth(estimator, scene):
    rgb, camera, distance, z = scene
    image = DepthImage(z, camera)
    faces = [estimator.estimate(rgb, camera, depth=d)[0] for d in (z, image, lambda: image)]
    for face in faces:
        assert face.distance == pytest.approx(SIZE * distance, rel=0.01)
        assert face.depth.agreeing > 0.8 * face.depth.measured
        np.testing.assert_array_equal(face.T_cam_head, faces[0].T_cam_head)
    (without,) = estimator.estimate(rgb, camera, depth=lambda: None)
    assert without.depth is None
    assert without.distance == distance


def test_depth_of_another_type_or_size_is_refused(estimator, scene):
    rgb, camera, _, z = scene
    with pytest.raises(ValueError, match='uint16 in mm or float in m'):
        estimator.estimate(rgb, camera, depth=z.astype(np.int64))
    with pytest.raises(ValueError, match='but its camera is calibrated for'):
        estimator.track(rgb, camera, 0.0, depth=z[:-1])


def test_the_size_is_kept_when_depth_comes_and_goes(estimator, scene):
    rgb, camera, distance, z = scene
    estimator.tracker.reset()
    shown = [None] * 4 + [z] * 4 + [None] * 8
    faces = [estimator.track(rgb, camera, 0.1 * i, d)[0] for i, d in enumerate(shown)]
    assert len({face.id for face in faces}) == 1
    ratios = np.array([face.distance for face in faces]) / distance
    np.testing.assert_allclose(ratios[:4], 1, atol=0.02)
    np.testing.assert_allclose(ratios[5:8], SIZE, atol=0.01)
    np.testing.assert_allclose(ratios[8:], SIZE, atol=0.02)
    # What is not known of the size along the ray shrinks with the first depth image.
    sigma = [np.linalg.norm(face.sigma[:3]) / face.distance for face in faces]
    assert max(sigma[4:8]) < 0.5 * min(sigma[:4])
    assert max(sigma[8:]) < 0.9 * min(sigma[:4])
