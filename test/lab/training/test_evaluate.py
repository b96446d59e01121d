# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation sees what an oracle knows, and what it does not."""

import json

import numpy as np
import pytest
import torch
from face_pose_lab.hourglass.network import HourglassOptions, HourglassOutput, StackedHourglass
from face_pose_lab.torch_geometry import se3, so3
from face_pose_lab.torch_keypoints.heatmaps import render_heatmaps
from face_pose_lab.training import evaluate
from face_pose_lab.training.checkpoints import save_checkpoint
from face_pose_lab.training.config import DataOptions
from face_pose_lab.training.evaluate import load_trained, table
from face_pose_lab.training.evaluate_crops import evaluate_crops
from face_pose_lab.training.head_shape import fit_head_shape, head_model
from face_pose_lab.training.view_angle import yaw_deg
from helpers.scene import R_CAM_FRONTAL
from lab.training.blobs import MIRROR, BlobHeads
from lab.training.test_train import HOURGLASS, make_config, make_training


class OracleHourglass(StackedHourglass):
    """Heatmaps of the heads of a source, in their order, moved by some pixels."""

    def __init__(self, source: BlobHeads, shift_px: float = 0.0) -> None:
        super().__init__(HourglassOptions(**HOURGLASS))
        self.uv = source.batch(np.arange(len(source))).uv + shift_px
        self.first = 0

    def forward(self, crop: torch.Tensor) -> HourglassOutput:
        uv = self.uv[self.first : self.first + len(crop)]
        self.first += len(crop)
        return HourglassOutput(render_heatmaps(uv, 8, 8, 4)[:, None], None)


def model_of(source: BlobHeads):
    return head_model(fit_head_shape(source.batch(np.arange(len(source))).xyz_head, 3))


def test_an_oracle_makes_no_error_with_crops(tmp_path):
    source = BlobHeads(70)  # more than one batch
    network = OracleHourglass(source)
    rows = evaluate_crops(
        network, source, model_of(source), torch.from_numpy(MIRROR), make_config(tmp_path)
    )
    assert rows['all']['heads'] == 70
    assert sum(row['heads'] for name, row in rows.items() if name != 'all') == 70
    assert rows['all']['keypoints_percent'] < 0.01
    assert rows['all']['rotation_deg'] < 1.0  # the prior pulls the shape to the mean
    assert rows['all']['keypoint_nees'] < 0.01


def test_a_shift_is_seen_in_percent_of_the_head(tmp_path):
    source = BlobHeads(20)
    rows = evaluate_crops(
        OracleHourglass(source, 1.0),
        source,
        model_of(source),
        torch.from_numpy(MIRROR),
        make_config(tmp_path),
    )
    size = source.batch(np.arange(20)).head_size_px.mean()
    assert rows['all']['keypoints_percent'] == pytest.approx(100 * 2**0.5 / float(size), rel=0.05)
    # Both coordinates off by one pixel, and the floor of the covariance is 0.1 cells of 4 px.
    assert rows['all']['keypoint_nees'] == pytest.approx(1 / 0.4**2, rel=0.05)


@pytest.mark.parametrize('angle', [0.0, 50.0, -130.0])
def test_yaw_is_where_the_camera_is_around_the_head(angle):
    """Turning the head to its right brings the camera to its left."""
    turn = so3.exp(torch.tensor([0.0, 0.0, -angle], dtype=torch.float64).deg2rad())
    T = se3.from_rt(R_CAM_FRONTAL @ turn, torch.tensor([0.0, 0, 1], dtype=torch.float64))
    assert float(yaw_deg(T[None])) == pytest.approx(angle, abs=1e-9)


def test_the_averaged_weights_of_a_checkpoint_are_evaluated_as_exported(tmp_path, capsys):
    training = make_training(make_config(tmp_path, data={'train': ['none']}))
    training.run_step()
    path = save_checkpoint(tmp_path, training.step, training.state(), keep=1)
    task, config, state = load_trained(path, DataOptions())
    assert (state['step'], config.data.train) == (1, ())
    average = training.average.network.state_dict()['stem.0.weight']
    assert torch.equal(task.network.state_dict()['stem.0.weight'], average.half().float())
    evaluate.main([str(tmp_path), '--json', str(tmp_path / 'figures.json')])
    assert json.loads((tmp_path / 'figures.json').read_text()) == {'step': 1, 'data': {}}
    with pytest.raises(SystemExit):
        evaluate.main([str(tmp_path / 'nowhere.pt')])
    assert 'nowhere.pt: no such file' in capsys.readouterr().err


def test_the_table_has_a_line_for_each_bin():
    lines = table({'0-30': {'a': 1.0}, 'all': {'a': 2.0, 'b': 3.5}}).splitlines()
    assert lines[1].split() == ['0-30', '1.000', 'nan']
    assert lines[2].split() == ['all', '2.000', '3.500']
