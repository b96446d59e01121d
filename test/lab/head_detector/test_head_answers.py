# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A detector's answers are compared with the right heads, and calibrated by their errors."""

from dataclasses import fields

import numpy as np
import pytest

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.head_detector.answers import Answers, answers_on_scenes, figures
from face_pose_lab.head_detector.calibrate import best_false_scores, fit_covariance
from face_pose_lab.head_detector.sources import Scenes
from face_pose_lab.training.shards import shard_folder, write_manifest, write_shard
from lab.head_detector.material import BlackBackgrounds, numbered, poses, turned

from face_pose_ros.faces.head_uncertainty import pose_of_normalised
from face_pose_ros.geometry import rotations
from face_pose_ros.results import CoarsePoses, Faces

E = np.array([[0.05, -0.02, 0.03, 0.1, -0.05, 0.02], [-0.01, 0.04, -0.06, 0.0, 0.2, -0.1]])
SIGMA = 0.1


class Told:
    """A detector that gives poses and scores by the number that a picture shows."""

    def __init__(self, answers: dict[int, tuple[np.ndarray, list[float]]]) -> None:
        self.answers = answers

    def detect(self, image_rgb, camera) -> Faces:
        T, scores = self.answers[int(image_rgb[0, 0, 0])]
        J = pose_of_normalised(T)
        coarse = CoarsePoses(T, SIGMA**2 * J @ J.swapaxes(1, 2))
        boxes = np.zeros((len(T), 4), np.float32)
        return Faces(boxes, np.array(scores, np.float32), coarse)


@pytest.fixture
def answers(tmp_path) -> Answers:
    """Two heads are found, one is not, a hidden one is found, and there is one false head."""
    T = poses(np.stack([turned(30), turned(-50), turned(0), turned(10)]), 1.2)
    T[:, 0, 3] = [-0.4, 0.0, 0.4, 0.0]
    true = T.copy()
    true[:2] = rotations.moved(T[:2], np.einsum('nij,nj->ni', pose_of_normalised(T[:2]), E))
    labels = {
        'K': np.tile([[200.0, 0, 159.5], [0, 200, 119.5], [0, 0, 1]], (2, 1, 1)),
        'dist': np.zeros((2, 5)),
        'image_index': np.array([0, 0, 0, 1]),
        'T_cam_head': true,
        'visible_fraction': np.array([1.0, 0.5, 0.1, 1.0], np.float32),
    }
    write_manifest(tmp_path, {'kind': 'scenes'})
    write_shard(shard_folder(tmp_path, 0), numbered(2, 240, 320), labels)
    invented = poses(turned(0)[None], 0.9)
    invented[:, 1, 3] = 0.4
    told = {
        0: (np.concatenate([T[:3], invented]), [0.9, 0.8, 0.75, 0.7]),
        1: (T[:0], []),
    }
    return answers_on_scenes(Told(told), Scenes([tmp_path]))


def test_answers_belong_to_their_heads(answers):
    assert answers.score == pytest.approx([0.9, 0.8, 0.0])
    np.testing.assert_allclose(answers.error[:2], E, atol=1e-9)
    assert np.isnan(answers.error[2]).all()
    expected = np.tile(SIGMA**2 * np.eye(6), (2, 1, 1))
    np.testing.assert_allclose(answers.covariance[:2], expected, atol=1e-9)
    assert answers.false_scores == pytest.approx([0.7])
    assert answers.pictures == 2


def test_figures_are_those_of_the_heads_above_the_threshold(answers):
    row = figures(answers, 0.5)['20-400']
    angles = np.degrees(np.linalg.norm(E[:, 3:], axis=-1))
    assert (row['heads'], row['recall']) == (3, pytest.approx(2 / 3))
    assert row['rotation_deg'] == pytest.approx(angles.mean())
    assert row['depth_percent'] == pytest.approx(4.5)
    assert row['nees'] == pytest.approx((E**2).sum(1).mean() / SIGMA**2)
    assert figures(answers, 0.85)['20-400']['recall'] == pytest.approx(1 / 3)
    assert np.isnan(figures(answers, 0.5)['160-400']['rotation_deg'])


def test_the_covariance_of_normalised_errors_is_found(rng):
    count = 6000
    A = np.tril(rng.normal(0, 0.3, (6, 6)), -1) + np.diag(rng.uniform(0.6, 2, 6))
    sigma = rng.uniform(0.05, 0.3, (count, 6))
    size = np.exp(rng.uniform(np.log(17), np.log(300), count))
    # The largest heads are known twice as well.
    gain = np.interp(np.log(size), np.log([90, 220]), [1, 0.25])[:, None] ** 0.5
    made = Answers(
        size,
        np.ones(count),
        gain * sigma * (rng.normal(size=(count, 6)) @ A.T),
        np.eye(6) * sigma[:, None] ** 2,
        np.log(size),
        np.zeros(0),
        1,
    )
    log_size, covariance = fit_covariance(made, 0.5)
    assert len(log_size) == len(covariance) == 5
    scale = np.sqrt(np.diag(A @ A.T))
    scale = scale * scale[:, None]
    np.testing.assert_allclose(covariance[1] / scale, A @ A.T / scale, atol=0.15)
    np.testing.assert_allclose(covariance[4] / scale, 0.25 * A @ A.T / scale, atol=0.05)
    with pytest.raises(DataError, match='0 heads found, at least 50 needed'):
        fit_covariance(made, 2.0)
    small = Answers(*(getattr(made, f.name) for f in fields(made)))
    small.log_size[:] = np.minimum(small.log_size, np.log(90))
    with pytest.raises(DataError, match='0 heads found near 220 px, at least 7 needed'):
        fit_covariance(small, 0.5)


def test_scenes_without_heads_are_refused(tmp_path):
    labels = {
        'K': np.tile([[200.0, 0, 159.5], [0, 200, 119.5], [0, 0, 1]], (2, 1, 1)),
        'dist': np.zeros((2, 5)),
        'image_index': np.zeros(0, int),
        'T_cam_head': np.zeros((0, 4, 4)),
        'visible_fraction': np.zeros(0, np.float32),
    }
    write_manifest(tmp_path, {'kind': 'scenes'})
    write_shard(shard_folder(tmp_path, 0), numbered(2, 240, 320), labels)
    nothing = np.zeros((0, 4, 4)), []
    with pytest.raises(DataError, match='none of 2 scenes has a head'):
        answers_on_scenes(Told({0: nothing, 1: nothing}), Scenes([tmp_path]))


def test_the_highest_score_of_every_empty_picture_counts():
    two = poses(np.stack([turned(0), turned(0)]))
    found = best_false_scores(Told({0: (two, [0.6, 0.3])}), BlackBackgrounds(), 3, seed=0)
    assert found == pytest.approx([0.6, 0.6, 0.6])
    none = best_false_scores(Told({0: (two[:0], [])}), BlackBackgrounds(), 2, seed=0)
    assert none.tolist() == [0, 0]
