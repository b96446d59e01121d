#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: LSTM, GRU and RNN of an ONNX file with layout=1 (since opset 14): the input is
# (batch, time, features) instead of (time, batch, features).
# Seen with openvino 2026.4.1: the attribute is not read. The network runs along the batch, as if it
# were time, and its output has the axes of layout 0. onnxruntime 1.32.0 refuses such files;
# onnx's reference implementation runs them.
# Why it matters: filters over a sequence of poses mix one person's state into the next one's, and
# with a batch of 1 they remember nothing, without a message. Transpose in the network.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.2.6
cd "$folder"
export CI=1 # openvino's usage report stays off
PYTHONPATH='' venv/bin/python - <<'EOF'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print(*(f'{m.__name__} {m.__version__}' for m in (openvino, onnxruntime, onnx, np)))
onnxruntime.set_default_logger_severity(4)
rng = np.random.default_rng(0)
BATCH, TIME, FEATURES, HIDDEN = 1, 5, 3, 2


def network(kind, gates, layout):
    """Its last hidden state, (1, batch, hidden), or (batch, 1, hidden) with layout 1."""
    weights = [
        numpy_helper.from_array(rng.normal(size=(1, gates * HIDDEN, n)).astype(np.float32), name)
        for name, n in (('W', FEATURES), ('R', HIDDEN))
    ]
    x_shape = (BATCH, TIME, FEATURES) if layout else (TIME, BATCH, FEATURES)
    y_shape = (BATCH, 1, HIDDEN) if layout else (1, BATCH, HIDDEN)
    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (('x', x_shape), ('last', y_shape))
    ]
    node = helper.make_node(kind, ['x', 'W', 'R'], ['', 'last'], hidden_size=HIDDEN, layout=layout)
    graph = helper.make_graph([node], 'network', info[:1], info[1:], weights)
    opsets = [helper.make_opsetid('', 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def by_openvino(model, x):
    core = openvino.Core()
    f32 = {'INFERENCE_PRECISION_HINT': 'f32'}
    read = core.read_model(model.SerializeToString())
    return np.array(core.compile_model(read, 'CPU', f32)([x])[0])


for kind, gates in (('LSTM', 4), ('GRU', 3), ('RNN', 1)):
    sequence = rng.normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)
    model = network(kind, gates, 0)
    x = np.ascontiguousarray(sequence.transpose(1, 0, 2))
    truth = ReferenceEvaluator(model).run(None, {'x': x})[0]
    np.testing.assert_allclose(by_openvino(model, x), truth, atol=1e-4)
    model = network(kind, gates, 1)
    (truth,) = ReferenceEvaluator(model).run(None, {'x': sequence})
    found = by_openvino(model, sequence)
    print(f'{kind}, a sequence of {TIME}: true {truth.shape} {truth.ravel().round(3)}; '
          f'openvino {found.shape} {found[0, -1].round(3)} of its last, as if it were alone')
    assert truth.shape == (BATCH, 1, HIDDEN)
    assert found.shape == (1, TIME, HIDDEN)
    # Each moment's state is that of a sequence of this moment only.
    moments = np.split(sequence, TIME, axis=1)
    alone = [ReferenceEvaluator(model).run(None, {'x': moment})[0] for moment in moments]
    np.testing.assert_allclose(found[0], np.concatenate(alone)[:, 0], atol=1e-4)
    assert np.abs(found[0, -1] - truth[0, 0]).max() > 0.01
    try:
        onnxruntime.InferenceSession(model.SerializeToString())
    except Exception as error:
        assert 'layout' in str(error)
    else:
        raise SystemExit('onnxruntime takes it now')
EOF
