# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Options: one declaration, one name in Python and in ROS."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from face_pose_ros.options import (
    DetectorOptions,
    EstimatorOptions,
    PoseOptions,
    ShapeMemoryOptions,
    TrackingOptions,
    named_options,
    with_values,
)

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (
            lambda: DetectorOptions(min_face_px=15.9),
            r'min_face_px: 15.9 is not in \[16, 4096\] px',
        ),
        (lambda: TrackingOptions(detect_every=0), r'detect_every: 0 is not in \[1, 1000\]'),
        (lambda: TrackingOptions(max_gap_s=float('nan')), 'max_gap_s: nan is not in'),
        (lambda: PoseOptions(kernel='tukey'), "kernel: 'tukey' is not one of"),
        (lambda: PoseOptions(independent_keypoints=0), 'independent_keypoints: 0 is not positive'),
        (lambda: ShapeMemoryOptions(shared_variance=1.1), 'shared_variance: 1.1 is not in'),
        (lambda: replace(DetectorOptions(), score_threshold=1.0), 'score_threshold: 1.0'),
    ],
)
def test_a_value_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_integer_stands_for_a_number_with_a_point():
    options = DetectorOptions(min_face_px=30)
    assert (options.min_face_px, type(options.min_face_px)) == (30.0, float)


def test_values_are_set_by_their_dotted_names():
    options = EstimatorOptions()
    changed = with_values(options, {'tracking.detect_every': 7, 'pose.kernel_scale': 2.5})
    before = {name: value for name, value, _ in named_options(options)}
    after = {name: value for name, value, _ in named_options(changed)}
    assert after == before | {'tracking.detect_every': 7, 'pose.kernel_scale': 2.5}
    with pytest.raises(ValueError, match=r'tracking\.detect_every: 0 is not in'):
        with_values(options, {'tracking.detect_every': 0})


def test_every_option_has_a_text_and_numbers_have_a_range():
    for name, value, known in named_options(EstimatorOptions()):
        assert known.text, name
        if type(value) in (int, float):
            assert known.low <= value <= known.high, name


def test_what_is_made_from_the_options_is_up_to_date():
    pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')
    run = subprocess.run(
        [sys.executable, ROOT / 'tools' / 'make_reference.py', '--check'],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout) == (0, ''), run.stderr
