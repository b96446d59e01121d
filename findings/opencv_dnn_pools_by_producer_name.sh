#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: an ONNX network with an AveragePool at padded borders, whose attribute count_include_pad
# says whether the padding counts, in cv2.dnn.
# Seen with opencv-python-headless 4.11.0.86: the attribute is not read. The padding counts if, and
# only if, the file's producer_name is "pytorch", which is a comment to ONNX. onnxruntime 1.32.0
# goes by the attribute, as does opencv-python-headless 5.0.0.93.
# Why it matters: after a simplifier, quantiser or editor has put its own name into the file, or
# from an exporter of another name, the same network answers otherwise near the image's border; a
# network of PyTorch that leaves the padding out (count_include_pad=False) never is right. Replace
# the padding of AveragePool by an operator Pad, or use OpenCV 5.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
    opencv-python-headless==4.11.0.86 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.2.6
"$folder/venv/bin/pip" install -q --disable-pip-version-check --no-deps \
    --target "$folder/opencv5" opencv-python-headless==5.0.0.93
cd "$folder"
cat >pool.py <<'EOF'
import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

print('opencv', cv2.__version__, 'onnxruntime', onnxruntime.__version__)
ones = np.ones((1, 1, 6, 6), np.float32)


def network(producer, counts):
    node = helper.make_node('AveragePool', ['x'], ['y'], kernel_shape=[3, 3], pads=[1] * 4,
                            count_include_pad=counts)
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ones.shape) for n in 'xy']
    graph = helper.make_graph([node], 'network', info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8,
                              producer_name=producer)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


for producer in 'pytorch', 'onnxsim', '':
    for counts in 1, 0:
        data = network(producer, counts)
        net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
        net.setInput(ones)
        corner = net.forward()[0, 0, 0, 0]
        session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
        truth = session.run(None, {'x': ones})[0][0, 0, 0, 0]
        print(f'producer {producer!r}, count_include_pad {counts}: mean of ones in the corner is '
              f'{corner:.2f} in cv2.dnn, {truth:.2f} in onnxruntime')
        assert abs(truth - (4 / 9 if counts else 1)) < 1e-6
        by_name = 4 / 9 if producer == 'pytorch' else 1
        expected = by_name if cv2.__version__.startswith('4.11.') else truth
        assert abs(corner - expected) < 1e-6
EOF
PYTHONPATH='' venv/bin/python pool.py
PYTHONPATH=opencv5 venv/bin/python pool.py
