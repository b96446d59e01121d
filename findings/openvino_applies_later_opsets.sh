#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: ONNX networks whose operators follow the rules of the opset that they declare. Up to opset
# 17 ReduceL1, ReduceLogSum and ReduceLogSumExp have their axes as an attribute, later as an input.
# Up to opset 12 Softmax sums over all axes from `axis` on, later over that one alone.
# Seen with openvino 2026.4.1: from opset 13 on it looks for the input, does not read the attribute
# and reduces over all axes; with keepdims the result still broadcasts. Softmax of opset 11 and 12
# sums over one axis. onnxruntime 1.32.0 does both as ONNX defines it, OpenVINO itself does with
# opset 10; ReduceL2, ReduceMean, ReduceMax, ReduceSumSquare are right in every opset.
# Why it matters: heat maps that are divided by their sum, log-likelihoods and soft-argmax are
# wrong after the conversion, without a message. Convert networks to opset 18 first
# (onnx.version_converter), which is right.
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
from onnx import TensorProto, helper, version_converter

print(*(f'{m.__name__} {m.__version__}' for m in (openvino, onnxruntime, onnx, np)))
x = np.random.default_rng(0).uniform(0.1, 1, (2, 3, 4, 5)).astype(np.float32)


def network(nodes, opset):
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n in 'xy']
    graph = helper.make_graph(nodes, 'network', info[:1], info[1:])
    opsets = [helper.make_opsetid('', opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def answers(model):
    data = model.SerializeToString()
    core = openvino.Core()
    by_openvino = core.compile_model(core.read_model(data), 'CPU')([x])[0]
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    return np.array(by_openvino), session.run(None, {'x': x})[0]


def share_of_sum(opset, reduction='ReduceL1'):
    """Every map (H, W) over its sum."""
    reduced = helper.make_node(reduction, ['x'], ['s'], axes=[2, 3], keepdims=1)
    return network([reduced, helper.make_node('Div', ['x', 's'], ['y'])], opset)


def softmax(opset):
    """Over each map (H, W), axes 2 and 3 together."""
    return network([helper.make_node('Softmax', ['x'], ['y'], axis=2)], opset)


e = np.exp(x)
for what, make, truth, opsets in (
    ('share of the sum', share_of_sum, x / x.sum((2, 3), keepdims=True), (10, 11, 13, 17)),
    ('softmax', softmax, e / e.sum((2, 3), keepdims=True), (10, 11, 12)),
):
    for opset in opsets:
        ov, ort = answers(make(opset))
        print(f'{what}, opset {opset}: sums of the maps, true 1: '
              f'onnxruntime {ort.sum((2, 3)).mean():.3f}, openvino {ov.sum((2, 3)).mean():.3f}')
        assert np.allclose(ort, truth, atol=1e-6)
        is_wrong = opset in ((13, 17) if make is share_of_sum else (11, 12))
        assert np.allclose(ov, truth, atol=1e-6) != is_wrong
for name in ('ReduceL1', 'ReduceLogSum', 'ReduceLogSumExp', 'ReduceL2', 'ReduceMean', 'ReduceMax',
             'ReduceSumSquare'):
    ov, ort = answers(share_of_sum(17, name))
    is_right = np.allclose(ov, ort)
    print(f'{name} over two axes, opset 17: openvino is', 'right' if is_right else 'wrong')
    assert is_right == (name not in ('ReduceL1', 'ReduceLogSum', 'ReduceLogSumExp'))
ov, ort = answers(version_converter.convert_version(share_of_sum(17), 18))
print('converted to opset 18: openvino is', 'right' if np.allclose(ov, ort) else 'wrong')
assert np.allclose(ov, ort)
EOF
