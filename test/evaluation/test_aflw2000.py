"""The AFLW2000-3D protocol: labels, jittered crops, combined looks, figures of known keypoints."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cameras import make_camera
from helpers.portraits import portrait_view

from face_pose_ros.evaluation import aflw2000, metrics
from face_pose_ros.evaluation.aflw2000 import Configuration, DataError, Export
from face_pose_ros.evaluation.virtual_camera import photo_camera
from face_pose_ros.geometry import se3, so3
from face_pose_ros.keypoints.crop import crops_around_boxes, render_crops
from face_pose_ros.keypoints.face_mesh import face_mesh_v2
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.pose.face_model import canonical_face

# The pictures are for research only: whoever has them says where they lie.
FOLDER_VARIABLE = 'FACE_POSE_AFLW2000_DIR'
BESIDE_THE_REPOSITORY = Path(__file__).parents[3] / 'shared' / 'eval' / 'aflw2000'
BOX = torch.tensor([[430.0, 250.0, 570.0, 400.0]])


@pytest.fixture
def data_folder():
    folder = Path(os.environ.get(FOLDER_VARIABLE, BESIDE_THE_REPOSITORY))
    if not folder.is_dir():
        pytest.skip(f'no AFLW2000-3D pictures in {folder}; set {FOLDER_VARIABLE}')
    return folder


def entry(angles=(1.0, 2.0, 3.0)):
    points = np.random.default_rng(0).uniform(100, 300, (68, 3))
    return {'pitch_yaw_roll_deg': list(angles), 'points68_xyz_px': points.tolist()}


def write_labels(folder, labels):
    (folder / 'labels.json').write_text(labels if isinstance(labels, str) else json.dumps(labels))


def known_export(angles, presence=1.0):
    """Keypoints without noise of faces with these labels, 4 jittered crops that all agree."""
    angles = np.asarray(angles, dtype=np.float64)
    count = len(angles)
    R = torch.from_numpy(metrics.rotation_from_label(angles) @ metrics.R_HEAD_LABEL.T)
    t = torch.tensor([0.02, -0.03, 0.9], dtype=torch.float64).expand(count, 3)
    xyz_cam = se3.apply(se3.from_rt(R, t), canonical_face().xyz_head)
    uv = photo_camera(450, 400).project(xyz_cam).uv.numpy().astype(np.float32)
    crops = uv[:, None].repeat(4, 1)
    seen = np.full((count, 4), presence, np.float32)
    return Export(
        names=np.array([f'face_{i}' for i in range(count)]),
        image_size=np.array([450, 400]),
        pitch_yaw_roll_deg=angles,
        boxes_xyxy=np.zeros((count, 4)),
        uv=uv,
        cov_uv=np.broadcast_to(np.eye(2, dtype=np.float32), (*uv.shape, 2)).copy(),
        presence=seen[:, 0],
        image_px_per_crop_px=np.ones(count, np.float32),
        jitter_uv=crops,
        jitter_presence=seen,
        mirror_uv=crops + np.float32(2),
        mirror_presence=0.5 * seen,
    )


def test_labels_give_names_pictures_angles_and_boxes(tmp_path):
    write_labels(tmp_path, {'one': entry(), 'too_far': entry((0, 99.1, 0)), 'two': entry()})
    samples = aflw2000.load_samples(tmp_path)
    assert [s.name for s in samples] == ['one', 'two']
    assert samples[0].path == tmp_path / 'images' / 'one.jpg'
    np.testing.assert_array_equal(samples[0].pitch_yaw_roll_deg, [1, 2, 3])
    points = np.array(entry()['points68_xyz_px'])
    left, top, right, bottom = samples[0].box_xyxy
    assert (left, right) == (points[:, 0].min(), points[:, 0].max())
    assert (top, bottom) == (points[:, 1].min(), points[:, 1].max())


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        ('{"one": ', 'not JSON'),
        ('[1, 2]', 'not an object'),
        ('{}', 'no picture within 99 deg'),
        ({'one': {'pitch_yaw_roll_deg': [1, 2, 3]}}, "one has no 'points68_xyz_px'"),
        ({'one': 5}, 'one is damaged'),
        ({'one': entry() | {'pitch_yaw_roll_deg': ['a', 'b', 'c']}}, 'one is damaged'),
        ({'one': entry() | {'points68_xyz_px': [[1, 2, 3], [4, 5]]}}, 'one is damaged'),
        ({'one': entry((1, 2))}, r'one has shapes \(2,\) and \(68, 3\)'),
        ({'one': entry((1, 2, math.nan))}, 'one has numbers that are not finite'),
    ],
)
def test_damaged_labels_are_named(tmp_path, labels, message):
    write_labels(tmp_path, labels)
    with pytest.raises(DataError, match=message) as error:
        aflw2000.load_samples(tmp_path)
    assert str(tmp_path / 'labels.json') in str(error.value)


def assert_refused(capsys, args, *parts):
    with pytest.raises(SystemExit) as stop:
        aflw2000.main([str(a) for a in args])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message
    assert 'Traceback' not in message


def test_the_command_says_what_is_missing(tmp_path, capsys):
    out = tmp_path / 'out.npz'
    nowhere = tmp_path / 'nowhere'
    assert_refused(capsys, ['export', '--data', nowhere, '--out', out], f'{nowhere}: no such')
    labels = tmp_path / 'labels.json'
    assert_refused(capsys, ['export', '--data', tmp_path, '--out', out], f'{labels}: no such')
    write_labels(tmp_path, {'one': entry()})
    picture = tmp_path / 'images' / 'one.jpg'
    assert_refused(capsys, ['export', '--data', tmp_path, '--out', out], f'{picture}: no image')
    assert_refused(
        capsys, ['export', '--data', tmp_path, '--out', out, '--jitters', 1], 'at least 2, got 1'
    )
    assert_refused(capsys, ['score', out], f'{out}: no such file')
    assert not out.exists()


@pytest.mark.parametrize('content', [b'', b'no zip', b'PK\x03\x04 cut off'])
def test_a_damaged_file_of_keypoints_is_named(tmp_path, capsys, content):
    path = tmp_path / 'damaged.npz'
    path.write_bytes(content)
    assert_refused(capsys, ['score', path], f'{path}: not a file of `export`')


def test_an_npz_of_something_else_is_named(tmp_path, capsys):
    path = tmp_path / 'other.npz'
    np.savez(path, names=np.zeros(3))
    assert_refused(capsys, ['score', path], f'{path}: not a file of `export`')


def test_the_export_survives_the_file(tmp_path):
    export = known_export([[5, 10, -20], [0, -40, 3]])
    export.save(tmp_path / 'keypoints.npz')
    back = Export.load(tmp_path / 'keypoints.npz')
    for name, array in vars(export).items():
        np.testing.assert_array_equal(getattr(back, name), array)


def crop():
    return crops_around_boxes(BOX, None, make_camera('plumb_bob_5'), 256, 1.5)


def test_jitters_stay_within_their_bounds_and_balance():
    plain, crops = crop(), aflw2000.jittered(crop(), 64)
    assert len(crops.focal_px) == 64
    scale = (crops.focal_px / plain.focal_px).log()
    turn = plain.R_cam_crop.mT @ crops.R_cam_crop
    shift = plain.focal_px * turn[:, :2, 2] / turn[:, 2:, 2] / 256
    roll = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
    assert 0.9 * math.log(1.08) < scale.abs().max() <= math.log(1.08)
    # The shift is of the jittered crop's side, which differs by up to 8 %.
    assert 0.035 < shift.abs().max() <= 0.04 * 1.081
    assert math.radians(9) < roll.abs().max() < math.radians(10.1)
    torch.testing.assert_close(scale[::2], -scale[1::2])
    torch.testing.assert_close(roll[::2], -roll[1::2], rtol=0, atol=2e-3)
    torch.testing.assert_close(so3.nearest(crops.R_cam_crop), crops.R_cam_crop)


def test_every_crop_is_jittered_alike_and_each_time_the_same():
    two = aflw2000.join(crop(), crop())
    crops = aflw2000.jittered(two, 6)
    torch.testing.assert_close(crops.R_cam_crop[:6], crops.R_cam_crop[6:])
    torch.testing.assert_close(aflw2000.jittered(crop(), 6).focal_px, crops.focal_px[:6])


def test_a_mirrored_crop_shows_the_mirrored_picture_and_maps_back():
    photo, camera = portrait_view()
    box = torch.tensor([[172.0, 131.0, 355.0, 334.0]])
    plain = aflw2000.jittered(crops_around_boxes(box, None, camera, 256, 1.5), 2)
    flipped = aflw2000.mirrored(plain)
    image = torch.from_numpy(photo)
    torch.testing.assert_close(
        render_crops(image, flipped, camera),
        render_crops(image, plain, camera).flip(-1),
        rtol=0,
        atol=1e-3,
    )
    uv = torch.tensor([[[20.0, 90.0], [200.0, 31.0]]]).double().expand(2, -1, -1)
    uv_flipped = torch.stack([255 - uv[..., 0], uv[..., 1]], -1)
    torch.testing.assert_close(
        flipped.to_image(uv_flipped, camera)[0], plain.to_image(uv, camera)[0]
    )


def test_looks_that_agree_change_nothing():
    export = known_export([[5, 10, -20]])
    alone, combined = aflw2000.single(export), aflw2000.multi_crop(export)
    torch.testing.assert_close(combined.uv, alone.uv)
    torch.testing.assert_close(combined.cov_uv, alone.cov_uv)


def test_looks_that_disagree_count_by_their_presence_and_widen_the_covariance():
    export = known_export([[5, 10, -20]])
    jitter_uv = export.jitter_uv.copy()
    jitter_uv[:, 0, :, 0] += 8  # of four looks
    seen = replace(export, jitter_uv=jitter_uv)
    combined = aflw2000.multi_crop(seen)
    off = combined.uv[0] - torch.from_numpy(export.uv[0]).double()
    torch.testing.assert_close(
        off, torch.tensor([2.0, 0.0]).double().expand_as(off), rtol=0, atol=1e-4
    )
    added = combined.cov_uv - aflw2000.single(export).cov_uv
    variance = np.var([8, 0, 0, 0], ddof=1)
    torch.testing.assert_close(
        added[0, 0], torch.tensor([[variance, 0], [0, 0]]).double(), atol=1e-4, rtol=0
    )
    unseen = np.array([[0.0, 1, 1, 1]], np.float32)
    combined = aflw2000.multi_crop(replace(seen, jitter_presence=unseen))
    assert (combined.uv[0] - torch.from_numpy(export.uv[0])).abs().max() < 0.01


def test_two_looks_must_have_seen_the_face():
    export = known_export([[0, 0, 0]])
    presence = np.array([[0.1, 0.7, 0.2, 0.3]], np.float32)
    alone = replace(export, presence=np.float32([0.6]), jitter_presence=presence)
    assert aflw2000.multi_crop(alone).presence.item() == pytest.approx(0.6)


def test_the_second_pair_of_jitters_is_seen_in_the_mirror():
    export = known_export([[0, 0, 0]])
    shift_px = np.array([1, 2, 4, 8], np.float32)[:, None, None]
    export = replace(export, mirror_uv=export.jitter_uv + shift_px)
    off = aflw2000.multi_crop_mirrored(export).uv - torch.from_numpy(export.uv)
    weights = np.array([1.001, 1.001, 0.501, 0.501])  # known_export's presence, and a little
    expected = np.average([0, 0, 4, 8], weights=weights)
    assert off.mean().item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    'configuration', [Configuration(), Configuration(aflw2000.multi_crop)], ids=['one', 'several']
)
def test_known_keypoints_have_no_error(configuration):
    angles = [[5, 10, -20], [-12, -25, 8], [4, 50, 3], [10, -70, 12], [0, 0, 0]]
    export = known_export(angles)
    export.presence[4] = export.jitter_presence[4] = 0.49
    rows = {r.name: r for r in aflw2000.score(export, configuration)}
    assert rows['all'].answered == 0.8
    assert rows['0-30'].answered == pytest.approx(2 / 3)
    for row in rows.values():
        assert row.geodesic_mean_deg < 1e-2
        assert 0 < row.sigma_deg < 5


def test_the_command_prints_every_configuration(tmp_path, capsys, monkeypatch):
    several = Configuration(aflw2000.multi_crop)
    monkeypatch.setattr(aflw2000, 'CONFIGURATIONS', {'one': Configuration(), 'several': several})
    known_export([[5, 10, -20], [4, 50, 3]]).save(tmp_path / 'keypoints.npz')
    aflw2000.main(['score', str(tmp_path / 'keypoints.npz')])
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line in ('one', 'several')] == ['one', 'several']
    aflw2000.main(['score', str(tmp_path / 'keypoints.npz'), '--table'])
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith('| several | ') for line in printed) == 4


def test_mirrored_keypoints_lie_on_their_own_side_of_the_face():
    photo, _ = portrait_view()
    box = np.array([172.0, 131.0, 355.0, 334.0])
    sample = aflw2000.Sample('portrait', Path('portrait.jpg'), np.zeros(3), box)
    predictor = KeypointPredictor(face_mesh_v2(), looks=2)
    arrays = aflw2000._measure(photo, sample, predictor, 4, canonical_face().mirror)
    assert arrays['jitter_uv'].shape == arrays['mirror_uv'].shape == (4, 468, 2)
    assert arrays['presence'] > 0.9
    assert min(arrays['jitter_presence'].min(), arrays['mirror_presence'].min()) > 0.9
    for key in ('jitter_uv', 'mirror_uv'):
        off_px = np.linalg.norm(arrays[key] - arrays['uv'], axis=-1)
        assert np.median(off_px) < 2 * arrays['image_px_per_crop_px']
        assert off_px.max() < 10 * arrays['image_px_per_crop_px']


def test_the_set_at_hand_is_the_one_described(data_folder):
    samples = aflw2000.load_samples(data_folder)
    yaw = np.array([s.pitch_yaw_roll_deg[1] for s in samples])
    counts = {name: int(mask.sum()) for name, mask in metrics.yaw_bins(yaw).items()}
    assert counts == {'0-30': 300, '30-60': 110, '60-99': 90, 'all': 500}


def test_a_few_pictures_go_through(data_folder, tmp_path, capsys):
    labels = json.loads((data_folder / 'labels.json').read_text())
    frontal = [n for n, e in labels.items() if abs(e['pitch_yaw_roll_deg'][1]) < 30][:2]
    write_labels(tmp_path, {name: labels[name] for name in frontal})
    (tmp_path / 'images').symlink_to(data_folder / 'images')
    out = tmp_path / 'keypoints.npz'
    aflw2000.main(['export', '--data', str(tmp_path), '--out', str(out), '--jitters', '2'])
    export = Export.load(out)
    assert list(export.names) == frontal
    assert export.jitter_uv.shape == export.mirror_uv.shape == (2, 2, 468, 2)
    rows = aflw2000.score(export, Configuration(aflw2000.multi_crop))
    assert rows[0].answered == 1
    assert rows[0].geodesic_mean_deg < 12
