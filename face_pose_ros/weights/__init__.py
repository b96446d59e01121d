# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the packaged weights and checks their sha256.

The card of each file, `<name>.md`, has its source, licence and how it was made. Each network also
has a graph, `<name>.xml`: OpenVINO's intermediate representation, whose constants are the bytes of
the weights file (`read_graph`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]

# Checksums of the weights.
SHA256 = {
    'canonical_face': 'ac57567bf46f854e60cd1a8ce97fe78f33d0f27161be11d64652c66e676231be',
    'face_model': '25cca34757987ce33d250ad8368c3180dc0e8dffc88df1afd4b20d82566799b7',
    'head_detector': 'fa5d476ee470b9739b5bc6658e5943f3b4629c7725add5096e99a9cfe2a519ce',
    'keypoint_network': '0a4176cd2bf4a48106984580096e872fdad4b76fb961a479a2078b8a9917eafc',
    'semantic_head': 'f7d7d4f6d2ea66179fa382ed23d3851fd6fd3be85fd03adc7034448869a9b80e',
}

# Checksums of the graphs. Those in 8-bit integers have ranges that belong to the packaged weights.
GRAPHS_SHA256 = {
    'head_detector': 'd3de04bae652da7d57dd685040a79eaf267a1422aa0b3a9ff3613312d1d18760',
    'head_detector_int8': 'ff8fe1ac62920138163b2498335fd85bdde0751bce0c5fc571e328fe7bab321a',
    'keypoint_network': '53338779b795ace2c9a7390d00b631e7a0feafee4480fb02e42716a5a42a07b1',
}

FOLDER = Path(__file__).parent
_DTYPES = {'F16': np.float16, 'F32': np.float32, 'I32': np.int32}


class WeightsError(RuntimeError):
    """A weights file is missing, truncated, altered, or of another network."""


def load_weights(name: str, own: Path | str | None = None) -> Tensors:
    """Read a weights file: the packaged one, whose sha256 is checked, or the user's own.

    Args:
        name: A key of SHA256.
        own: A .safetensors file to read instead of the packaged one. Its sha256 is logged. Arrays
            other than `network.*` that it lacks, such as a calibration, are taken from the
            packaged file, which is logged too.

    Returns:
        Arrays by name, read-only, in their stored type (float16 in some files).

    Raises:
        ValueError: There are no weights of that name.
        WeightsError: The file cannot be read, has another sha256, or is not a safetensors file; or
            an array of `own` other than `network.*` has the wrong shape.
    """
    if name not in SHA256:
        raise ValueError(f'unknown weights {name!r}, expected one of {sorted(SHA256)}')
    if own is None:
        return read_safetensors(read_pinned(FOLDER / f'{name}.safetensors', SHA256[name]))
    content = _read(Path(own), '')
    try:
        tensors = read_safetensors(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f'{own}: no safetensors file ({error})') from error
    _report(f'{name}: weights of {own}, sha256 {hashlib.sha256(content).hexdigest()}')
    return _completed(tensors, name, own)


def read_graph(
    name: str, own: Path | str | None = None, quantised: bool = False
) -> tuple[bytes, bytes]:
    """A network for OpenVINO, as `Core.read_model` takes it: the graph, and its constants.

    The constants are the data of the safetensors file, in its order, followed by those of the
    graph itself, which are in its last line in base 64.

    Args:
        name: A key of SHA256 that is a network's.
        own: As in `load_weights`; tensors are converted to the packaged file's types.
        quantised: The graph in 8-bit integers, whose ranges belong to the packaged weights.

    Raises:
        WeightsError: As in `load_weights`, also for the graph; or a tensor of `own` has the wrong
            shape.
    """
    graph_name = f'{name}_int8' if quantised else name
    graph = read_pinned(FOLDER / f'{graph_name}.xml', GRAPHS_SHA256[graph_name])
    packaged = FOLDER / f'{name}.safetensors'
    if own is None:
        return graph, constants_of(graph, read_pinned(packaged, SHA256[name]))
    tensors = load_weights(name, own)
    entries = header_of(_read(packaged, ''))
    data = b''.join(
        _like(tensors, key, entry, own)
        for key, entry in sorted(entries.items(), key=lambda item: item[1]['data_offsets'])
    )
    return graph, data + _further_constants(graph)


def constants_of(graph: bytes, weights: bytes) -> bytes:
    """The constants of a graph and the content of its safetensors file."""
    return b''.join(
        [memoryview(weights)[8 + _header_length(weights) :], _further_constants(graph)]
    )


def _further_constants(graph: bytes) -> bytes:
    return base64.b64decode(graph.rpartition(b'<!--')[2].rpartition(b'-->')[0])


def read_safetensors(content: bytes) -> Tensors:
    """Arrays by name of a file: header length (8 bytes, little-endian), JSON header, data.

    The safetensors library has no rosdep key; these lines are all that a robot needs of it.

    Raises:
        ValueError, KeyError, TypeError: The content is not such a file.
    """
    start = 8 + _header_length(content)
    tensors = {}
    for name, entry in header_of(content).items():
        shape, dtype = entry['shape'], _DTYPES[entry['dtype']]
        offset = start + entry['data_offsets'][0]
        tensors[name] = np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape)
    return tensors


def _completed(tensors: Tensors, name: str, own: Path | str) -> Tensors:
    """The user's tensors, completed by packaged arrays other than `network.*`."""
    packaged = load_weights(name)
    if not any(key.startswith('network.') for key in packaged):
        return tensors
    beside = {key: x for key, x in packaged.items() if not key.startswith('network.')}
    for key, x in beside.items():
        if key in tensors and tensors[key].shape != x.shape:
            found = tensors[key].shape
            raise WeightsError(f'{own}: tensor {key} is of shape {found}, expected {x.shape}')
    missing = ', '.join(key for key in beside if key not in tensors)
    if missing:
        _report(f'{own} has no {missing}, which is taken from the packaged {name}')
    return beside | tensors


@cache
def _report(message: str) -> None:
    logging.getLogger(__name__).info(message)  # but once


def _header_length(content: bytes) -> int:
    return int.from_bytes(content[:8], 'little')


def header_of(content: bytes) -> dict[str, Any]:
    """Offsets in the data (`data_offsets`), dtype and shape of each tensor, by name."""
    header = json.loads(content[8 : 8 + _header_length(content)])
    return {name: entry for name, entry in header.items() if name != '__metadata__'}


def _like(tensors: Tensors, key: str, entry: dict[str, Any], own: Path | str) -> bytes:
    """The bytes of a tensor of the user, in the type of the packaged one."""
    if key not in tensors or list(tensors[key].shape) != entry['shape']:
        found = f'of shape {tensors[key].shape}' if key in tensors else 'missing'
        raise WeightsError(f'{own}: tensor {key} is {found}, expected {tuple(entry["shape"])}')
    return tensors[key].astype(_DTYPES[entry['dtype']]).tobytes()


def read_pinned(path: Path, expected: str) -> bytes:
    """The content of a packaged file.

    Raises:
        WeightsError: It cannot be read, or has another sha256 than expected.
    """
    again = 'by python -m face_pose_lab.package_networks'
    if path.suffix == '.safetensors':
        again = f'as {path.stem}.md says'
    remedy = f'Restore the file from the repository, or make it again {again}.'
    content = _read(path, f'; a file of sha256 {expected} belongs there. {remedy}')
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise WeightsError(
            f'{path} ({len(content)} bytes) is damaged or was changed: '
            f'sha256 {found} found, {expected} expected. {remedy}'
        )
    return content


def _read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f'{path}: {error.strerror}{remedy}') from error
