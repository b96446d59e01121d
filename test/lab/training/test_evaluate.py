# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation sees what an oracle knows, and what it does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from face_pose_lab.hourglass.network import HourglassOptions, HourglassOutput, StackedHourglass
from face_pose_lab.torch_faces.single_shot import cell_centres, cells_of_poses
from face_pose_lab.torch_geometry import se3, so3
from face_pose_lab.torch_keypoints.heatmaps import render_heatmaps
from face_pose_lab.training.evaluate import table
from face_pose_lab.training.evaluate_crops import evaluate_crops
from face_pose_lab.training.evaluate_scenes import (
    answers_of,
    at_first_look,
    at_second_look,
    evaluate_scenes,
)
from face_pose_lab.training.head_shape import fit_head_shape, head_model
from face_pose_lab.training.single_shot_losses import (
    SingleShotLossOptions,
    single_shot_losses,
    targets_of_heads,
)
from face_pose_lab.training.view_angle import yaw_deg
from helpers.scene import R_CAM_FRONTAL
from lab.training.blobs import MIRROR, POINTS, BlobHeads, BlobScenes
from lab.training.test_train import HOURGLASS, make_config

from face_pose_ros.faces.single_shot import STRIDES
from face_pose_ros.networks.single_shot import SingleShot, SingleShotOptions


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


class OracleSingleShot(torch.nn.Module):
    """Outputs that say the heads of batches, and one false face in every picture."""

    def __init__(self, batches: list, false_score: float) -> None:
        super().__init__()
        self.batches = iter(batches)
        self.false_score = false_score

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        batch = next(self.batches)
        height, width = pictures.shape[-2:]
        sizes = [(height // s, width // s) for s in STRIDES]
        cells, _ = cells_of_poses(batch.T_cam_head[:, None], batch.cameras_of_heads())
        targets = targets_of_heads(batch, sizes, SingleShotLossOptions())
        outputs, first = [], 0
        for (h, w), stride in zip(sizes, STRIDES, strict=True):
            out = torch.zeros(len(pictures), h * w, 10)
            out[..., 0] = -8
            centres = cell_centres(h, w, stride)
            for b in range(len(pictures)):
                score = targets.score[b, first : first + h * w]
                head = targets.head[b, first : first + h * w]
                for m in (score == 1).nonzero()[:, 0].tolist():
                    j = int(head[m])
                    offset = (cells.uv[j, 0] - centres[m]) / stride
                    size = cells.log_size[j, 0] - np.log(stride)
                    row = [torch.tensor([3.0]), offset, size[None], cells.columns[j, 0]]
                    out[b, m] = torch.cat([part.float() for part in row])
            if stride == 8:
                out[:, 0, 0] = self.false_score
                out[:, 0, 3] = 1.0
                out[:, 0, 4:] = torch.tensor([0.0, 0, -1, 1, 0, 0])
            outputs.append(out.mT.unflatten(-1, (h, w)))
            first += h * w
        return outputs


def test_an_oracle_finds_every_head_of_scenes():
    batches = BlobScenes(6).in_order(3)
    oracle = OracleSingleShot(BlobScenes(6).in_order(1), 1.0)  # asked picture by picture
    detect = at_first_look(oracle, POINTS.numpy(), amp=False)
    figures = evaluate_scenes(detect, batches, SingleShotLossOptions(), 'cpu')
    row = figures['all']
    assert (row['heads'], row['recall']) == (12, 1)
    assert row['rotation_deg'] < 0.01
    assert row['depth_percent'] < 0.01
    # The threshold lets through what the false answers do not reach.
    assert row['score_threshold'] == pytest.approx(float(torch.tensor(1.0).sigmoid()), abs=1e-6)


@pytest.mark.parametrize('amp', [False, True])
def test_networks_are_judged_in_either_precision(amp):
    sizes = SingleShotOptions(channels=(4, 4, 8, 8, 8), blocks=1, neck_channels=8, head_blocks=1)
    network = SingleShot(sizes).eval()
    with torch.no_grad():
        network.head.bias[0] = 1.0  # heads everywhere
    detect = at_first_look(network, POINTS.numpy(), amp)
    answers = answers_of(detect, BlobScenes(2).in_order(2), SingleShotLossOptions(), 'cpu')
    assert answers.pictures == 2
    assert answers.false_scores.logit().numpy() == pytest.approx(1.0, abs=0.5)


def test_false_answers_above_the_true_ones_cost_recall():
    batches = BlobScenes(6).in_order(3)
    oracle = OracleSingleShot(BlobScenes(6).in_order(1), 5.0)
    detect = at_first_look(oracle, POINTS.numpy(), amp=False)
    figures = evaluate_scenes(detect, batches, SingleShotLossOptions(), 'cpu')
    assert figures['all']['recall'] == 0


class FindsAll(torch.nn.Module):
    """A second look that finds all heads where they were proposed, and says a sigma."""

    def forward(self, regions: torch.Tensor) -> torch.Tensor:
        numbers = regions.new_zeros(len(regions), 16)
        numbers[:, 0] = 2.0
        numbers[:, 10:] = 1.0
        return numbers


def test_both_looks_count():
    batches = BlobScenes(6).in_order(3)
    first = OracleSingleShot(BlobScenes(6).in_order(1), 5.0)
    detect = at_second_look(first, FindsAll(), POINTS.numpy())
    answers = answers_of(detect, batches, SingleShotLossOptions(), 'cpu')
    assert answers.score.logit().tolist() == pytest.approx([3 + 2] * 12, abs=1e-2)
    assert answers.false_scores.logit().tolist() == pytest.approx([5 + 2] * 6, abs=1e-2)
    # It says that all look into their region's camera, which they do not quite.
    assert (answers.error[:, 3:].norm(dim=-1) > 0.01).all()
    assert answers.sigma.flatten().tolist() == pytest.approx([0.1 * np.e] * 72)


def test_surely_found_heads_have_a_low_loss_and_unwanted_ones_none():
    batch = BlobScenes(4).in_order(4)[0]
    oracle = OracleSingleShot([batch, batch], -8.0)
    losses = single_shot_losses(oracle(batch.pictures), batch, POINTS, SingleShotLossOptions())
    assert losses['score'] < 0.1
    only = SingleShotLossOptions(min_size_px=1000)  # nobody is to be found
    nothing = single_shot_losses(oracle(batch.pictures), batch, POINTS, only)
    assert float(nothing['pose']) == float(nothing['points']) == 0


def test_targets_leave_out_who_is_hidden():
    batch = BlobScenes(2).in_order(2)[0]
    sizes = [(96 // s, 160 // s) for s in STRIDES]
    every = targets_of_heads(batch, sizes, SingleShotLossOptions())
    assert (every.score == 1).sum(1).tolist() == [2, 2]
    moved = replace(batch, T_cam_head=batch.T_cam_head.clone())
    moved.T_cam_head[0, 0, 3] = -1.0  # out of the picture
    outside = targets_of_heads(moved, sizes, SingleShotLossOptions())
    assert (outside.score == 1).sum(1).tolist() == [1, 2]
    batch.visible_fraction[0] = 0.1
    without = targets_of_heads(batch, sizes, SingleShotLossOptions())
    assert (without.score == 1).sum(1).tolist() == [1, 2]
    # Around the hidden one nothing is asked.
    assert without.ignored[0].sum() > every.ignored[0].sum()
    assert 0 not in without.head


def test_pictures_without_heads_are_all_background():
    batch = BlobScenes(2).in_order(2)[0]
    empty = replace(
        batch,
        image_index=batch.image_index[:0],
        T_cam_head=batch.T_cam_head[:0],
        visible_fraction=batch.visible_fraction[:0],
    )
    outputs = OracleSingleShot([batch], -8.0)(batch.pictures)
    losses = single_shot_losses(outputs, empty, POINTS, SingleShotLossOptions())
    assert losses['score'] > 5  # the two faces that it says are false now
    assert float(losses['pose']) == 0


def test_the_table_has_a_line_for_each_bin():
    lines = table({'0-30': {'a': 1.0}, 'all': {'a': 2.0, 'b': 3.5}}).splitlines()
    assert lines[1].split() == ['0-30', '1.000', 'nan']
    assert lines[2].split() == ['all', '2.000', '3.500']
