#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: ONNX networks that resize feature maps by a factor (operator Resize), in cv2.dnn: half of a
# map of 15 px, and nearest neighbours with a nearest_mode.
# Seen with opencv-python-headless 4.11.0.86 and 5.0.0.93: the factor is replaced by the ratio of
# the sizes, 7 / 15 for 1 / 2, so that samples drift by up to one pixel (12.5 becomes 13.4 at the
# right end). 4.11 also ignores nearest_mode: `floor` and `ceil` at a factor of 2 and the default
# `round_prefer_floor` at 1 / 2 take other neighbours. onnxruntime 1.32.0 is as ONNX defines it.
# Why it matters: with image sizes that are no multiple of the network's strides, features and what
# follows from them are off by up to a pixel of the map, more to the right and the bottom. Give
# sizes that are multiples, or Resize's input `sizes` in place of `scales`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    opencv-python-headless==4.11.0.86 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.2.6
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps \
    --target "$folder/opencv5" opencv-python-headless==5.0.0.93
cd "$folder"
cat >resize.py <<'EOF'
import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

print('opencv', cv2.__version__, 'onnxruntime', onnxruntime.__version__)
is_4 = cv2.__version__.startswith('4.11.')


def columns(size, factor, **attributes):
    """Where cv2.dnn and onnxruntime sample a row [px]."""
    ramp = np.tile(np.arange(size, dtype=np.float32), (1, 1, size, 1))
    node = helper.make_node('Resize', ['x', '', 'scales'], ['y'], **attributes)
    scales = numpy_helper.from_array(np.array([1, 1, factor, factor], np.float32), 'scales')
    info = [helper.make_tensor_value_info('x', TensorProto.FLOAT, ramp.shape),
            helper.make_tensor_value_info('y', TensorProto.FLOAT, None)]
    graph = helper.make_graph([node], 'network', info[:1], info[1:], [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
    net.setInput(ramp)
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    return net.forward()[0, 0, 0], session.run(None, {'x': ramp})[0][0, 0, 0]


torch_half = {'mode': 'linear', 'coordinate_transformation_mode': 'pytorch_half_pixel'}
for size, off in (16, 0.0), (15, 13 / 14):
    cv, ort = columns(size, 0.5, **torch_half)
    print(f'bilinear, half of {size} px: samples at', *cv.round(2), '; as defined', *ort)
    assert np.allclose(ort, 0.5 + 2 * np.arange(size // 2))
    assert np.allclose(cv[-1] - ort[-1], off, atol=1e-5)
for mode, factor, is_wrong in (
    ('floor', 2, is_4),
    ('ceil', 2, is_4),
    ('round_prefer_floor', 2, False),
    ('round_prefer_floor', 0.5, is_4),
    ('round_prefer_ceil', 0.5, False),
):
    cv, ort = columns(8, factor, mode='nearest', coordinate_transformation_mode='half_pixel',
                      nearest_mode=mode)
    print(f'nearest, {mode}, factor {factor}: samples', *cv.astype(int), '; as defined',
          *ort.astype(int))
    assert np.array_equal(cv, ort) != is_wrong
EOF
PYTHONPATH='' venv/bin/python resize.py
PYTHONPATH=opencv5 venv/bin/python resize.py
