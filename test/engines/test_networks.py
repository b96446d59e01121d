# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every engine gives the outputs of the torch definitions; a device is found without torch."""

import importlib.util
import logging
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch
from engines.conftest import places_px

from face_pose_ros.engines import networks
from face_pose_ros.engines.networks import core_count, load_networks
from face_pose_ros.networks.head_detector import packaged_head_detector
from face_pose_ros.networks.keypoint_network import packaged_keypoint_network

HAS_OPENVINO = importlib.util.find_spec('openvino') is not None
SURE = 5.0  # logit of presence
ENGINES = [
    pytest.param(
        'openvino', marks=pytest.mark.skipif(not HAS_OPENVINO, reason='OpenVINO is missing')
    ),
    'torch',
]


@pytest.fixture(autouse=True)
def one_thread():
    """Of torch: two that wait for each other take minutes on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.getbasetemp() / 'cache'))


@cache
def loaded(engine):
    return load_networks('cpu', engine, threads=2 if engine == 'openvino' else 1, precision='f32')


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(networks, 'gpu_count', lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(networks, 'gpu_count', lambda: 2)


def hide(monkeypatch, package):
    """Hide it as if it was not installed."""
    find_spec = networks.find_spec
    monkeypatch.setattr(
        networks, 'find_spec', lambda name: None if name == package else find_spec(name)
    )


@torch.inference_mode()
def defined(build, pictures):
    """Outputs of the torch definition for pictures, as arrays."""
    outputs = build()(torch.from_numpy(pictures))
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    return [output.numpy() for output in outputs]


def assert_same(found, expected, rows=slice(None)):
    """1e-5 of the largest number of each output."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float32
        assert a.flags.writeable
        np.testing.assert_allclose(a, b[rows], rtol=0, atol=1e-5 * max(1, abs(b).max()))


@pytest.mark.parametrize('engine', ENGINES)
def test_keypoints(engine, crops):
    expected = defined(packaged_keypoint_network, crops)
    assert (expected[0][:, -7] > SURE).all()
    network = loaded(engine).keypoints
    for rows in ([0, 1, 2], [1], [0, 1, 2, 0, 1]):
        assert_same(network(crops[rows]), expected, rows)


@pytest.mark.parametrize('engine', ENGINES)
def test_heads_in_images_of_any_size(engine, scene):
    network = loaded(engine).detector
    wide = np.ascontiguousarray(scene.repeat(2, 3)[:, :, 96:160])
    for image in (scene, np.ascontiguousarray(scene[..., :96, 128:256]), wide, scene):
        assert_same(network(image), defined(packaged_head_detector, image))


@pytest.mark.parametrize('engine', ENGINES)
def test_several_images_have_the_outputs_of_each(engine, scene):
    images = np.concatenate([scene, scene[..., ::-1], scene[..., ::-1, :]])[..., :64, :96]
    images = np.ascontiguousarray(images)
    assert_same(loaded(engine).detector(images), defined(packaged_head_detector, images))


@pytest.mark.parametrize('engine', ENGINES)
def test_one_thread_gives_the_same_as_two(engine, crops, scene):
    one, two = load_networks('cpu', engine, threads=1, precision='f32'), loaded(engine)
    assert_same(one.keypoints(crops), two.keypoints(crops))
    assert_same(one.detector(scene), two.detector(scene))


@pytest.mark.parametrize('engine', ENGINES)
def test_outputs_are_the_callers_own(engine, crops):
    network = loaded(engine).keypoints
    for count in (1, 3):
        first = network(crops[:count])
        kept = [output.copy() for output in first]
        second = network(crops[-count:, :, ::-1])
        assert not any(np.shares_memory(a, b) for a, b in zip(first, second, strict=True))
        np.testing.assert_array_equal(first[0], kept[0])


@pytest.mark.skipif(not HAS_OPENVINO, reason='OpenVINO is missing')
def test_on_a_cpu_no_network_needs_torch():
    program = (
        'import sys, numpy as np\n'
        'from face_pose_ros.engines.networks import load_networks\n'
        'for network, side in zip(load_networks("cpu")[1:], (64, 128), strict=True):\n'
        '    network(np.zeros((1, 3, side, side), np.float32))\n'
        'print("torch" in sys.modules)\n'
    )
    run = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout == 'False\n'


def test_without_a_gpu_the_device_is_the_cpu(no_gpu):
    assert networks.chosen_device('auto') == 'cpu'


def test_a_gpu_without_torch_is_not_used_and_the_warning_has_the_remedy(
    two_gpus, monkeypatch, caplog
):
    hide(monkeypatch, 'torch')
    with caplog.at_level(logging.WARNING):
        assert networks.chosen_device('auto') == 'cpu'
    (record,) = caplog.records
    assert record.message.startswith('There is a GPU, but torch is not installed (pip install')
    with pytest.raises(ValueError, match=r"'cuda:1' can't be used: torch is not installed"):
        networks.chosen_device('cuda:1')


def test_a_torch_for_cpus_does_not_use_a_gpu(two_gpus, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert networks.chosen_device('auto') == 'cpu'
    assert f'torch {torch.__version__} cannot use it' in caplog.text
    assert networks.chosen_device('cpu') == 'cpu'


def test_a_gpu_is_used_where_torch_can(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert [networks.chosen_device(name) for name in ('auto', 'cuda', 'cuda:1')] == [
        'cuda',
        'cuda',
        'cuda:1',
    ]
    with pytest.raises(ValueError, match=r"'cuda:2' is not one of auto, cpu, cuda:0, cuda:1"):
        networks.chosen_device('cuda:2')


@pytest.mark.parametrize(
    ('device', 'engine', 'message'),
    [
        ('cpu', 'tpu', "engine 'tpu' is not one of auto, openvino, torch"),
        ('cuda:77', 'auto', "device 'cuda:77' is not one of auto, cpu"),
        ('cuda', 'auto', "device 'cuda' is not one of auto, cpu"),
        ('abacus', 'auto', "device 'abacus' is not one of auto, cpu"),
    ],
)
def test_what_is_not_there_is_named(device, engine, message, no_gpu):
    with pytest.raises(ValueError, match=message):
        load_networks(device, engine)


@pytest.mark.parametrize('threads', [-1, 1.5])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    with pytest.raises(ValueError, match=f'threads is {threads}, expected a whole number'):
        load_networks('cpu', threads=threads)


def test_unknown_names_of_weights_are_refused(tmp_path):
    expected = r"weights of 'hourglass', expected head_detector, keypoint_network"
    with pytest.raises(ValueError, match=expected):
        load_networks('cpu', weights={'hourglass': tmp_path})


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match="precision 'int4' is not f32"):
        load_networks('cpu', precision='int4')


def test_cores_are_those_that_this_process_may_use():
    program = (
        'import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n'
        'from face_pose_ros.engines.networks import core_count; print(core_count())'
    )
    command = [sys.executable, '-c', program]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == '1\n'
    assert core_count() >= 1


def test_without_openvino_everything_works_with_one_warning(monkeypatch, caplog, crops, no_gpu):
    hide(monkeypatch, 'openvino')
    monkeypatch.setitem(sys.modules, 'openvino', None)
    monkeypatch.delitem(sys.modules, 'face_pose_ros.engines.openvino', raising=False)
    networks._openvino_if_installed.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert (load_networks('cpu').keypoints(crops)[0][:, -7] > SURE).all()
        load_networks('cpu')
    networks._openvino_if_installed.cache_clear()
    assert [record.message.split(':')[0] for record in caplog.records] == [
        'OpenVINO is not installed'
    ]
    with pytest.raises(ImportError):
        load_networks('cpu', 'openvino')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('count', [1, 3])
def test_keypoints_on_a_gpu_are_those_of_the_cpu(count, crops):
    expected = load_networks('cpu', 'torch').keypoints(crops[:count])
    found = load_networks('cuda').keypoints(crops[:count])
    np.testing.assert_allclose(places_px(found[0]), places_px(expected[0]), rtol=0, atol=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_heads_on_a_gpu_are_those_of_the_cpu(scene):
    expected = load_networks('cpu', 'torch').detector(scene)
    found = load_networks('cuda').detector(scene)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=0.05)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two GPUs')
def test_graphs_run_on_the_second_gpu_too(crops):
    expected = load_networks('cpu', 'torch').keypoints(crops)
    found = load_networks('cuda:1').keypoints(crops)
    np.testing.assert_allclose(places_px(found[0]), places_px(expected[0]), rtol=0, atol=0.1)
