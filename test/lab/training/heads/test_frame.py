# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The head frame does not depend on where a mesh stands, how large it is, or in which units."""

import numpy as np
from face_pose_lab.similarity import similarity
from face_pose_lab.training.heads.frame import head_frame, mean_face
from scipy.spatial.transform import Rotation


def test_the_frame_of_a_moved_mean_face_is_its_motion(rng):
    mean = mean_face()
    R = Rotation.from_euler('xyz', [20, -50, 130], degrees=True).as_matrix()
    moved = 9.3 * mean @ R.T + (3, -1, 7)
    frame = head_frame(moved, moved[168], 0.1, mean)
    np.testing.assert_allclose(frame.R_head_mesh, R.T, atol=1e-9)
    expected = 0.93 * (mean - mean[168])
    np.testing.assert_allclose(frame.apply(moved), expected, atol=1e-6)


def test_similarity_finds_scale_rotation_and_translation(rng):
    source = rng.normal(size=(30, 3))
    R = Rotation.from_euler('xyz', [10, 20, 30], degrees=True).as_matrix()
    s, R_found, t = similarity(source, 2.5 * source @ R.T + (1, 2, 3))
    np.testing.assert_allclose(s, 2.5)
    np.testing.assert_allclose(R_found, R, atol=1e-12)
    np.testing.assert_allclose(t, (1, 2, 3), atol=1e-12)
