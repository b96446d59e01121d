# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Covariances fitted to errors are worth what they say, and are told where they are not."""

import pytest
import torch
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.training.calibrate_scenes import above, fit_uncertainty, nees_by_size
from face_pose_lab.training.evaluate_scenes import Answers


def make_answers(generator, heads=3000, pictures=500):
    """Heads whose errors shrink with size and are as unequal as stated; one in ten is missed."""
    log_size = 3.0 + 2.9 * torch.rand(heads, generator=generator, dtype=torch.float64)
    error = torch.randn(heads, 6, generator=generator, dtype=torch.float64)
    error *= (4 / log_size.exp()).sqrt()[:, None]
    error[:, 3] += 0.5 * error[:, 1]
    sigma = 0.02 * torch.rand(heads, 6, generator=generator, dtype=torch.float64) + 0.01
    error *= sigma
    score = torch.where(torch.rand(heads, generator=generator) < 0.9, 0.9, 0.0)
    error[score == 0] = torch.nan
    false = torch.linspace(0.1, 0.8, 101)
    return Answers(log_size.exp(), score, error, log_size, sigma, false, pictures)


def test_errors_over_fitted_covariances_are_six(generator):
    rows = nees_by_size(make_answers(generator), fit_uncertainty(make_answers(generator)))
    assert rows['all']['found'] == pytest.approx(2700, abs=100)
    for name, row in rows.items():
        assert row['nees'] == pytest.approx(6, rel=0.15), name
        assert row['within_90_percent'] == pytest.approx(90, abs=4)


def test_errors_that_are_larger_in_other_images_show(generator):
    answers = make_answers(generator)
    twice = answers._replace(error=2 * answers.error)
    assert nees_by_size(twice, fit_uncertainty(answers))['all']['nees'] == pytest.approx(24)


def test_at_a_score_of_one_half_there_is_one_false_face_in_ten_images(generator):
    assert make_answers(generator, pictures=1020).threshold == 0
    answers = make_answers(generator)
    offset = fit_uncertainty(answers).score_offset
    logits = answers.false_scores.double().logit() + offset
    assert int((logits.sigmoid() > 0.5).sum()) == 50


def test_false_heads_of_a_threshold_from_other_images_are_reported(generator):
    answers = make_answers(generator)
    found, false = above(answers, 0.5)
    assert found == pytest.approx(0.9, abs=0.02)
    assert false == pytest.approx(43 / 500)  # of 101 between 0.1 and 0.8
    assert above(answers, 0.95) == (0, 0)


def test_too_few_heads_are_refused(generator):
    with pytest.raises(DataError, match=r'heads found, at least 50 needed'):
        fit_uncertainty(make_answers(generator, heads=40))
