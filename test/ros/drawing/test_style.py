# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Colours that are distinguishable with the common colour blindnesses, and readable text."""

import cv2
import numpy as np
import pytest

from face_pose_ros.ros.drawing.style import (
    AXIS_COLOURS_RGB,
    BACKING_RGB,
    DOUBT_RGB,
    FACE_COLOURS_RGB,
    TEXT_RGB,
    face_colour_rgb,
)

# Linear RGB as seen by a dichromat: Machado, Oliveira, Fernandes (2009), severity 1.0.
SIGHT = {
    'normal': np.eye(3),
    'protanopia': np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    'deuteranopia': np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
# CIELAB difference; about 2.3 is just noticeable side by side, things far apart need more.
TOLD_APART = 15.0


def linear(rgb) -> np.ndarray:
    """sRGB, 0 to 255, to linear, 0 to 1 (IEC 61966-2-1)."""
    c = np.asarray(rgb) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def seen_lab(rgb, sight: str) -> np.ndarray:
    """CIELAB (N, 3) of colours (N, 3) for this kind of colour vision."""
    seen = (linear(rgb) @ SIGHT[sight].T).clip(0, 1)
    encoded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(encoded.astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0]


def least_difference(rgb, sight: str) -> float:
    lab = seen_lab(rgb, sight)
    i, j = np.triu_indices(len(lab), 1)
    return float(np.linalg.norm(lab[i] - lab[j], axis=1).min())


def contrast(a, b) -> float:
    """Contrast ratio of WCAG 2.2, 1 to 21."""
    low, high = sorted(float(linear(c) @ (0.2126, 0.7152, 0.0722)) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def test_the_simulation_confuses_what_dichromats_confuse():
    red_and_green = [(200, 80, 60), (124, 125, 50)]
    assert least_difference(red_and_green, 'normal') > 50
    assert least_difference(red_and_green, 'deuteranopia') < 15


@pytest.mark.parametrize('sight', SIGHT)
@pytest.mark.parametrize('colours', [FACE_COLOURS_RGB, AXIS_COLOURS_RGB], ids=['faces', 'axes'])
def test_everybody_tells_the_colours_apart(colours, sight):
    assert least_difference(colours, sight) > TOLD_APART


@pytest.mark.parametrize('sight', SIGHT)
def test_the_covariance_colour_differs_from_every_face_colour(sight):
    for colour in FACE_COLOURS_RGB:
        assert least_difference([colour, DOUBT_RGB], sight) > TOLD_APART


def test_text_and_bars_stand_out_from_their_backing():
    assert contrast(TEXT_RGB, BACKING_RGB) > 12
    for colour in FACE_COLOURS_RGB:
        assert contrast(colour, BACKING_RGB) > 3


def test_neighbouring_numbers_have_different_colours_that_stay():
    colours = [face_colour_rgb(number) for number in range(6)]
    assert len(set(colours)) == 6
    assert face_colour_rgb(3 + 6) == colours[3]
