# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""OpenPose's order of the face: on the packaged mean face, and on labelled ICT-FaceKit."""

import numpy as np
from face_pose_lab.face_mesh.points import mirror_partners
from helpers.facekit import load_facekit

from face_pose_ros.keypoints.face_mesh import POINTS
from face_pose_ros.keypoints.openpose import OPENPOSE_70
from face_pose_ros.pose.face_model import canonical_face, deformable_face
from face_pose_ros.weights import load_weights

# Where each of the 68 lies in the mirror.
MIRROR_68 = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *range(54, 47, -1),
    *range(59, 54, -1),
    *range(64, 59, -1),
    *range(67, 64, -1),
)


def test_seventy_different_points():
    assert len(OPENPOSE_70) == len(set(OPENPOSE_70)) == 70
    assert max(OPENPOSE_70) < POINTS


def test_left_is_the_mirror_of_right():
    partners = mirror_partners()
    mirrored = partners[list(OPENPOSE_70)].tolist()
    assert mirrored == [OPENPOSE_70[i] for i in (*MIRROR_68, 69, 68)]


def test_rows_run_as_openpose_draws_them():
    # The rows in which y, to the person's left, only grows.
    y = deformable_face().xyz_head[list(OPENPOSE_70[:68]), 1]
    rows = [range(17), range(17, 27), range(31, 36), range(36, 40), range(42, 46)]
    rows += [range(48, 55), range(60, 65)]
    back = [range(39, 42), range(45, 48), range(54, 60), range(64, 68)]
    for row in rows + [row[::-1] for row in back]:
        assert (np.diff(y[list(row)]) > 0).all(), row
    assert np.abs(y[27:31]).max() < 1e-9


def test_the_sellion_is_the_heads_origin():
    xyz = canonical_face().xyz_head[OPENPOSE_70[27]]
    np.testing.assert_allclose(xyz, 0, atol=1e-6)


def test_they_lie_where_facekit_labels_them():
    facekit = load_facekit()
    weights = load_weights('face_model')
    vertices = facekit.neutral.astype(float)
    corners = vertices[weights['ict_vertices'].astype(int)]
    points = (weights['ict_barycentric'].astype(float)[..., None] * corners).sum(-2)
    labels, own = vertices[facekit.landmark68_vertices], points[list(OPENPOSE_70[:68])]
    apart_m = np.linalg.norm(labels[:, None] - own, axis=-1)
    own_m = apart_m.diagonal()
    assert own_m[17:].max() < 0.007
    assert own_m[:17].max() < 0.025  # the mesh ends further back than the labelled jaw
    # Nor is one meant for another; the closed lips' inner edges touch.
    assert apart_m[17:60].argmin(-1).tolist() == list(range(17, 60))
