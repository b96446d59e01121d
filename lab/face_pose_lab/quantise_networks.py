# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Write the graphs of packaged networks that run in 8-bit integers, with NNCF.

Post-training quantisation with the least and greatest values of the activations as ranges, which
moves the outputs less than NNCF's default of averaged ranges, and without its bias correction, so
that the weights stay those of the float graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import nncf
import numpy as np
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from numpy.typing import NDArray

from face_pose_lab.package_networks import pinned, serialised
from face_pose_ros.engines.telemetry import no_openvino_telemetry
from face_pose_ros.weights import FOLDER, constants_of, header_of

with no_openvino_telemetry():
    import openvino as ov
    from openvino import opset13 as ops

_LARGEST = 127  # of a weight in 8 bits


def package_quantised(name: str, pictures: Sequence[NDArray[np.float32]]) -> None:
    """Write `<name>_int8.xml` and its sum into the pins.

    Args:
        name: Of the network, whose weights and graph have been written.
        pictures: As in `quantised_graph_of`.
    """
    graph = quantised_graph_of(name, pictures)
    (FOLDER / f'{name}_int8.xml').write_bytes(graph)
    pins = FOLDER / '__init__.py'
    pins.write_text(pinned(pins.read_text(), f'{name}_int8', graph))


def quantised_graph_of(name: str, pictures: Sequence[NDArray[np.float32]]) -> bytes:
    """The graph of a packaged network that runs in 8-bit integers.

    The weights are those of the same file; the graph adds the steps of each channel's weights and
    the ranges of the activations.

    Args:
        name: Of the network, whose weights and graph have been written.
        pictures: (1, 3, H, W) each, of one size, that show what the network will see.
    """
    entries = header_of((FOLDER / f'{name}.safetensors').read_bytes())
    content = (FOLDER / f'{name}.safetensors').read_bytes()
    graph = (FOLDER / f'{name}.xml').read_bytes()
    model = ov.Core().read_model(graph, constants_of(graph, content))
    shape = model.input().partial_shape
    named, weights = {}, {}
    for i, op in enumerate(model.get_ordered_ops()):
        if op.get_type_name() == 'Constant':
            named[f'op_{i}'] = op.get_friendly_name()
        elif op.get_type_name() == 'Convolution':
            constant = op.input_value(1).get_node().input_value(0).get_node()
            weights[f'op_{i}'] = named[constant.get_friendly_name()], constant.data
        op.set_friendly_name(f'op_{i}')  # unique, which NNCF wants
    model.reshape(list(pictures[0].shape))
    quantised = nncf.quantize(
        model,
        nncf.Dataset(pictures),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(pictures),
        advanced_parameters=AdvancedQuantizationParameters(
            disable_bias_correction=True,
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        ),
    )
    for op in quantised.get_ordered_ops():
        if op.get_type_name() == 'Convolution':
            _quantise_weights_at_load(op, *weights[op.get_friendly_name()])
        elif op.get_type_name() == 'Constant' and op.get_friendly_name() in named:
            op.set_friendly_name(named[op.get_friendly_name()])
    quantised.reshape(shape)
    return serialised(quantised, entries)


def _quantise_weights_at_load(convolution: ov.Node, name: str, weights: NDArray) -> None:
    """Let OpenVINO make the integers that NNCF stored, from the weights of the file."""
    scaled = convolution.input_value(1).get_node()
    if scaled.get_type_name() == 'FakeQuantize':  # shared with a convolution seen before
        return
    scale = np.asarray(scaled.input_value(1).get_node().data, np.float32)
    half = ops.constant(weights.astype(np.float16))
    half.set_friendly_name(name)
    ends = [ops.constant(sign * _LARGEST * scale) for sign in (-1, 1)]
    steps = ops.fake_quantize(ops.convert(half, 'f32'), *ends, *ends, 2 * _LARGEST + 1)
    scaled.output(0).replace(steps.output(0))
