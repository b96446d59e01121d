# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Write the graphs of the packaged networks, as OpenVINO reads them without torch.

    python -m face_pose_lab.package_networks

A graph depends on a network's definition and on the layout of its weights file, not on the
weights: those trained anew need no other one. Each constant is the place of a tensor in the data
of `<name>.safetensors`; the few that are no weights are in the last line of the graph. The same
versions of torch and OpenVINO give the same bytes. Prints the sums for GRAPHS_SHA256 in
face_pose_ros/weights/__init__.py.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from face_pose_ros.engines.telemetry import no_openvino_telemetry
from face_pose_ros.faces.head_cells import SIZE_MULTIPLE
from face_pose_ros.keypoints.network_output import INPUT_PX
from face_pose_ros.networks.head_detector import HeadDetectorNetwork
from face_pose_ros.networks.head_detector import fused as fused_detector
from face_pose_ros.networks.keypoint_network import KeypointNetwork, fused
from face_pose_ros.weights import FOLDER, header_of

with no_openvino_telemetry():
    import openvino as ov
    from openvino import opset13 as ops
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.passes import ConstantFolding, Manager

_ANY = -1


class Packaged(NamedTuple):
    """How a network is traced for its package."""

    build: Callable[[], nn.Module]
    side: int  # of the pictures that it is traced with [px]
    any_size: bool = False  # of any height and width


PACKAGED = {
    'head_detector': Packaged(
        lambda: fused_detector(HeadDetectorNetwork().eval()), 6 * SIZE_MULTIPLE, any_size=True
    ),
    'keypoint_network': Packaged(lambda: fused(KeypointNetwork().eval()), INPUT_PX),
}


def graph_of(name: str) -> bytes:
    """The graph of a packaged network, for pictures one at a time."""
    how = PACKAGED[name]
    network = how.build().eval().requires_grad_(False)
    entries = header_of((FOLDER / f'{name}.safetensors').read_bytes())
    tensors = _filled_with_distinct_numbers(network, entries)
    model = _converted(network, how.side)
    side = _ANY if how.any_size else how.side
    model.reshape([1, 3, side, side])
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    _refer_to(tensors, entries, model)
    return serialised(model, entries)


def _filled_with_distinct_numbers(network: nn.Module, entries: dict[str, Any]) -> dict[bytes, str]:
    """Names in the weights file by content [bytes of float32]: so constants can be told apart."""
    generator = torch.Generator().manual_seed(0)
    names = {}
    for name, tensor in network.state_dict().items():
        key = name if name in entries else f'network.{name}'
        if not tensor.is_floating_point():
            continue  # counts of batches
        numbers = 0.5 + torch.rand(tensor.shape, generator=generator)
        tensor.copy_(numbers.half() if entries[key]['dtype'] == 'F16' else numbers)
        names[tensor.numpy().tobytes()] = key
    return names


def _converted(network: nn.Module, side: int) -> ov.Model:
    with warnings.catch_warnings(), torch.no_grad():
        # The networks check shapes in Python, which holds for any size that they accept.
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        warnings.simplefilter('ignore', DeprecationWarning)
        traced = torch.jit.trace(network, torch.zeros(1, 3, side, side), check_trace=False)
        # Not by ov.convert_model, which reports that it was used.
        frontend = FrontEndManager().load_by_framework('pytorch')
        decoder = TorchScriptPythonDecoder(traced)  # has to outlive the conversion
        return frontend.convert(frontend.load(decoder))


def _refer_to(tensors: dict[bytes, str], entries: dict[str, Any], model: ov.Model) -> None:
    """Give the constants that are weights the names and types that they have in their file."""
    unused = set(tensors.values())
    for op in model.get_ordered_ops():
        if op.get_type_name() != 'Constant' or (name := tensors.get(op.data.tobytes())) is None:
            continue
        unused.discard(name)
        if entries[name]['dtype'] == 'F16':
            half = ops.constant(op.data.astype(np.float16))
            half.set_friendly_name(name)
            op.output(0).replace(ops.convert(half, 'f32').output(0))
        else:
            op.set_friendly_name(name)
    if unused:
        raise RuntimeError(f'no constants of the graph: {", ".join(sorted(unused))}')


def serialised(model: ov.Model, entries: dict[str, Any]) -> bytes:
    """The graph, in which constants lie where the weights file and the last line have them."""
    with tempfile.TemporaryDirectory() as folder:
        xml, binary = Path(folder, 'graph.xml'), Path(folder, 'graph.bin')
        ov.serialize(model, xml, binary)
        net, constants = ElementTree.parse(xml).getroot(), binary.read_bytes()
    end = max(entry['data_offsets'][1] for entry in entries.values())
    further = bytearray()
    net.set('name', 'network')
    for layer in net.iter('layer'):
        for rt_info in layer.findall('rt_info'):
            layer.remove(rt_info)
        name, data = layer.get('name'), layer.find('data')
        if layer.get('type') == 'Const' and data is not None:
            first, size = int(data.get('offset', '')), int(data.get('size', ''))
            if name in entries:
                data.set('offset', str(entries[name]['data_offsets'][0]))
                continue
            content = constants[first : first + size]
            if (place := further.find(content)) < 0:
                place = len(further)
                further += content
            data.set('offset', str(end + place))
        # Names that conversions count through this process would make other bytes each time.
        layer.set('name', f'{layer.get("type")}_{layer.get("id")}')
    for rt_info in net.findall('rt_info'):
        net.remove(rt_info)
    for element in net.iter():  # one line for each layer and edge
        element.text = (element.text or '').strip()
        element.tail = '\n' if element.tag in ('layer', 'edge') else None
    text = ElementTree.tostring(net, 'unicode')
    return f'{text}\n<!--{base64.b64encode(further).decode()}-->\n'.encode()


def package(name: str, tensors: dict[str, Tensor]) -> None:
    """Write the weights and the graph of a network, and their sums into the pins and the card."""
    weights = save(tensors)
    (FOLDER / f'{name}.safetensors').write_bytes(weights)
    graph = graph_of(name)
    (FOLDER / f'{name}.xml').write_bytes(graph)
    pins = FOLDER / '__init__.py'
    first, second = pins.read_text().split('GRAPHS_SHA256 =')
    pins.write_text(f'{pinned(first, name, weights)}GRAPHS_SHA256 ={pinned(second, name, graph)}')
    card = FOLDER / f'{name}.md'
    digest = hashlib.sha256(weights).hexdigest()
    card.write_text(re.sub('sha256 [0-9a-f]*', f'sha256 {digest}', card.read_text()))


def pinned(text: str, name: str, content: bytes) -> str:
    """The pins with the sum of a network's file."""
    line = rf"\g<1>'{hashlib.sha256(content).hexdigest()}'"
    text, count = re.subn(rf"('{name}': )'[0-9a-f]*'", line, text)
    assert count == 1
    return text


def packaged_weights(network: nn.Module) -> dict[str, Tensor]:
    """A network's tensors as they are packaged: matrices in float16, vectors in float32."""
    return {
        f'network.{name}': (value.half() if value.ndim > 1 else value.float()).contiguous()
        for name, value in network.state_dict().items()
    }


def main(args: Sequence[str] | None = None) -> None:
    """Write the graphs that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', help=f'of {", ".join(PACKAGED)}; none: all')
    parser.add_argument('--out', type=Path, default=FOLDER, help='folder')
    options = parser.parse_args(args)
    for name in options.names or PACKAGED:
        if name not in PACKAGED:
            parser.error(f"'{name}' is not one of {', '.join(PACKAGED)}")
        graph = graph_of(name)
        (options.out / f'{name}.xml').write_bytes(graph)
        print(f"    '{name}': '{hashlib.sha256(graph).hexdigest()}',")


if __name__ == '__main__':
    main()
