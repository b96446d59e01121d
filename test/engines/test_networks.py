"""Every engine sees the same faces as torch does."""

import importlib.util
import logging
import sys

import pytest
import torch

from face_pose_ros.engines import networks
from face_pose_ros.engines.networks import ENGINES, load_networks, load_single_shot
from face_pose_ros.keypoints.hourglass import read_packaged

HAS_OPENVINO = importlib.util.find_spec('openvino') is not None
OTHER_ENGINES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == 'openvino' and not HAS_OPENVINO, reason='OpenVINO is not installed'
        ),
    )
    for name in ENGINES
    if name != 'torch'
]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.getbasetemp() / 'cache'))


@pytest.fixture(scope='module')
def reference():
    torch.set_num_threads(2)
    return load_networks('cpu', 'torch')


@pytest.mark.parametrize('engine', OTHER_ENGINES)
@torch.inference_mode()
def test_keypoints_are_those_of_torch(engine, reference, crops):
    expected = reference.keypoints(crops)
    assert (expected.presence > 0.99).all()
    for pictures in (crops, crops[1:2], crops.repeat(3, 1, 1, 1)[:8]):
        found = load_networks('cpu', engine).keypoints(pictures)
        rows = [0, 1, 2] * 3 if len(pictures) > 1 else [1]
        rows = rows[: len(pictures)]
        torch.testing.assert_close(found.uv, expected.uv[rows], rtol=0, atol=2e-3)
        torch.testing.assert_close(found.z, expected.z[rows], rtol=0, atol=2e-3)
        torch.testing.assert_close(found.presence, expected.presence[rows], rtol=0, atol=1e-4)


@pytest.mark.parametrize('engine', OTHER_ENGINES)
@torch.inference_mode()
def test_proposals_are_those_of_torch(engine, reference, scene):
    detector = load_networks('cpu', engine).detector
    assert (reference.detector(scene)[0] > 1).any()
    for picture in (scene, scene[..., :96, 128:256]):
        logits, regressions = reference.detector(picture)
        found_logits, found_regressions = detector(picture)
        torch.testing.assert_close(found_logits, logits, rtol=0, atol=1e-3)
        torch.testing.assert_close(found_regressions, regressions, rtol=0, atol=5e-3)


@pytest.mark.parametrize('engine', OTHER_ENGINES)
@torch.inference_mode()
def test_semantic_keypoints_are_those_of_torch(engine, reference, crops):
    small = torch.nn.functional.avg_pool2d(crops, 2)
    expected = read_packaged(reference.hourglass(small))
    assert (expected.confidence.mean(-1) > 0.3).all()
    for pictures, rows in ((small, [0, 1, 2]), (small[1:2], [1])):
        found = read_packaged(load_networks('cpu', engine).hourglass(pictures))
        torch.testing.assert_close(found.uv, expected.uv[rows], rtol=0, atol=2e-2)
        torch.testing.assert_close(found.confidence, expected.confidence[rows], rtol=0, atol=1e-3)


@pytest.mark.parametrize('engine', OTHER_ENGINES)
@torch.inference_mode()
def test_both_looks_of_the_single_shot_detector_are_those_of_torch(engine, scene, crops):
    torch_networks, networks = load_single_shot('cpu', 'torch'), load_single_shot('cpu', engine)
    for picture in (scene, scene[..., :96, 128:256], scene.repeat(2, 1, 1, 1)):
        expected = torch_networks.cells(0.5 * picture + 0.5)
        found = networks.cells(0.5 * picture + 0.5)
        assert len(found) == len(expected) == 3
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-3)
    regions = torch.nn.functional.avg_pool2d(crops, 4)
    expected = torch_networks.regions(regions)
    assert (expected[:, 0] > 0).all()  # heads
    for rows in ([0, 1, 2], [1]):
        found = networks.regions(regions[rows])
        torch.testing.assert_close(found, expected[rows], rtol=0, atol=1e-3)


@pytest.mark.parametrize('engine', OTHER_ENGINES)
def test_one_thread_gives_the_same_as_three(engine, crops):
    torch.set_num_threads(1)
    alone = load_networks('cpu', engine).keypoints(crops)
    torch.set_num_threads(3)
    shared = load_networks('cpu', engine).keypoints(crops)
    torch.testing.assert_close(alone.uv, shared.uv, rtol=0, atol=1e-3)


def test_the_device_is_chosen():
    assert load_networks('auto').device.type == ('cuda' if torch.cuda.is_available() else 'cpu')


@pytest.mark.parametrize(
    ('device', 'engine', 'message'),
    [
        ('cpu', 'tpu', "engine 'tpu' is not one of auto, openvino, torch"),
        ('cuda:77', 'auto', "device 'cuda:77' is not one of auto, cpu"),
        ('abacus', 'auto', "device 'abacus' is not one of auto, cpu"),
    ],
)
def test_what_is_not_there_is_named(device, engine, message):
    for load in (load_networks, load_single_shot):
        with pytest.raises(ValueError, match=message):
            load(device, engine)


def test_without_openvino_everything_works_and_it_is_said_once(monkeypatch, caplog, crops):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    monkeypatch.delitem(sys.modules, 'face_pose_ros.engines.openvino', raising=False)
    networks._openvino_if_installed.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert (load_networks('cpu').keypoints(crops).presence > 0.99).all()
        load_networks('cpu')
    networks._openvino_if_installed.cache_clear()
    assert [record.message.split(':')[0] for record in caplog.records] == [
        'OpenVINO is not installed'
    ]
    with pytest.raises(ImportError):
        load_networks('cpu', 'openvino')
