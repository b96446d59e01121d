# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks of the lab run by OpenVINO, so that times compare with those of packaged networks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from face_pose_ros.engines.network import Network, Outputs
from face_pose_ros.engines.telemetry import no_openvino_telemetry

with no_openvino_telemetry():
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder


def converted(network: nn.Module, shape: Sequence[int]) -> ov.Model:
    """The graph of a network for inputs of one shape."""
    with warnings.catch_warnings(), torch.no_grad():
        # The networks check shapes in Python.
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        warnings.simplefilter('ignore', DeprecationWarning)
        traced = torch.jit.trace(network, torch.zeros(*shape), check_trace=False)
        # Not by ov.convert_model, which reports that it was used.
        frontend = FrontEndManager().load_by_framework('pytorch')
        decoder = TorchScriptPythonDecoder(traced)  # has to outlive the conversion
        model = frontend.convert(frontend.load(decoder))
    model.reshape(list(shape))
    return model


class OpenVinoReference(Network):
    """A network of the lab, compiled for every size of images that it is given."""

    def __init__(self, network: nn.Module, threads: int, precision: str = 'f32') -> None:
        """Take a network in evaluation mode."""
        self._network = network
        self._properties = {
            'INFERENCE_NUM_THREADS': threads,
            'NUM_STREAMS': 1,
            'INFERENCE_PRECISION_HINT': precision,
            'ENABLE_CPU_PINNING': False,
        }
        self._requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, pictures: NDArray[np.float32]) -> Outputs:
        """The outputs for N pictures."""
        shape = pictures.shape
        if shape not in self._requests:
            model = converted(self._network, shape)
            compiled = ov.Core().compile_model(model, 'CPU', self._properties)
            self._requests[shape] = compiled.create_infer_request()
        outputs = self._requests[shape].infer([np.ascontiguousarray(pictures, np.float32)])
        return tuple(output.copy() for output in outputs.values())
