# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration of heatmaps, recovered from errors of known distribution."""

import numpy as np
import pytest
import torch
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.training.calibrate import background_crops, fit_covariance, fit_presence
from face_pose_lab.training.shards import ShardError


def test_gain_and_floor_of_a_covariance_are_found(generator):
    sigma_px = 0.5 + 3 * torch.rand(20000, generator=generator).double()
    own = torch.diag_embed(sigma_px.square()[:, None].expand(-1, 2))
    true = 1.7 * own + 2.0 * torch.eye(2)
    error = torch.linalg.cholesky(true) @ torch.randn(20000, 2, 1, generator=generator).double()
    gain, floor, nees = fit_covariance(error[..., 0], own)
    assert gain == pytest.approx(1.7, rel=0.15)
    assert floor == pytest.approx(2.0, rel=0.2)
    assert nees > 1.7  # what the heatmaps' own covariances promised too much


def test_presence_separates_confident_crops_from_others(generator):
    heads = 0.6 + 0.05 * torch.randn(500, generator=generator).double()
    background = 0.2 + 0.05 * torch.randn(500, generator=generator).double()
    slope, middle = fit_presence(heads, background)
    assert slope > 20
    assert middle == pytest.approx(0.4, abs=0.05)


def test_background_is_where_no_head_is(tmp_path):
    """A picture that is white around the keypoints and black elsewhere."""
    folder = tmp_path / '00000'
    folder.mkdir()
    picture = np.zeros((4, 120, 160, 3), np.uint8)
    picture[:, 20:60, 30:90] = 255
    rows, columns = np.mgrid[20:60:4, 30:90:4]
    uv = np.stack([columns, rows], -1).reshape(1, -1, 2).repeat(4, 0)
    np.save(folder / 'pictures.npy', picture)
    np.savez(folder / 'labels.npz', image_index=np.arange(4), uv=uv.astype(np.float32))
    (tmp_path / 'manifest.json').write_text('{}')
    crops = background_crops(str(tmp_path), 32)
    assert crops.shape[1:] == (3, 32, 32)
    assert crops.float().mean() < 40


def test_no_scene_is_a_clear_error(tmp_path):
    with pytest.raises((DataError, ShardError), match=str(tmp_path)):
        background_crops(str(tmp_path), 32)
