# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The training loop: the loss falls, a resume is the same to the last bit."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.training.checkpoints import (
    CheckpointError,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from face_pose_lab.training.config import OptimiserOptions, config_from_dict
from face_pose_lab.training.hourglass_task import HourglassTask
from face_pose_lab.training.journal import Journal
from face_pose_lab.training.train import Training, learning_rate, train
from lab.training.blobs import MIRROR, BlobHeads

from face_pose_ros.pose.face_model import semantic_head

CASES = Path(__file__).with_name('process_cases.py')
HOURGLASS = {
    'keypoints': 9,
    'input_px': 32,
    'stem_channels': [8, 16],
    'channels': [16, 16, 16],
    'stacks': 2,
}
REGRESSOR = HOURGLASS | {'stacks': 1, 'distribution': True, 'regressor': 32}


def make_config(out, **changes):
    tree = {
        'out': str(out),
        'steps': 30,
        'batch': 4,
        'hourglass': HOURGLASS,
        'optimiser': {'learning_rate': 5e-3, 'warmup_steps': 5, 'ema_decay': 0.9},
        'log_every': 5,
        'validate_every': 1000,
        'checkpoint_every': 10,
    }
    return config_from_dict(tree | changes, 'test')


def make_training(config, heads: int = 64) -> Training:
    torch.manual_seed(config.seed)
    task = HourglassTask(config, BlobHeads(heads), {'blobs': BlobHeads(8)}, MIRROR)
    return Training(config, task)


def parameters(training: Training) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in training.network.parameters()])


def gradients(training: Training) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in training.network.parameters()])


@pytest.mark.parametrize('distribution', [False, True])
def test_the_loss_falls(distribution, tmp_path):
    config = make_config(tmp_path, hourglass=HOURGLASS | {'distribution': distribution})
    training = make_training(config)
    losses = [training.run_step()['heatmap'] for _ in range(30)]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


def test_what_is_regressed_falls_beside_it(tmp_path):
    """On one batch, again and again."""
    config = make_config(tmp_path, hourglass=REGRESSOR, steps=80, overfit_one_batch=True)
    training = make_training(config)
    terms = [training.run_step() for _ in range(80)]
    assert set(terms[0]) == {'heatmap', 'distance', 'regressed_likelihood', 'rotation', 'gradient'}
    for name in ('heatmap', 'distance', 'rotation'):
        assert terms[-1][name] < 0.5 * terms[0][name]


def test_the_pose_after_the_solver_trains_what_is_regressed(tmp_path):
    others = dict.fromkeys(('heatmap', 'distance', 'regressed_likelihood', 'rotation'), 0.0)
    training = make_training(
        make_config(tmp_path, hourglass=REGRESSOR, hourglass_loss=others | {'pose': 1.0})
    )
    training.run_step()
    assert training.network.regressor.last.weight.grad.abs().max() > 0


def test_a_training_starts_with_the_layers_of_another(tmp_path):
    first = make_training(make_config(tmp_path))
    first.run_step()
    path = save_checkpoint(tmp_path, first.step, first.state(), keep=2)
    wider = HOURGLASS | {'channels': [16, 24, 16]}
    second = make_training(make_config(tmp_path, hourglass=wider, seed=3))
    second.begin_with(path)
    ours, theirs = second.network.state_dict(), first.average.network.state_dict()
    assert torch.equal(ours['stem.0.weight'], theirs['stem.0.weight'])
    assert torch.equal(second.average.network.state_dict()['stem.0.weight'], ours['stem.0.weight'])
    assert second.step == 0
    assert second.state()['initial']['step'] == 1
    tiny = HOURGLASS | {'stem_channels': [4, 4], 'channels': [4, 4, 4], 'keypoints': 9}
    with pytest.raises(CheckpointError, match='no layer'):
        make_training(make_config(tmp_path, hourglass=tiny)).begin_with(path)


def test_every_term_is_trained(tmp_path):
    loss = {'likelihood': 0.02, 'pose': 0.1, 'decode_from_step': 4, 'pose_heads': 4}
    training = make_training(make_config(tmp_path, hourglass_loss=loss))
    terms = [set(training.run_step()) for _ in range(6)]
    assert terms[3] == {'heatmap', 'gradient'}
    assert terms[4] == {'heatmap', 'likelihood', 'pose', 'gradient'}


def test_one_batch_can_be_overfitted(tmp_path):
    config = make_config(tmp_path, overfit_one_batch=True, steps=80, batch=4)
    training = make_training(config)
    losses = [training.run_step()['heatmap'] for _ in range(80)]
    assert losses[-1] < 0.12 * losses[0]


@pytest.mark.parametrize(('amp', 'sizes'), [(False, HOURGLASS), (True, REGRESSOR)])
def test_a_resume_is_the_same_to_the_last_bit(amp, sizes, tmp_path):
    loss = {'likelihood': 0.02, 'decode_from_step': 2}
    config = make_config(
        tmp_path, amp=amp, hourglass=sizes, steps=6, accumulate=2, hourglass_loss=loss
    )
    through = make_training(config)
    for _ in range(6):
        through.run_step()
    first = make_training(config)
    for _ in range(3):
        first.run_step()
    path = save_checkpoint(tmp_path, first.step, first.state(), keep=2)
    torch.manual_seed(99)  # what else was drawn meanwhile must not matter
    again = make_training(replace(config, log_every=7))
    again.restore(load_checkpoint(path))
    for _ in range(3):
        again.run_step()
    assert again.step == through.step == 6
    assert torch.equal(parameters(again), parameters(through))
    ours, theirs = again.average.network.state_dict(), through.average.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_train_writes_checkpoints_and_figures_and_resumes(tmp_path):
    config = make_config(tmp_path, steps=20, validate_every=10, keep_checkpoints=1)
    training = make_training(config)
    train(training, Journal(tmp_path, 0))
    assert [path.name for path in checkpoints(tmp_path)] == ['checkpoint_00000020.pt']
    lines = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [5, 10, 10, 15, 20, 20]
    assert {'heatmap', 'gradient', 'pictures_per_s'} < set(lines[0])
    assert 'blobs/keypoints_percent' in lines[2]
    # An attempt that went on from step 10 forgets what came after.
    Journal(tmp_path, 10)
    assert len((tmp_path / 'log.jsonl').read_text().splitlines()) == 3


def test_signals_and_processes(request):
    # Other tests' libraries have handlers of signals and threads, which do not survive a fork.
    command = [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '-q', CASES]
    run = subprocess.run(
        command, cwd=request.config.rootpath, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout
    assert '2 passed' in run.stdout


def test_another_training_is_not_continued(tmp_path):
    state = {'step': 0, **make_training(make_config(tmp_path)).state()}
    other = make_training(make_config(tmp_path, seed=1, batch=2))
    with pytest.raises(CheckpointError, match='another batch, seed'):
        other.restore(state)
    other.restore(state, branch=True)
    larger = make_config(tmp_path, hourglass=HOURGLASS | {'blocks': [2]})
    with pytest.raises(CheckpointError, match='another hourglass'):
        make_training(larger).restore(state, branch=True)


@pytest.mark.parametrize('content', [None, b'', b'nonsense'])
def test_a_damaged_checkpoint_is_named(content, tmp_path):
    path = tmp_path / 'checkpoint_00000001.pt'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match='checkpoint_00000001'):
        load_checkpoint(path)


def test_the_learning_rate_climbs_and_falls():
    options = OptimiserOptions(learning_rate=1.0, warmup_steps=10)
    rates = [learning_rate(step, 100, options) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == rates[9] > 0.97
    assert rates[99] == pytest.approx(0.01, abs=0.001)


class FakeBoard:
    """A recorder in place of TensorBoard's writer."""

    def __init__(self, folder, purge_step):
        FakeBoard.scalars = {'folder': folder, 'purge_step': purge_step}

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value


def test_tensorboard_gets_figures_where_it_is_installed(tmp_path, monkeypatch):
    module = ModuleType('torch.utils.tensorboard')
    module.SummaryWriter = FakeBoard
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    Journal(tmp_path, 7).write(8, {'loss': 0.5})
    assert FakeBoard.scalars == {'folder': str(tmp_path), 'purge_step': 7, ('loss', 8): 0.5}


def test_photographs_are_validated_on(tmp_path):
    """One picture of noise: the figures mean nothing, but they are there."""
    rng = np.random.default_rng(0)
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / 'one.jpg'), rng.integers(0, 255, (90, 90, 3)))
    points = rng.uniform(30, 60, (68, 3)).tolist()
    entry = {'pitch_yaw_roll_deg': [1, 2, 3], 'points68_xyz_px': points}
    (tmp_path / 'labels.json').write_text(json.dumps({'one': entry}))
    head = semantic_head()
    shape = {
        'mean': torch.from_numpy(head.xyz_head),
        'modes': torch.from_numpy(head.modes),
        'size_sigma': torch.tensor(0.05),
    }
    config = make_config(
        tmp_path / 'run',
        hourglass=HOURGLASS | {'keypoints': 86},
        data={'photographs': str(tmp_path)},
    )
    task = HourglassTask(config, BlobHeads(2), {}, MIRROR, shape)
    (table,) = task.validate(task.network.eval()).values()
    assert set(table) == {'0-30', '30-60', '60-99', 'all'}
    assert table['all']['geodesic_deg'] >= 0


def test_a_folder_without_photographs_is_named_at_once(tmp_path):
    config = make_config(tmp_path, data={'photographs': str(tmp_path / 'nowhere')})
    with pytest.raises(DataError, match='nowhere: no such folder'):
        HourglassTask(config, BlobHeads(2), {}, MIRROR)
