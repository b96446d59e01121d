# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The training of the head detector."""

import numpy as np
import pytest
import torch

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.head_detector import train as module
from face_pose_lab.head_detector.load import trained_network
from face_pose_lab.head_detector.losses import LossOptions, losses
from face_pose_lab.head_detector.train import (
    Options,
    is_hidden,
    learning_rate,
    make_batch,
)
from face_pose_lab.head_detector.windows import Material
from face_pose_lab.optimisation import Optimiser
from face_pose_lab.training_loop import train
from lab.head_detector.material import BlackBackgrounds, MarkedHeads, MarkedScenes

from face_pose_ros.networks.head_detector import HeadDetectorNetwork, HeadDetectorSizes
from face_pose_ros.pose.face_model import deformable_face

MATERIAL = Material(((MarkedHeads(), 1.0),), MarkedScenes(), BlackBackgrounds())
SIZES = HeadDetectorSizes((8, 8, 8, 8, 8, 8), pyramid=8, tower=1)
OPTIONS = Options(batch=2, steps=4)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_the_loss_of_a_batch_falls():
    torch.manual_seed(0)
    network = HeadDetectorNetwork(SIZES).to(memory_format=torch.channels_last)
    batch = make_batch(MATERIAL, Options(batch=2), 1)
    images = (batch.images.float() / 255).contiguous(memory_format=torch.channels_last)
    xyz = torch.from_numpy(deformable_face().xyz_head[::40]).float()
    optimiser = Optimiser(network, is_hidden, 5e-3, 1e-2)
    totals = []
    for _ in range(20):
        terms = losses(network(images), batch.targets, xyz, LossOptions())
        total = torch.stack(list(terms.values())).sum()
        network.zero_grad()
        total.backward()
        optimiser.step(5e-3)
        totals.append(total.item())
    assert totals[-1] < 0.8 * totals[0]


def test_the_recipe_trains_on_the_images_of_its_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'HeadDetectorNetwork', lambda: HeadDetectorNetwork(SIZES))
    recipe = module.recipe(MATERIAL, OPTIONS)
    batch = recipe.make_batch(3)
    assert torch.equal(batch.images, make_batch(MATERIAL, OPTIONS, 3).images)
    assert batch.images.shape == (2, 3, 256, 256)
    assert len(batch.targets.score) == 2
    train(recipe, tmp_path, None, workers=0)
    state = torch.load(tmp_path / 'last.pt', weights_only=True)
    assert (state['step'], state['pictures'], state['options']['batch']) == (4, 8, 2)


def test_the_learning_rate_falls_to_nothing_from_where_the_descent_began():
    options = Options(lr=1.0, first=500, steps=1000)
    rates = np.array([learning_rate(step, options) for step in range(500, 1500)])
    assert rates[0] < 0.02
    assert rates.argmax() == 99
    assert rates[-1] < 0.01
    assert learning_rate(1000, options) == pytest.approx(0.5, abs=0.002)


def test_a_trained_network_is_the_average_rounded_and_without_normalisation(tmp_path):
    torch.manual_seed(1)
    network = HeadDetectorNetwork()
    with torch.no_grad():
        network.train()(torch.rand(2, 3, 64, 64))  # statistics that fusing can get wrong
    network.eval()
    torch.save({'average': network.state_dict(), 'network': {}}, tmp_path / 'last.pt')
    trained = trained_network(tmp_path / 'last.pt')
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in trained.modules())
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(trained(image), network(image), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-3)
    for weight in trained.parameters():
        assert weight.ndim == 1 or torch.equal(weight, weight.half().float())


def test_missing_material_is_named(tmp_path, capsys):
    command = ['--out', str(tmp_path / 'run'), '--assets', str(tmp_path), '--crops', str(tmp_path)]
    with pytest.raises(SystemExit):
        module.main([*command, '--chips', str(tmp_path)])
    assert f'{tmp_path}/hdri: no .hdr file' in capsys.readouterr().err
