# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The training of the second look: what is cut out of scenes, its losses, that they fall."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from face_pose_lab.torch_faces.region_pose import read_regions, region_cameras
from face_pose_lab.torch_faces.single_shot import CellPoses, cells_of_poses
from face_pose_lab.torch_geometry import se3
from face_pose_lab.training import evaluate, proposals
from face_pose_lab.training.batches import CropSource
from face_pose_lab.training.config import config_from_dict, config_to_dict
from face_pose_lab.training.region_losses import RegionLossOptions, region_losses
from face_pose_lab.training.shards import read_manifest, write_manifest, write_shard
from face_pose_lab.training.tasks import RegionTask
from face_pose_lab.training.train import Training
from helpers.asserts import assert_poses_close
from lab.training.blobs import COLOURS, MIRROR, POINTS, BlobHeads, BlobScenes, blob_heads
from lab.training.test_evaluate import OracleSingleShot
from lab.training.test_train import make_config, parameters

from face_pose_ros.faces import region_pose
from face_pose_ros.faces.region_pose import REGION_PX
from face_pose_ros.faces.single_shot import PosedFaces
from face_pose_ros.keypoints import semantic

TINY = {'channels': [8, 8, 16, 16], 'blocks': [1, 1, 1, 1], 'hidden': 32, 'keypoints': 9}
OPTIONS = RegionLossOptions()


class HalfNobody(BlobHeads):
    """Every second crop is noise without a head."""

    def batch(self, indices):
        batch = super().batch(indices)
        nobody = torch.from_numpy(indices % 2 == 1)
        noise = torch.arange(batch.pictures.numel()).view(batch.pictures.shape) * 37 % 251
        T = batch.T_crop_head.clone()
        T[nobody] = torch.nan
        pictures = torch.where(nobody[:, None, None, None], noise.byte(), batch.pictures)
        return replace(batch, T_crop_head=T, pictures=pictures)


def make_training(tmp_path, **changes):
    tree = config_to_dict(make_config(tmp_path)) | {'region_pose': TINY} | changes
    config = config_from_dict({k: v for k, v in tree.items() if k != 'hourglass'}, 'test')
    torch.manual_seed(0)
    task = RegionTask(config, HalfNobody(64, 64), {'blobs': BlobScenes(2)}, MIRROR)
    return Training(config, task)


def centred(T):
    """Poses (N, 4, 4) in the cameras of their regions."""
    R = torch.from_numpy(region_pose.regions_of_poses(T.numpy()).R_cam_crop)
    return se3.from_rt(R.mT, torch.zeros(len(T), 3).double()) @ T


def perfect_numbers(batch):
    """What should be said of crops of REGION_PX, with heads or without, surely."""
    numbers = torch.zeros(len(batch.f), 16)
    is_head = batch.T_crop_head.isfinite().all(-1).all(-1)
    cameras = region_cameras(batch.f[is_head], batch.c[is_head], REGION_PX)
    cells, _ = cells_of_poses(batch.T_crop_head[is_head][:, None], cameras)
    cells = CellPoses(*(field[:, 0].float() for field in cells))
    nothing, _ = read_regions(numbers[is_head])
    numbers[:, 0] = torch.where(is_head, 9.0, -9.0)
    numbers[is_head, 1:3] = (cells.uv - nothing.uv) / (0.5 * REGION_PX)
    numbers[is_head, 3] = cells.log_size - nothing.log_size
    numbers[is_head, 4:10] = cells.columns - nothing.columns
    return numbers


def test_the_truth_has_no_loss_and_each_error_its_term():
    batch = HalfNobody(8, 64).batch(np.arange(8))
    perfect = perfect_numbers(batch)
    losses = region_losses(perfect, batch, POINTS, OPTIONS)
    assert losses['score'] < 1e-3
    assert losses['pose'] < 0.02  # the root is smoothed
    assert losses['points'] < 1e-3
    for number, less, terms in (
        (0, 10.0, {'score'}),
        (1, 0.5, {'pose', 'points'}),
        (3, 0.5, {'pose', 'points'}),
        (5, 0.5, {'pose', 'points'}),
        (8, 0.5, {'pose', 'points'}),
    ):
        wrong = perfect.clone()
        wrong[:, number] -= less
        worse = region_losses(wrong, batch, POINTS, OPTIONS)
        risen = {name for name in ('score', 'pose', 'points') if worse[name] > losses[name] + 1e-4}
        assert risen == terms


def test_keypoints_are_in_halves_of_the_side_from_the_centre():
    batch = HalfNobody(4, 64).batch(np.arange(4))
    nobody = torch.arange(4)[:, None, None] % 2 == 1
    batch = replace(batch, uv=torch.where(nobody, torch.nan, batch.uv))
    said = torch.zeros(4, 16 + 2 * len(POINTS))
    middle = 0.5 * (REGION_PX - 1)
    said[:, 16:] = ((batch.uv.nan_to_num(7.0) - middle) / (0.5 * REGION_PX)).flatten(1)
    assert region_losses(said, batch, POINTS, OPTIONS)['keypoints'] < 0.02  # the root is smoothed
    said[:, 16::2] += 0.5
    off = region_losses(said, batch, POINTS, OPTIONS)['keypoints']
    assert float(off) == pytest.approx(0.5 * OPTIONS.keypoints, rel=1e-3)
    said[1::2, 16:] = 9.0  # where nobody is, nothing is asked
    assert region_losses(said, batch, POINTS, OPTIONS)['keypoints'] == off


def test_a_head_from_behind_is_neither_face_nor_background():
    batch = BlobHeads(4, 64).batch(np.arange(4))
    only = RegionLossOptions(max_yaw_deg=0.0)
    losses = region_losses(torch.zeros(4, 16), batch, POINTS, only)
    assert float(losses['score']) == 0
    assert losses['pose'] > 0.1


def test_a_batch_may_have_no_heads():
    batch = HalfNobody(4, 64).batch(np.array([1, 3]))
    losses = region_losses(torch.zeros(2, 16), batch, POINTS, OPTIONS)
    assert float(losses['pose']) == float(losses['points']) == float(losses['likelihood']) == 0
    assert losses['score'] > 0.5


def test_the_likelihood_trains_only_what_is_stated():
    batch = BlobHeads(6, 64).batch(np.arange(6))
    numbers = torch.zeros(6, 16, requires_grad=True)
    region_losses(numbers, batch, POINTS, OPTIONS)['likelihood'].backward()
    assert numbers.grad[:, :10].abs().max() == 0
    assert numbers.grad[:, 10:].abs().min() > 0
    # The best sigma is the size of the error.
    right = perfect_numbers(batch)
    wrong = right.clone()
    wrong[:, 3] += 0.2
    best = [
        min(
            (float(region_losses(off + shift, batch, POINTS, OPTIONS)['likelihood']), step)
            for step in (-4.0, -1.0, 0.0, 0.7, 2.0)
            for shift in [torch.eye(16)[12] * step]
        )[1]
        for off in (right, wrong)
    ]
    assert best == [-4.0, 0.7]  # 0.1 exp(0.7) = 0.2


def test_the_losses_fall(tmp_path):
    training = make_training(tmp_path, steps=60, overfit_one_batch=True, batch=8)
    terms = [training.run_step() for _ in range(60)]
    assert set(terms[0]) == {'score', 'pose', 'points', 'likelihood', 'keypoints', 'gradient'}
    for name in ('score', 'pose', 'points', 'keypoints'):
        assert terms[-1][name] < 0.6 * terms[0][name], name


def test_a_resume_is_the_same_to_the_last_bit(tmp_path):
    through, first, second = (make_training(tmp_path, steps=4, amp=True) for _ in range(3))
    for _ in range(4):
        through.run_step()
    for _ in range(2):
        first.run_step()
    second.restore({'step': 2, **first.state()})
    for _ in range(2):
        second.run_step()
    assert torch.equal(parameters(through), parameters(second))


def test_both_stages_are_validated_together(tmp_path):
    training = make_training(tmp_path)
    rows = training.task.validate(training.average.network)['blobs']
    assert rows['all']['heads'] == 4


def test_proposals_have_the_poses_of_their_regions():
    batch = BlobScenes(2).in_order(2)[0]
    first = OracleSingleShot([_one(batch, i) for i in range(2)], 3.0)
    regions = proposals.regions_of(first, batch, keypoints_of(batch), POINTS)
    for i in range(2):
        T = regions[i].T_crop_head
        is_head = T.isfinite().all(-1).all(-1)
        assert is_head.tolist().count(True) == 2
        assert is_head.tolist().count(False) == 1
        truth = batch.T_cam_head[batch.image_index == i]
        # The oracle proposes the truth, in any order: a region's camera turns it back.
        turned = centred(truth)
        ours = torch.stack([T[is_head][j] for j in _matched(T[is_head], turned)])
        assert_poses_close(ours, turned, max_deg=0.01, max_mm=0.5)
        assert regions[i].pictures.shape == (3, 128, 128, 3)


def test_proposals_have_the_keypoints_of_their_heads():
    batch = BlobScenes(2).in_order(2)[0]
    first = OracleSingleShot([_one(batch, i) for i in range(2)], 3.0)
    regions = proposals.regions_of(first, batch, keypoints_of(batch), POINTS)
    uv = proposals.labels_of(regions)['uv']
    pictures = np.concatenate([region.pictures for region in regions])
    is_head = np.isfinite(uv).all((1, 2))
    assert is_head.tolist().count(True) == 4
    assert np.isnan(uv[~is_head]).all()
    for row in is_head.nonzero()[0]:
        columns, rows = uv[row].round().astype(int).T
        shown = pictures[row, rows, columns] > 160
        # Others may shine there too.
        assert shown[COLOURS.numpy() == 1].mean() > 0.9
        assert shown[COLOURS.numpy() == 0].mean() < 0.5


def keypoints_of(batch):
    return POINTS.expand(len(batch.T_cam_head), -1, -1)


def _one(batch, i):
    mine = batch.image_index == i
    return replace(
        batch,
        pictures=batch.pictures[i : i + 1],
        f=batch.f[i : i + 1],
        c=batch.c[i : i + 1],
        dist=batch.dist[i : i + 1],
        range_max=batch.range_max[i : i + 1],
        image_index=torch.zeros(int(mine.sum()), dtype=torch.int64),
        T_cam_head=batch.T_cam_head[mine],
        visible_fraction=batch.visible_fraction[mine],
    )


def _matched(a, b):
    return [int((a[:, :3, 3] - t).norm(dim=-1).argmin()) for t in b[:, :3, 3]]


def beside(T, heads):
    """Poses so many heads' sizes to the right of a pose."""
    moved = T.repeat(len(heads), 1, 1)
    moved[:, 0, 3] += torch.tensor(heads, dtype=torch.float64) * 0.24
    return moved


@pytest.mark.parametrize('visible', [1.0, 0.1])
def test_hits_have_poses_misses_have_none_and_half_hits_are_left_out(visible, monkeypatch):
    batch = _one(BlobScenes(1).in_order(1)[0], 0)
    camera = batch.camera_list()[0]
    T_true = batch.T_cam_head[:1]
    # Intersections over union of 0.9, 0.33, and none, six times.
    said = beside(T_true[0], [0.05, 0.5, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0])
    faces = PosedFaces(said.numpy(), np.zeros((8, 4)), np.linspace(0.9, 0.1, 8))
    monkeypatch.setattr(proposals, 'cells_of_picture', lambda *_: [torch.zeros(1)] * 4)
    monkeypatch.setattr(proposals, 'decode_faces', lambda *_: faces)
    image = batch.pictures[0].permute(1, 2, 0).contiguous()
    keypoints = keypoints_of(batch)[:1]
    args = T_true, torch.tensor([visible]), keypoints, POINTS
    regions = proposals.cut_out(None, image, camera, *args)
    is_head = regions.T_crop_head.isfinite().all(-1).all(-1).tolist()
    # Of who is hardly seen nothing is said; of the misses four are taken.
    assert is_head == [True] * (visible > 0.5) + [False] * 4
    assert len(regions.pictures) == len(is_head)
    nobody = proposals.cut_out(
        None, image, camera, T_true[:0], torch.zeros(0), keypoints[:0], POINTS
    )
    assert len(nobody.focal_px) == 4
    assert nobody.T_crop_head[:, :3].isnan().all()


def write_scenes(folder, batch, **more):
    """A folder of scenes whose shard number 0 is not complete yet."""
    manifest = {'kind': 'scenes', 'commit': 'abc', 'families': ['blobs'], 'seed': 3}
    write_manifest(folder, manifest)
    K = torch.eye(3).double().repeat(len(batch.f), 1, 1)
    K[:, 0, 0], K[:, 1, 1], K[:, :2, 2] = batch.f[:, 0], batch.f[:, 1], batch.c
    labels = {
        'K': K.numpy(),
        'dist': batch.dist[:, :5].numpy(),
        'image_index': batch.image_index.numpy(),
        'T_cam_head': batch.T_cam_head.numpy(),
        'visible_fraction': batch.visible_fraction.numpy(),
    }
    write_shard(folder / '00001', batch.pictures.permute(0, 2, 3, 1).numpy(), labels | more)


def test_shards_of_proposals_are_read_like_crops(tmp_path, monkeypatch):
    scenes, batch = tmp_path / 'scenes', BlobScenes(3).in_order(3)[0]
    write_scenes(scenes, batch, xyz_head=keypoints_of(batch).numpy())
    oracle = OracleSingleShot([_one(batch, i) for i in range(3)], 3.0)
    monkeypatch.setattr(proposals, 'packaged_single_shot', lambda: oracle)
    for _ in range(2):  # the second time there is nothing to do
        proposals.main([str(scenes), '--out', str(tmp_path / 'proposals')])
    there = read_manifest(tmp_path / 'proposals')
    assert (there['kind'], there['seed'], there['scenes_commit']) == ('proposals', 3, 'abc')
    assert [path.name for path in (tmp_path / 'proposals').glob('0*')] == ['00001']
    source = CropSource([str(tmp_path / 'proposals')])
    assert len(source) == 9
    crops = source.batch(np.arange(9))
    assert crops.T_crop_head.isfinite().all(-1).all(-1).sum() == 6
    assert crops.uv.shape == (9, len(POINTS), 2)
    assert crops.uv.isfinite().all(-1).all(-1).sum() == 6
    middle = crops.c.new_tensor([63.5, 63.5])
    assert (crops.c == middle).all()
    # Heads are as large in all regions as they are said to be.
    heads = crops.T_crop_head.isfinite().all(-1).all(-1)
    cameras = region_cameras(crops.f[heads], crops.c[heads], proposals.CROP_PX)
    cells, _ = cells_of_poses(crops.T_crop_head[heads][:, None], cameras)
    assert cells.log_size.exp().flatten().tolist() == pytest.approx([128 / 1.5] * 6, rel=1e-3)


def test_scenes_of_standard_sets_have_no_keypoints(tmp_path, monkeypatch):
    scenes, batch = tmp_path / 'scenes', BlobScenes(1).in_order(1)[0]
    write_scenes(scenes, batch)
    oracle = OracleSingleShot([_one(batch, 0)], 3.0)
    monkeypatch.setattr(proposals, 'packaged_single_shot', lambda: oracle)
    proposals.main([str(scenes), '--out', str(tmp_path / 'proposals')])
    crops = CropSource([str(tmp_path / 'proposals')]).batch(np.arange(3))
    assert crops.T_crop_head.isfinite().all(-1).all(-1).sum() == 2
    assert crops.uv.shape == (3, len(semantic.NAMES), 2)
    assert crops.uv.isnan().all()


def test_the_packaged_detector_is_evaluated_with_and_without_its_second_stage(tmp_path, capsys):
    write_scenes(tmp_path, BlobScenes(2).in_order(2)[0])
    figures = tmp_path / 'figures.json'
    evaluate.main(['packaged', '--data', str(tmp_path), '--json', str(figures)])
    said = capsys.readouterr().out
    assert f'{tmp_path}, first look\n' in said
    assert f'{tmp_path}, both looks\n' in said
    assert said.count('\nall ') == 2
    names = [f'{tmp_path}, first look', f'{tmp_path}, both looks']
    assert list(json.loads(figures.read_text())['data']) == names


def test_proposals_need_scenes(tmp_path, capsys):
    with pytest.raises(SystemExit):
        proposals.main([str(tmp_path), '--out', str(tmp_path / 'out')])
    assert 'manifest.json: no such file' in capsys.readouterr().err


def test_predictions_for_blobs_are_decoded():
    batch = blob_heads([0, 1, 2], 64)
    T = batch.T_crop_head
    regions = region_pose.regions_of_poses(T.numpy())
    middle = torch.full((3, 2), 0.5 * (REGION_PX - 1)).double()
    focal_px = torch.from_numpy(regions.focal_px)
    seen = replace(batch, T_crop_head=centred(T), f=focal_px, c=middle)
    cells = region_pose.read_regions(perfect_numbers(seen).double().numpy()).cells
    found = region_pose.poses_of_regions(cells, regions)
    assert_poses_close(torch.from_numpy(found), T, max_deg=0.01, max_mm=0.01)
