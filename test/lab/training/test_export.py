# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Exported weights are those of the checkpoint, and the card says where they come from."""

import hashlib
import json

import numpy as np
import pytest
import torch
from face_pose_lab.hourglass.network import HourglassOptions, StackedHourglass
from face_pose_lab.training import export
from face_pose_lab.training.checkpoints import CheckpointError, save_checkpoint
from face_pose_lab.training.shards import write_manifest, write_shard
from lab.training.test_train import REGRESSOR, make_config, make_training

safetensors_torch = pytest.importorskip('safetensors.torch', reason='needs safetensors')

MANIFEST = {
    'kind': 'crops',
    'split': 'train',
    'seed': 17,
    'count': 512,
    'families': ['blobs'],
    'commit': 'abc123',
}


def test_the_card_names_the_source_of_the_initial_layers(tmp_path):
    for name, seed in (('first', 17), ('second', 18)):
        write_manifest(tmp_path / name, MANIFEST | {'seed': seed})
        write_shard(
            tmp_path / name / '00000', np.zeros((7, 8, 8, 3), np.uint8), {'seen': np.ones(7)}
        )
    first = make_training(make_config(tmp_path, data={'train': [str(tmp_path / 'first')]}))
    first.run_step()
    path = save_checkpoint(tmp_path, first.step, first.state(), keep=1)
    data = {'train': [str(tmp_path / 'second')]}
    second = make_training(make_config(tmp_path, hourglass=REGRESSOR, data=data))
    second.begin_with(path)
    text = export.card('two', {'step': 0, **second.state()}, b'', None)
    cells = [line[2:-2].split(' | ') for line in text.splitlines() if line.startswith('| ')]
    rows = dict(row for row in cells if len(row) == 2)
    assert rows['data'].startswith('rendered crops, 7 pictures')
    assert 'seed 18' in rows['data']
    assert rows['initial layers'].startswith('1 steps, 4 pictures')
    assert 'on rendered crops, 7 pictures, families blobs, split train, seed 17' in text


def test_a_training_may_start_with_exported_weights(tmp_path):
    write_manifest(tmp_path / 'data', MANIFEST)
    config = make_config(tmp_path, data={'train': [str(tmp_path / 'data')]})
    first = make_training(config)
    first.run_step()
    path = save_checkpoint(tmp_path, first.step, first.state(), keep=1)
    export.main([str(path), '--name', 'first', '--out', str(tmp_path)])
    content = (tmp_path / 'first.safetensors').read_bytes()
    second = make_training(config)
    second.begin_with(tmp_path / 'first.safetensors')
    ours, theirs = second.network.state_dict(), first.average.network.state_dict()
    for name, value in theirs.items():
        if not name.endswith('num_batches_tracked'):
            assert ours[name].dtype == torch.float32
            assert torch.equal(ours[name], value.half() if value.ndim > 1 else value)
    text = export.card('two', {'step': 0, **second.state()}, b'', None)
    sha256 = hashlib.sha256(content).hexdigest()
    assert f'| initial layers | first.safetensors, sha256 {sha256}: see its card |' in text
    (tmp_path / 'first.safetensors').write_bytes(content[:100])
    with pytest.raises(CheckpointError, match=r'first\.safetensors: not exported weights'):
        second.begin_with(tmp_path / 'first.safetensors')
    with pytest.raises(CheckpointError, match=r'none\.safetensors: No such file'):
        second.begin_with(tmp_path / 'none.safetensors')


def test_weights_and_card(tmp_path):
    write_manifest(tmp_path / 'data', MANIFEST)
    write_shard(
        tmp_path / 'data' / '00000', np.zeros((7, 8, 8, 3), np.uint8), {'seen': np.ones(7)}
    )
    config = make_config(tmp_path, data={'train': [str(tmp_path / 'data')]}, seed=5)
    training = make_training(config)
    for _ in range(3):
        training.run_step()
    path = save_checkpoint(tmp_path, training.step, training.state(), keep=1)
    figures = tmp_path / 'figures.json'
    rows = training.task.validate(training.average.network)
    figures.write_text(json.dumps({'step': 3, 'data': rows}))
    out = tmp_path / 'weights'
    export.main([str(path), '--name', 'blobs', '--out', str(out), '--figures', str(figures)])

    tensors = safetensors_torch.load_file(out / 'blobs.safetensors')
    with safetensors_torch.safe_open(out / 'blobs.safetensors', 'pt') as file:
        options = HourglassOptions(**json.loads(file.metadata()['options']))
    network = StackedHourglass(options).eval()
    prefix = 'network.'
    weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert all(name.endswith('num_batches_tracked') for name in missing)
    assert not unexpected
    crop = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = network(crop).heatmaps, training.average.network(crop).heatmaps
        same = torch.allclose(ours, theirs, atol=2e-3 * float(theirs.abs().max()))
    assert same
    assert {v.dtype for v in weights.values() if v.ndim > 1} == {torch.float16}
    assert {v.dtype for v in weights.values() if v.ndim == 1} == {torch.float32}
    assert tensors['shape.mean'].shape == (9, 3)

    text = (out / 'blobs.md').read_text()
    # Of 512 pictures that were asked for 7 are there.
    for part in (
        'crops, 7 pictures',
        'seed 17',
        'abc123',
        '3 steps, 12 pictures, seed 5',
        'families blobs',
        'blobs\n',
    ):
        assert part in text
    assert f'{rows["blobs"]["all"]["rotation_deg"]:.4g}' in text


def test_figures_of_another_step_are_refused(tmp_path, capsys):
    write_manifest(tmp_path / 'data', MANIFEST)
    training = make_training(make_config(tmp_path, data={'train': [str(tmp_path / 'data')]}))
    path = save_checkpoint(tmp_path, training.step, training.state(), keep=1)
    figures = tmp_path / 'figures.json'
    figures.write_text(json.dumps({'data': {}}))
    command = [str(path), '--name', 'x', '--out', str(tmp_path), '--figures', str(figures)]
    with pytest.raises(SystemExit):
        export.main(command)
    assert 'figures.json: of step None, expected those of step 0' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export.main([*command[:-1], str(tmp_path / 'none.json')])
    assert 'none.json' in capsys.readouterr().err


@pytest.mark.parametrize('value', [1e5, float('nan')])
def test_weights_that_float16_does_not_hold_are_named(value, tmp_path):
    training = make_training(make_config(tmp_path))
    state = training.state()
    state['average']['heads.0.weight'][0, 0, 0, 0] = value
    with pytest.raises(CheckpointError, match=r'heads\.0\.weight: expected finite weights'):
        export.tensors_of(state)
