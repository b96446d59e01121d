# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The packaged graphs, and the cache of what OpenVINO compiled of them."""

import importlib.util
import tempfile

import numpy as np
import pytest
import torch

pytest.importorskip('openvino', reason='OpenVINO is not installed')

import openvino as ov
from face_pose_lab import package_networks

from face_pose_ros.engines import openvino as engine
from face_pose_ros.engines.openvino import OpenVinoNetwork
from face_pose_ros.networks.keypoint_network import packaged_keypoint_network
from face_pose_ros.weights import FOLDER, WeightsError, read_graph

PINNED = ('2026.4.1', '2.13.0')  # OpenVINO and torch that made the graphs


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return tmp_path / 'face_pose_ros' / 'openvino'


def outputs(threads=1):
    network = OpenVinoNetwork('head_detector', threads)
    return network(np.full((1, 3, 64, 96), 0.25, np.float32))[0]


def test_a_second_start_reads_the_cache(cache):
    first = outputs()
    (blob,) = cache.iterdir()
    written = blob.stat().st_mtime_ns
    np.testing.assert_array_equal(outputs(), first)
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [written]


@pytest.mark.parametrize('size', [0, 1000])
def test_a_damaged_cache_is_no_problem(cache, size):
    expected = outputs()
    (blob,) = cache.iterdir()
    content = blob.read_bytes()[:size]
    blob.unlink()
    blob.write_bytes(content)
    np.testing.assert_array_equal(outputs(), expected)


def test_a_cache_that_cannot_be_written_is_no_problem(cache, tmp_path, monkeypatch):
    expected = outputs()
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'file'))
    np.testing.assert_array_equal(outputs(), expected)


@pytest.mark.parametrize('name', list(package_networks.PACKAGED))
def test_a_graph_takes_one_image_of_its_size(name):
    model = ov.Core().read_model(*read_graph(name))
    shape = {'head_detector': '[1,3,?,?]', 'keypoint_network': '[1,3,128,128]'}[name]
    assert str(model.input().partial_shape) == shape


@pytest.mark.parametrize(
    ('bf16', 'vnni', 'detector', 'keypoints'),
    [
        (True, True, 'int8', 'bf16'),
        (True, False, 'bf16', 'bf16'),
        (False, True, 'int8', 'f32'),
        (False, False, 'f32', 'f32'),
    ],
)
def test_networks_run_in_the_fastest_precision_of_the_cpu(
    bf16, vnni, detector, keypoints, monkeypatch
):
    monkeypatch.setattr(engine, '_has_bf16', lambda: bf16)
    monkeypatch.setattr(engine, '_has_fast_int8', lambda: vnni)
    for name, expected in (('head_detector', detector), ('keypoint_network', keypoints)):
        assert OpenVinoNetwork(name, 1)._precision == expected
        assert OpenVinoNetwork(name, 1, precision='f32')._precision == 'f32'


def test_own_weights_run_without_the_ranges_of_the_packaged_ones(monkeypatch, tmp_path, rng):
    monkeypatch.setattr(engine, '_has_fast_int8', lambda: True)
    own = own_network(tmp_path, lambda key, x: x, 'head_detector')
    picture = rng.random((1, 3, 64, 96), dtype=np.float32)
    in_floats = OpenVinoNetwork('head_detector', 1, own)(picture)[0]
    expected = OpenVinoNetwork('head_detector', 1, precision=engine._float_precision())(picture)[0]
    np.testing.assert_array_equal(in_floats, expected)
    assert abs(OpenVinoNetwork('head_detector', 1)(picture)[0] - expected).max() > 1e-3


@pytest.mark.parametrize('name', list(package_networks.PACKAGED))
def test_packaging_makes_exactly_the_packaged_graphs(name):
    versions = (ov.get_version().split('-')[0], torch.__version__.split('+')[0])
    if versions != PINNED:
        pytest.skip(f'OpenVINO and torch are {versions}, the graphs are of {PINNED}')
    assert package_networks.graph_of(name) == (FOLDER / f'{name}.xml').read_bytes()


def test_own_weights_run_too_and_are_those_of_torch(tmp_path, rng):
    own = own_network(tmp_path, lambda key, x: x * (1.01 if x.ndim > 1 else 1))
    crop = rng.random((1, 3, 128, 128), dtype=np.float32)
    (found,) = OpenVinoNetwork('keypoint_network', 1, own, 'f32')(crop)
    with torch.inference_mode():
        expected = packaged_keypoint_network(own=own)(torch.from_numpy(crop)).numpy()
        packaged = packaged_keypoint_network()(torch.from_numpy(crop)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert abs(found - packaged).max() > 1e-3


def test_a_cache_of_other_weights_is_not_used(tmp_path, rng):
    crop = rng.random((1, 3, 128, 128), dtype=np.float32)
    (packaged,) = OpenVinoNetwork('keypoint_network', 1, precision='f32')(crop)
    own = own_network(tmp_path, lambda key, x: x * (1.01 if x.ndim > 1 else 1))
    (found,) = OpenVinoNetwork('keypoint_network', 1, own, 'f32')(crop)
    assert abs(found - packaged).max() > 1e-3


def test_own_weights_of_another_network_are_refused(tmp_path):
    own = own_network(
        tmp_path, lambda key, x: x[:3] if key == 'network.stages.0.convolution.weight' else x
    )
    message = r'own\.safetensors: tensor .*0\.convolution\.weight is of shape \(3, 3, 4, 4\)'
    with pytest.raises(WeightsError, match=message):
        OpenVinoNetwork('keypoint_network', 1, own)
    with pytest.raises(WeightsError, match=r'own\.safetensors.*stages\.0\.convolution\.weight'):
        packaged_keypoint_network(own=own)


def own_network(folder, change, name='keypoint_network'):
    """A file of changed weights, laid out otherwise than the packaged one."""
    if importlib.util.find_spec('safetensors') is None:
        pytest.skip('needs safetensors')
    from safetensors.numpy import save_file

    from face_pose_ros.weights import load_weights

    tensors = load_weights(name).items()
    path = folder / 'own.safetensors'
    save_file({key: np.array(change(key, x), np.float32, order='C') for key, x in tensors}, path)
    return path
