# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights are the pinned ones or refused; the canonical face stands in our head frame."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from face_pose_lab import weights as teachers
from face_pose_lab.weights import FOLDER as TEACHERS
from helpers.published_models import published_file

from face_pose_ros import weights
from face_pose_ros.keypoints.network_output import Calibration, packaged_calibration
from face_pose_ros.options import PoseOptions
from face_pose_ros.weights import (
    FOLDER,
    GRAPHS_SHA256,
    SHA256,
    WeightsError,
    load_weights,
    read_graph,
)

CONVERTER = Path(__file__).resolve().parents[2] / 'lab' / 'tools' / 'convert_weights.py'

# Points of the canonical face (the person's own right and left), named as in the Face Mesh.
SELLION, NOSE_TIP, CHIN, FOREHEAD = 168, 1, 152, 10
EYE_RIGHT_OUTER, EYE_LEFT_OUTER = 33, 263


@pytest.mark.parametrize('name', list(SHA256))
def test_packaged_weights_load_and_have_a_card_that_names_them(name):
    assert load_weights(name)
    card = (FOLDER / f'{name}.md').read_text()
    assert SHA256[name] in card


def test_no_file_without_a_pin():
    assert {path.stem for path in FOLDER.glob('*.safetensors')} == set(SHA256)
    assert {path.stem for path in FOLDER.glob('*.xml')} == set(GRAPHS_SHA256)


def test_the_pose_options_have_what_was_measured_of_the_packaged_network():
    measured = packaged_calibration().independent_keypoints
    assert PoseOptions().independent_keypoints == pytest.approx(measured, abs=0.006)


@pytest.mark.parametrize('name', list(teachers.SHA256))
def test_the_teachers_weights_load_and_have_a_card_that_names_them(name):
    assert teachers.load_weights(name)
    assert teachers.SHA256[name] in (TEACHERS / f'{name}.md').read_text()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where the packaged files are looked for: empty."""
    monkeypatch.setattr(weights, 'FOLDER', tmp_path)
    return tmp_path


def test_a_missing_file_is_named_with_its_remedy(folder):
    with pytest.raises(WeightsError, match=r'network\.safetensors.*keypoint_network\.md') as error:
        load_weights('keypoint_network')
    assert SHA256['keypoint_network'] in str(error.value)
    with pytest.raises(WeightsError, match=r'network\.xml.*package_networks') as error:
        read_graph('keypoint_network')
    assert GRAPHS_SHA256['keypoint_network'] in str(error.value)


@pytest.mark.parametrize('damage', ['truncated', 'altered'])
@pytest.mark.parametrize('ending', ['safetensors', 'xml'])
def test_a_damaged_file_is_refused_with_both_sums(folder, damage, ending):
    for path in FOLDER.glob('head_detector.*'):
        shutil.copy(path, folder)
    damaged = folder / f'head_detector.{ending}'
    content = bytearray(damaged.read_bytes())
    if damage == 'truncated':
        del content[-100:]
    else:
        content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(WeightsError, match=r'[0-9a-f]{64} found, [0-9a-f]{64} expected') as error:
        read_graph('head_detector')
    assert str(damaged) in str(error.value)


def test_the_constants_of_a_graph_are_the_data_of_the_weights():
    graph, constants = read_graph('head_detector')
    tensors = load_weights('head_detector')
    assert tensors['network.last.bias'].shape == (16,)
    for name in ('network.last.bias', 'network.last.weight', 'network.tower.0.convolution.weight'):
        assert tensors[name].tobytes() in constants
    assert graph.startswith(b'<net')


def test_own_weights_are_read_and_their_sum_is_logged_once(tmp_path, caplog):
    own = tmp_path / 'own.safetensors'
    content = bytearray((FOLDER / 'canonical_face.safetensors').read_bytes())
    content[-4:] = (77).to_bytes(4, 'little')
    own.write_bytes(content)
    with caplog.at_level('INFO'):
        tensors = load_weights('canonical_face', own)
        load_weights('canonical_face', own)
    assert tensors['triangles'][-1, -1] == 77
    (record,) = caplog.records
    assert record.message == (
        f'canonical_face: weights of {own}, sha256 {hashlib.sha256(content).hexdigest()}'
    )


def own_network(folder, **changes):
    """The packaged file with other arrays; None: without that array."""
    safetensors = pytest.importorskip('safetensors.numpy', reason='needs safetensors')
    tensors = {key: x.copy() for key, x in load_weights('keypoint_network').items()} | changes
    path = folder / 'own.safetensors'
    safetensors.save_file({key: x for key, x in tensors.items() if x is not None}, path)
    return path


def test_own_weights_bring_their_own_calibration(tmp_path):
    calibration = np.array([3.5, 0.25, 11, 0.5, 7], np.float32)
    own = own_network(tmp_path, calibration=calibration)
    assert packaged_calibration(own) == Calibration(*calibration.tolist())
    assert packaged_calibration() != packaged_calibration(own)


def test_own_weights_without_a_calibration_use_the_packaged_one_which_is_logged(tmp_path, caplog):
    own = own_network(tmp_path, calibration=None)
    with caplog.at_level('INFO'):
        assert packaged_calibration(own) == packaged_calibration()
    assert caplog.messages[1:] == [
        f'{own} has no calibration, which is taken from the packaged keypoint_network'
    ]
    assert read_graph('keypoint_network', own)


def test_an_own_calibration_of_another_shape_is_refused(tmp_path):
    own = own_network(tmp_path, calibration=np.ones(4, np.float32))
    with pytest.raises(WeightsError, match=r'own.*tensor calibration is of shape \(4,\), exp'):
        packaged_calibration(own)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'no safetensors file'),
        (b'something else', 'no safetensors file'),
        (bytes(range(256)), 'no safetensors file'),
        (None, 'No such file'),
    ],
)
def test_what_is_no_weights_file_is_refused(content, message, tmp_path):
    own = tmp_path / 'own.safetensors'
    if content is not None:
        own.write_bytes(content)
    with pytest.raises(WeightsError, match=rf'own\.safetensors: {message}'):
        load_weights('keypoint_network', own)


def test_truncated_own_weights_are_refused(tmp_path):
    own = tmp_path / 'own.safetensors'
    own.write_bytes((FOLDER / 'canonical_face.safetensors').read_bytes()[:-100])
    with pytest.raises(WeightsError, match='no safetensors file'):
        load_weights('canonical_face', own)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match='keypoint_network'):
        load_weights('keypoint_net')


def test_canonical_face_stands_in_the_head_frame():
    face = load_weights('canonical_face')
    xyz, triangles = face['xyz_head'], face['triangles']
    assert xyz.shape == (468, 3)
    assert xyz.dtype == np.float32
    assert triangles.dtype == np.int32
    assert xyz[SELLION].tolist() == [0, 0, 0]
    x, y, z = xyz.T
    assert x[NOSE_TIP] > 0.015  # x out of the face, metres
    assert y[EYE_LEFT_OUTER] > 0.04  # y to the person's left
    assert y[EYE_RIGHT_OUTER] < -0.04
    assert z[FOREHEAD] > 0.03 > -0.1 > z[CHIN]  # z up
    assert 0.12 < z[FOREHEAD] - z[CHIN] < 0.22  # an adult's face


def test_the_sellion_is_the_deepest_midline_point_of_the_nasal_root():
    xyz = load_weights('canonical_face')['xyz_head']
    root = xyz[(abs(xyz[:, 1]) < 1e-6) & (abs(xyz[:, 2]) < 0.017)]  # forehead to nasal bridge
    assert len(root) >= 5
    assert (root[:, 0] >= 0).all()


def test_canonical_triangles_face_outwards():
    face = load_weights('canonical_face')
    corner = face['xyz_head'][face['triangles']]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    assert (normal[:, 0] > 0).mean() > 0.95
    assert face['triangles'].min() == 0
    assert face['triangles'].max() == 467


def test_conversion_makes_exactly_the_packaged_files(tmp_path):
    if importlib.util.find_spec('ai_edge_litert') is None:
        pytest.skip('ai-edge-litert is not installed')
    task = published_file('face_landmarker.task')
    full_range = published_file('face_detection_full_range.tflite')
    command = [sys.executable, CONVERTER, '--out', tmp_path, '--task', task]
    subprocess.run([*command, '--full-range', full_range], check=True)
    folders = {
        'blazeface_full_range': TEACHERS,
        'canonical_face': FOLDER,
        'face_mesh_v2': TEACHERS,
    }
    for name, folder in folders.items():
        made = (tmp_path / f'{name}.safetensors').read_bytes()
        assert made == (folder / f'{name}.safetensors').read_bytes(), name


def test_conversion_refuses_another_source(tmp_path):
    wrong = tmp_path / 'face_landmarker.task'
    wrong.write_bytes(b'something else')
    command = [sys.executable, CONVERTER, '--out', tmp_path, '--task', wrong]
    done = subprocess.run(
        [*command, '--full-range', wrong], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert 'sha256' in done.stderr
    assert not list(tmp_path.glob('*.safetensors'))


@pytest.mark.parametrize('name', SHA256)
def test_reader_agrees_with_the_library_that_wrote_the_files(name):
    safetensors = pytest.importorskip('safetensors.numpy')
    expected = safetensors.load_file(FOLDER / f'{name}.safetensors')
    tensors = load_weights(name)
    assert tensors.keys() == expected.keys()
    for key, tensor in tensors.items():
        assert tensor.dtype == expected[key].dtype
        np.testing.assert_array_equal(tensor, expected[key])
