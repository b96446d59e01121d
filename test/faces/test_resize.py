# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Smaller images without aliasing, to the byte as torch's antialiased filter makes them."""

import cv2
import numpy as np
import pytest

from face_pose_ros.faces.resize import resize


@pytest.mark.parametrize('size', [(81, 170), (40, 211), (101, 60), (7, 9), (130, 300)])
def test_every_byte_is_torchs(rng, size):
    torch = pytest.importorskip('torch', reason='needs pip install torch')
    image = rng.integers(0, 256, (101, 211, 3), dtype=np.uint8)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(planes, size, mode='bilinear', antialias=True)
    np.testing.assert_array_equal(resize(image, *size), expected[0].permute(1, 2, 0).numpy())


def test_a_grating_finer_than_the_new_pixels_becomes_grey():
    stripes = np.zeros((64, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize(stripes, 20, 31)
    inside = small[:, 1:-1].astype(int)
    assert np.abs(inside - 128).max() < 20
    nearest = cv2.resize(stripes, (31, 20), interpolation=cv2.INTER_NEAREST)
    assert np.abs(nearest.astype(int) - 128).max() == 128


def test_middles_stay_middles():
    image = np.zeros((90, 120, 3), np.uint8)
    image[30:60, 45:75] = (200, 100, 50)
    small = resize(image, 30, 40).astype(float)
    rows, columns = np.mgrid[:30, :40]
    total = small[..., 0].sum()
    assert (small[..., 0] * rows).sum() / total == pytest.approx((44.5 + 0.5) / 3 - 0.5, abs=0.01)
    assert (small[..., 0] * columns).sum() / total == pytest.approx(60 / 3 - 0.5, abs=0.01)


def test_the_same_size_is_the_same_image(rng):
    image = rng.integers(0, 256, (11, 21, 3), dtype=np.uint8)
    assert resize(image, 11, 21) is image
