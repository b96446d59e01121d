# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Photographs with labels, their teachers; batches that follow from seed and step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from face_pose_lab.keypoint_net.examples import photographs, rendered, teacher_labels
from face_pose_lab.keypoint_net.train import Options, learning_rate, make_batch, sources_of
from face_pose_lab.training.shards import shard_folder, write_manifest, write_shard
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from face_pose_ros.keypoints import semantic
from face_pose_ros.pose.face_model import semantic_head

FACING = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
SIDE_PX, FOCAL_PX = 160, 380.0


def pose(yaw_deg: float) -> NDArray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler('y', yaw_deg, degrees=True).as_matrix() @ FACING
    T[:3, 3] = (0.004, -0.006, 0.9)
    return T


def places(T: NDArray) -> NDArray:
    xyz = semantic_head().xyz_head @ T[:3, :3].T + T[:3, 3]
    return FOCAL_PX * xyz[:, :2] / xyz[:, 2:] + 0.5 * (SIDE_PX - 1)


def labelled(
    yaw_deg: float, head_yaw_deg: float | None = None, **changed: object
) -> dict[str, NDArray]:
    """Labels of one picture: Face Mesh measured one yaw, the hourglass another."""
    mesh, nothing = pose(yaw_deg), np.full((4, 4), np.nan)
    head = nothing if head_yaw_deg is None else pose(head_yaw_deg)
    direct = places(mesh) + 2.0
    direct[~semantic.IS_FACE] = np.nan
    labels = {
        'name': np.array('a.jpg'),
        'K_crop': np.array([[FOCAL_PX, 0, 79.5], [0, FOCAL_PX, 79.5], [0, 0, 1]]),
        'mesh_uv': places(mesh),
        'mesh_direct_uv': direct,
        'mesh_T': mesh,
        'mesh_presence': np.array(0.99),
        'mesh_apart': np.array(0.01),
        'head_uv': places(head),
        'head_T': head,
        'head_apart': np.array(np.nan if head_yaw_deg is None else 0.03),
    }
    assert set(changed) <= set(labels)
    labels |= {name: np.asarray(value) for name, value in changed.items()}
    return {name: value[None] for name, value in labels.items()}


def test_face_mesh_alone_from_the_front() -> None:
    labels = labelled(20.0)
    rows, found = teacher_labels(labels)
    assert rows.tolist() == [0]
    np.testing.assert_allclose(found.R_crop_head[0], labels['mesh_T'][0, :3, :3], atol=1e-6)
    # The face half-way between Face Mesh's points and the model's, the skull the model's.
    off = found.uv[0] - labels['mesh_uv'][0]
    np.testing.assert_allclose(off[semantic.IS_FACE], 1.0, atol=1e-3)
    np.testing.assert_allclose(off[~semantic.IS_FACE], 0.0, atol=1e-3)
    assert (found.weight[0, semantic.IS_FACE] == 1).all()
    assert (found.weight[0, ~semantic.IS_FACE] < 0.5).all()


def test_hourglass_alone_from_the_side() -> None:
    labels = labelled(62.0, 70.0)
    _, found = teacher_labels(labels)
    np.testing.assert_allclose(found.uv[0], labels['head_uv'][0], atol=1e-3)
    np.testing.assert_allclose(found.R_crop_head[0], labels['head_T'][0, :3, :3], atol=1e-6)
    assert (found.weight == 1).all()


def test_between_them_both() -> None:
    labels = labelled(44.5, 47.5)
    _, found = teacher_labels(labels)
    share = 0.5
    turned = Rotation.from_matrix(labels['mesh_T'][0, :3, :3].T @ found.R_crop_head[0])
    assert np.degrees(turned.magnitude()) == pytest.approx(share * 3.0, abs=0.02)
    assert np.isfinite(found.uv).all()


@pytest.mark.parametrize(
    'labels',
    [
        labelled(10.0, mesh_presence=0.2),
        labelled(10.0, mesh_apart=0.1),
        labelled(50.0),  # the hourglass did not run
        labelled(50.0, 52.0, mesh_apart=0.1, head_apart=0.2),
        labelled(60.0, 100.0),  # they contradict each other
    ],
    ids=['unseen', 'unsteady', 'beyond Face Mesh', 'both unsteady', 'contradiction'],
)
def test_unreliable_pictures_have_no_label(labels: dict[str, NDArray]) -> None:
    assert len(teacher_labels(labels)[0]) == 0


def write_photographs(folder: Path, count: int) -> None:
    rows = [
        labelled(float(yaw), name=f'{i}.jpg') for i, yaw in enumerate(np.linspace(0, 30, count))
    ]
    labels = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
    pictures = np.arange(count, dtype=np.uint8)[:, None, None, None]
    pictures = pictures * np.ones((1, SIDE_PX, SIDE_PX, 3), np.uint8)
    write_manifest(folder, {'kind': 'photographs'})
    write_shard(shard_folder(folder, 0), pictures, labels)


def write_rendered(folder: Path, count: int) -> None:
    poses = np.stack([pose(float(yaw)) for yaw in np.linspace(-80, 80, count)])
    labels = {
        'uv': np.stack([places(T) for T in poses]),
        'T_crop_head': poses,
        'K_crop': np.repeat(labelled(0.0)['K_crop'], count, 0),
    }
    rng = np.random.default_rng(0)
    write_manifest(folder, {'kind': 'crops'})
    pictures = rng.integers(0, 256, (count, SIDE_PX, SIDE_PX, 3), np.uint8)
    write_shard(shard_folder(folder, 0), pictures, labels)


def test_left_out_names_are_left_out(tmp_path: Path) -> None:
    write_photographs(tmp_path / 'a', 6)
    found = photographs([tmp_path / 'a'], frozenset({'2.jpg', '5.jpg'}))
    assert found.names.tolist() == ['0.jpg', '1.jpg', '3.jpg', '4.jpg']
    # Picture i is filled with i: names, pictures and labels stay together.
    assert [int(found.picture(i)[0, 0, 0]) for i in range(len(found))] == [0, 1, 3, 4]
    assert found.part(1, 3).names.tolist() == ['1.jpg', '3.jpg']
    assert found.without({'1.jpg', 'none'}).names.tolist() == ['0.jpg', '3.jpg', '4.jpg']
    assert int(found.part(2, 4).picture(1)[0, 0, 0]) == 4


def test_what_the_network_labelled_counts_where_its_crops_agree(tmp_path: Path) -> None:
    poses = np.stack([pose(yaw) for yaw in (-20.0, 5.0, 70.0)])
    labels = {
        'name': np.array(['0.jpg', '1.jpg', '2.jpg']),
        'uv': np.stack([places(T) for T in poses]),
        'T_crop_head': poses,
        'K_crop': np.repeat(labelled(0.0)['K_crop'], 3, 0),
        'apart': np.array([0.01, 0.2, 0.02]),
    }
    write_manifest(tmp_path, {'kind': 'own'})
    write_shard(shard_folder(tmp_path, 0), np.zeros((3, SIDE_PX, SIDE_PX, 3), np.uint8), labels)
    found = photographs([tmp_path])
    assert found.names.tolist() == ['0.jpg', '2.jpg']
    np.testing.assert_allclose(found.labels.uv[1], places(poses[2]), atol=1e-3)
    np.testing.assert_allclose(found.labels.R_crop_head[1], poses[2, :3, :3], atol=1e-6)
    assert (found.labels.weight == 1).all()


def test_batches_are_half_photographs_and_repeat(tmp_path: Path) -> None:
    write_photographs(tmp_path / 'a', 8)
    write_rendered(tmp_path / 'b', 8)
    drawn, real = rendered([tmp_path / 'b']), photographs([tmp_path / 'a'])
    sources = sources_of(drawn, real, None)
    options = Options(batch=16, empty=3)
    none = np.zeros((0, SIDE_PX, SIDE_PX, 3), np.uint8)
    one, again, other = (make_batch(sources, none, options, step) for step in (7, 7, 8))
    assert one.is_photograph.tolist() == [False] * 8 + [True] * 8 + [False] * 3
    assert one.present.tolist() == [True] * 16 + [False] * 3
    assert torch.equal(one.pictures, again.pictures)
    assert torch.equal(one.uv, again.uv)
    assert not torch.equal(one.pictures, other.pictures)
    # Where the face is in most crops: in the middle.
    middle = one.uv[:16][:, torch.from_numpy(semantic.IS_FACE)].mean(1).median(0).values
    assert ((middle - 63.5).abs() < 12).all()


def test_turned_photographs_take_the_place_of_others(tmp_path: Path) -> None:
    write_photographs(tmp_path / 'a', 8)
    write_rendered(tmp_path / 'b', 8)
    drawn, real = rendered([tmp_path / 'b']), photographs([tmp_path / 'a'])
    sources = sources_of(drawn, real, drawn)
    assert [round(16 * share) for _, _, share in sources] == [8, 6, 2]
    none = np.zeros((0, SIDE_PX, SIDE_PX, 3), np.uint8)
    batch = make_batch(sources, none, Options(batch=16, empty=0), 1)
    assert batch.is_photograph.tolist() == [False] * 8 + [True] * 8


def test_false_heads_are_crops_without_a_face(tmp_path: Path) -> None:
    write_rendered(tmp_path, 8)
    drawn = rendered([tmp_path])
    white = np.full((1, SIDE_PX, SIDE_PX, 3), 255, np.uint8)
    batch = make_batch(sources_of(drawn, drawn, None), white, Options(batch=16, empty=4), 1)
    assert batch.present.tolist() == [True] * 16 + [False] * 8
    brightness = batch.pictures[16:].float().mean((1, 2, 3)).reshape(4, 2)
    assert (brightness[:, 1] > brightness[:, 0] + 20).all()


def test_learning_rate_stays_and_then_falls_to_nothing() -> None:
    assert learning_rate(0, Options(lr=1e-3)) < 1e-5
    assert learning_rate(5000, Options(lr=1e-3)) == learning_rate(90000, Options(lr=1e-3))
    falling = Options(lr=1e-3, decay=1000, decay_from=5000)
    rates = [learning_rate(step, falling) for step in (5000, 5500, 5999)]
    assert rates[0] == pytest.approx(1e-3, rel=0.01)
    assert rates[1] == pytest.approx(5e-4, rel=0.01)
    assert rates[2] < 1e-5
