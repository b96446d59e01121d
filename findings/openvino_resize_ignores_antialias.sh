#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: an ONNX Resize (opset 18, 19) with the attributes antialias (as PyTorch exports
# interpolate(..., antialias=True)), exclude_outside or keep_aspect_ratio_policy.
# Seen with openvino 2026.4.1: all three are ignored without a message. A picture shrunk with
# antialias is sampled at single pixels; where the ratio is to be kept the output has another shape.
# onnxruntime 1.32.0 and onnx's reference implementation agree with each other. An unknown
# coordinate_transformation_mode, in contrast, is refused.
# Why it matters: detectors that shrink the picture in the network see a picture that they were not
# trained on, and boxes of the letterboxed picture are wrong. Resize before the network.
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
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print(*(f'{m.__name__} {m.__version__}' for m in (openvino, onnxruntime, onnx, np)))
# One-pixel stripes, whose mean is 0.5.
stripes = np.tile(np.array([1, 0], np.float32), (1, 1, 24, 12))
noise = np.random.default_rng(0).uniform(size=(1, 1, 24, 48)).astype(np.float32)


def answers(x, size, shape, opset, **attributes):
    """Of a Resize of H and W of x to the size, with an output of the shape: three engines'."""
    sizes = helper.make_tensor('sizes', TensorProto.INT64, [2], size)
    resize = helper.make_node('Resize', ['x', '', '', 'sizes'], ['y'], axes=[2, 3], **attributes)
    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, s)
        for name, s in (('x', x.shape), ('y', shape))
    ]
    graph = helper.make_graph([resize], 'network', info[:1], info[1:], [sizes])
    opsets = [helper.make_opsetid('', opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    core = openvino.Core()
    f32 = {'INFERENCE_PRECISION_HINT': 'f32'}
    by_openvino = np.array(core.compile_model(core.read_model(data), 'CPU', f32)([x])[0])
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    by_ort, truth = session.run(None, {'x': x})[0], ReferenceEvaluator(model).run(None, {'x': x})[0]
    np.testing.assert_allclose(by_ort, truth, atol=1e-5)
    return by_openvino, truth


for opset in (18, 19):
    ov, truth = answers(stripes, (24, 8), (1, 1, 24, 8), opset, mode='linear', antialias=1)
    print(f'opset {opset}: stripes to a third of their width, antialias: true '
          f'{truth[0, 0, 0, 2:6].round(2)}, openvino {ov[0, 0, 0, 2:6].round(2)}')
    assert np.abs(truth[..., 1:-1] - 0.5).max() < 0.07
    assert set(ov[0, 0, 0, 1:-1].round(3)) == {0.0, 1.0}
    plain, _ = answers(stripes, (24, 8), (1, 1, 24, 8), opset, mode='linear')
    assert np.array_equal(ov, plain)
    ov, truth = answers(noise, (48, 96), (1, 1, 48, 96), opset, mode='cubic', exclude_outside=1)
    plain, right = answers(noise, (48, 96), (1, 1, 48, 96), opset, mode='cubic')
    np.testing.assert_allclose(plain, right, atol=1e-5)
    print(f'opset {opset}: enlarged, exclude_outside: off by {np.abs(ov - truth).max():.3f}')
    assert np.array_equal(ov, plain)
    assert np.abs(ov - truth).max() > 0.01
    for policy, shape in (('not_larger', (1, 1, 6, 12)), ('not_smaller', (1, 1, 12, 24))):
        ov, truth = answers(
            noise, (12, 12), shape, opset, mode='linear', keep_aspect_ratio_policy=policy
        )
        print(f'opset {opset}: 24 x 48 to 12 x 12, {policy}: true {truth.shape}, '
              f'openvino {ov.shape}')
        assert truth.shape == shape
        assert ov.shape == (1, 1, 12, 12)
EOF
