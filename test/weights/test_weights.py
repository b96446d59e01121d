"""Weights are the pinned ones or refused; the canonical face stands in our head frame."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.published_models import published_file

import face_pose_ros.weights
from face_pose_ros.weights import SHA256, WeightsError, load_weights

PACKAGED = Path(face_pose_ros.weights.__file__).parent
CONVERTER = Path(__file__).resolve().parents[2] / 'lab' / 'tools' / 'convert_weights.py'

# Points of the canonical face (the person's own right and left), named as in the Face Mesh.
SELLION, NOSE_TIP, CHIN, FOREHEAD = 168, 1, 152, 10
EYE_RIGHT_OUTER, EYE_LEFT_OUTER = 33, 263


@pytest.mark.parametrize('name', list(SHA256))
def test_packaged_weights_load_and_have_a_card_that_names_them(name):
    assert load_weights(name)
    card = (PACKAGED / f'{name}.md').read_text()
    assert SHA256[name] in card


def test_no_weights_without_a_pin():
    assert {path.stem for path in PACKAGED.glob('*.safetensors')} == set(SHA256)


def test_a_missing_file_is_named_with_its_remedy(tmp_path):
    with pytest.raises(WeightsError, match=r'v2\.safetensors.*face_mesh_v2\.md') as error:
        load_weights('face_mesh_v2', tmp_path)
    assert SHA256['face_mesh_v2'] in str(error.value)


@pytest.mark.parametrize('damage', ['truncated', 'altered'])
def test_a_damaged_file_is_refused_with_both_sums(tmp_path, damage):
    content = bytearray((PACKAGED / 'canonical_face.safetensors').read_bytes())
    if damage == 'truncated':
        del content[-100:]
    else:
        content[-1] ^= 1
    (tmp_path / 'canonical_face.safetensors').write_bytes(content)
    with pytest.raises(WeightsError, match=r'[0-9a-f]{64} found, [0-9a-f]{64} expected') as error:
        load_weights('canonical_face', tmp_path)
    assert SHA256['canonical_face'] in str(error.value)


def test_another_folder_with_the_right_file_will_do(tmp_path):
    shutil.copy(PACKAGED / 'canonical_face.safetensors', tmp_path)
    torch.testing.assert_close(
        load_weights('canonical_face', tmp_path)['xyz_head'],
        load_weights('canonical_face')['xyz_head'],
    )


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match='face_mesh_v2'):
        load_weights('face_mesh_v3')


def test_canonical_face_stands_in_the_head_frame():
    face = load_weights('canonical_face')
    xyz, triangles = face['xyz_head'], face['triangles']
    assert xyz.shape == (468, 3)
    assert xyz.dtype == torch.float32
    assert triangles.dtype == torch.int32
    assert xyz[SELLION].tolist() == [0, 0, 0]
    x, y, z = xyz.T
    assert x[NOSE_TIP] > 0.015  # x out of the face, metres
    assert y[EYE_LEFT_OUTER] > 0.04  # y to the person's left
    assert y[EYE_RIGHT_OUTER] < -0.04
    assert z[FOREHEAD] > 0.03 > -0.1 > z[CHIN]  # z up
    assert 0.12 < z[FOREHEAD] - z[CHIN] < 0.22  # an adult's face


def test_the_sellion_is_the_deepest_midline_point_of_the_nasal_root():
    xyz = load_weights('canonical_face')['xyz_head']
    root = xyz[(xyz[:, 1].abs() < 1e-6) & (xyz[:, 2].abs() < 0.017)]  # forehead to nasal bridge
    assert len(root) >= 5
    assert (root[:, 0] >= 0).all()


def test_canonical_triangles_face_outwards():
    face = load_weights('canonical_face')
    corner = face['xyz_head'][face['triangles'].long()]
    normal = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    assert (normal[:, 0] > 0).float().mean() > 0.95
    assert face['triangles'].min() == 0
    assert face['triangles'].max() == 467


def test_conversion_makes_exactly_the_packaged_files(tmp_path):
    if importlib.util.find_spec('ai_edge_litert') is None:
        pytest.skip('ai-edge-litert is not installed')
    task = published_file('face_landmarker.task')
    full_range = published_file('face_detection_full_range.tflite')
    command = [sys.executable, CONVERTER, '--out', tmp_path, '--task', task]
    subprocess.run([*command, '--full-range', full_range], check=True)
    for name in ('blazeface_full_range', 'canonical_face', 'face_mesh_v2'):
        made = (tmp_path / f'{name}.safetensors').read_bytes()
        assert made == (PACKAGED / f'{name}.safetensors').read_bytes(), name


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
    safetensors = pytest.importorskip('safetensors.torch')
    expected = safetensors.load_file(PACKAGED / f'{name}.safetensors')
    tensors = load_weights(name)
    assert tensors.keys() == expected.keys()
    for key, tensor in tensors.items():
        assert tensor.dtype == expected[key].dtype
        assert torch.equal(tensor, expected[key])
