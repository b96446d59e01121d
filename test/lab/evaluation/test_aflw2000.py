# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The AFLW2000-3D protocol: labels, crops, figures of known keypoints."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from face_pose_lab.evaluation import aflw2000, metrics
from face_pose_lab.evaluation.aflw2000 import Configuration, Export
from face_pose_lab.evaluation.aflw2000_samples import load_samples
from face_pose_lab.evaluation.data_error import DataError

from face_pose_ros.geometry import rotations
from face_pose_ros.pose.face_model import semantic_head
from face_pose_ros.virtual_camera import photo_camera

# The pictures are for research only: whoever has them says where they lie.
FOLDER_VARIABLE = 'FACE_POSE_AFLW2000_DIR'
BESIDE_THE_REPOSITORY = Path(__file__).parents[4] / 'shared' / 'eval' / 'aflw2000'


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
    """Keypoints without noise of faces with these labels."""
    angles = np.asarray(angles, dtype=np.float64)
    count = len(angles)
    R = metrics.rotation_from_label(angles) @ metrics.R_HEAD_LABEL.T
    T = rotations.from_rt(R, [0.02, -0.03, 0.9])
    uv = photo_camera(450, 400).project(rotations.apply(T, semantic_head().xyz_head)).uv
    uv = uv.astype(np.float32)
    cov_uv = np.broadcast_to(np.eye(2, dtype=np.float32), (*uv.shape, 2)).copy()
    seen = np.full(count, presence, np.float32)
    return Export(
        names=np.array([f'face_{i}' for i in range(count)]),
        image_size=np.array([450, 400]),
        pitch_yaw_roll_deg=angles,
        boxes_xyxy=np.zeros((count, 4)),
        uv=uv,
        cov_uv=cov_uv,
        presence=seen,
        first_uv=uv.copy(),
        first_cov_uv=4 * cov_uv,
        first_presence=seen.copy(),
    )


def test_labels_give_names_pictures_angles_and_boxes(tmp_path):
    write_labels(tmp_path, {'one': entry(), 'too_far': entry((0, 99.1, 0)), 'two': entry()})
    samples = load_samples(tmp_path)
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
        load_samples(tmp_path)
    assert str(tmp_path / 'labels.json') in str(error.value)


def assert_refused(capsys, args, *parts):
    with pytest.raises(SystemExit) as stop:
        aflw2000.main([str(a) for a in args])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message
    assert 'Traceback' not in message


def test_the_command_names_what_is_missing(tmp_path, capsys):
    out = tmp_path / 'out.npz'
    nowhere = tmp_path / 'nowhere'
    assert_refused(capsys, ['export', '--data', nowhere, '--out', out], f'{nowhere}: no such')
    labels = tmp_path / 'labels.json'
    assert_refused(capsys, ['export', '--data', tmp_path, '--out', out], f'{labels}: no such')
    write_labels(tmp_path, {'one': entry()})
    picture = tmp_path / 'images' / 'one.jpg'
    assert_refused(capsys, ['export', '--data', tmp_path, '--out', out], f'{picture}: no image')
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


@pytest.mark.parametrize(
    'configuration',
    [
        Configuration(),
        Configuration(aflw2000.first),
        Configuration(model=aflw2000.rigid_head),
    ],
    ids=['default', 'first', 'rigid'],
)
def test_known_keypoints_have_no_error(configuration):
    angles = [[5, 10, -20], [-12, -25, 8], [4, 50, 3], [10, -70, 12], [0, 0, 0]]
    export = known_export(angles)
    export.presence[4] = export.first_presence[4] = 0.49
    rows = {r.name: r for r in aflw2000.score(export, configuration)}
    assert rows['all'].found == 0.8
    assert rows['0-30'].found == pytest.approx(2 / 3)
    for row in rows.values():
        assert row.geodesic_mean_deg < 1e-2
        assert 0 < row.sigma_deg < 5


def test_the_command_prints_every_configuration(tmp_path, capsys, monkeypatch):
    first = Configuration(aflw2000.first)
    monkeypatch.setattr(aflw2000, 'CONFIGURATIONS', {'all': Configuration(), 'first': first})
    known_export([[5, 10, -20], [4, 50, 3]]).save(tmp_path / 'keypoints.npz')
    aflw2000.main(['score', str(tmp_path / 'keypoints.npz')])
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line in ('all', 'first')] == ['all', 'first']
    aflw2000.main(['score', str(tmp_path / 'keypoints.npz'), '--table'])
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith('| first | ') for line in printed) == 4


def test_figures_and_a_plot_are_written(tmp_path, capsys):
    known_export([[5, 10, -20], [4, 50, 3]]).save(tmp_path / 'keypoints.npz')
    figures, picture = tmp_path / 'figures.json', tmp_path / 'plot.png'
    args = ['score', tmp_path / 'keypoints.npz', '--json', figures, '--plot', picture]
    aflw2000.main([str(a) for a in args])
    capsys.readouterr()
    written = json.loads(figures.read_text())
    assert set(written) == set(aflw2000.CONFIGURATIONS)
    assert [row['name'] for row in written['default']] == ['0-30', '30-60', '60-99', 'all']
    assert picture.read_bytes().startswith(b'\x89PNG')


def test_the_set_at_hand_is_the_one_described(data_folder):
    samples = load_samples(data_folder)
    yaw = np.array([s.pitch_yaw_roll_deg[1] for s in samples])
    counts = {name: int(mask.sum()) for name, mask in metrics.yaw_bins(yaw).items()}
    assert counts == {'0-30': 300, '30-60': 110, '60-99': 90, 'all': 500}


def test_a_few_pictures_go_through(data_folder, tmp_path, capsys):
    labels = json.loads((data_folder / 'labels.json').read_text())
    frontal = [n for n, e in labels.items() if abs(e['pitch_yaw_roll_deg'][1]) < 30][:2]
    write_labels(tmp_path, {name: labels[name] for name in frontal})
    (tmp_path / 'images').symlink_to(data_folder / 'images')
    out = tmp_path / 'keypoints.npz'
    aflw2000.main(['export', '--data', str(tmp_path), '--out', str(out)])
    export = Export.load(out)
    assert list(export.names) == frontal
    assert export.uv.shape == export.first_uv.shape == (2, 86, 2)
    rows = aflw2000.score(export, Configuration())
    assert rows[0].found == 1
    assert rows[0].geodesic_mean_deg < 12
