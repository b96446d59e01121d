"""The cache of converted networks."""

import tempfile

import pytest
import torch

pytest.importorskip('openvino', reason='OpenVINO is not installed')

from face_pose_ros.engines import openvino
from face_pose_ros.engines.openvino import cache_folder, cache_key, openvino_blazeface
from face_pose_ros.networks.blazeface import blazeface_full_range


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert cache_folder() == tmp_path / 'face_pose_ros' / 'networks'
    return cache_folder()


def logits(network):
    return network(torch.full((1, 3, 64, 96), 0.25))[0]


def test_a_second_start_reads_the_cache(cache, monkeypatch):
    network = blazeface_full_range()
    converted = logits(openvino_blazeface(network, 1))
    (folder,) = cache.iterdir()
    assert (folder / 'network.xml').is_file()
    monkeypatch.setattr(openvino.torch.jit, 'trace', pytest.fail)
    torch.testing.assert_close(logits(openvino_blazeface(network, 1)), converted)


def test_other_weights_are_converted_anew(cache):
    network = blazeface_full_range()
    before = logits(openvino_blazeface(network, 1))
    key = cache_key(network)
    with torch.no_grad():
        network.logit_head.bias += 1
    assert cache_key(network) != key
    torch.testing.assert_close(logits(openvino_blazeface(network, 1)), before + 1)
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_cache_is_no_problem(cache):
    network = blazeface_full_range()
    expected = logits(openvino_blazeface(network, 1))
    (folder,) = cache.iterdir()
    (folder / 'network.xml').write_text('<net')
    torch.testing.assert_close(logits(openvino_blazeface(network, 1)), expected)


def test_a_cache_that_cannot_be_written_is_no_problem(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'file'))
    assert cache_folder() is None
    network = blazeface_full_range()
    with torch.inference_mode():
        expected = network(torch.full((1, 3, 64, 96), 0.25))[0]
    torch.testing.assert_close(logits(openvino_blazeface(network, 1)), expected, rtol=0, atol=1e-3)
