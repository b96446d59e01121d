# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks run by OpenVINO on the CPU, from the packaged graphs and weights."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.cache import writable_folder
from face_pose_ros.engines.network import Network, Outputs
from face_pose_ros.engines.telemetry import no_openvino_telemetry
from face_pose_ros.weights import GRAPHS_SHA256, read_graph

with no_openvino_telemetry():
    import openvino as ov


class _Request(NamedTuple):
    """An inference request, and views of its input and output memory."""

    infer: ov.InferRequest
    picture: NDArray[np.float32]  # (1, 3, H, W)
    outputs: list[NDArray[np.float32]]

    @classmethod
    def of(cls, compiled: ov.CompiledModel) -> _Request:
        """A new request."""
        infer = compiled.create_infer_request()
        (picture,), outputs = infer.input_tensors, infer.output_tensors
        return cls(infer, picture.data, [tensor.data for tensor in outputs])

    def copied(self) -> Outputs:
        """The outputs as arrays of the caller's own."""
        return tuple(output.copy() for output in self.outputs)


class OpenVinoNetwork(Network):
    """A packaged network, compiled once for each picture size.

    Calls from several threads run one after the other.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        own: Path | str | None = None,
        precision: str | None = None,
    ) -> None:
        """Read the network; compile it if its picture size is fixed.

        Args:
            name: Name of the packaged network.
            threads: CPU threads of one call, 1 or more; a single crop uses one.
            own: Weights to use instead of the packaged ones.
            precision: 'f32', 'bf16' or 'int8'; None: the fastest of them that the CPU has
                instructions for, int8 only with packaged weights that have such a graph.

        Raises:
            WeightsError: As in `read_graph`.
        """
        self._name, self._threads, self._own = name, threads, own
        self._precision = precision or _fastest_precision(name, own)
        self._lock = threading.Lock()
        # By shape (3, H, W): requests for one picture, and for several with one thread each.
        self._single: dict[tuple[int, ...], _Request] = {}
        self._several: dict[tuple[int, ...], list[_Request]] = {}
        model = self._read()
        if not model.is_dynamic():
            shape = tuple(model.input().shape)[1:]
            # A crop is small: a second thread would save 1/6 of the time and double the CPU load.
            (self._single[shape],) = self._compiled(model, shape, requests=1, threads=1)

    def __call__(self, pictures: NDArray[np.float32]) -> Outputs:
        """The outputs for N >= 1 pictures (N, 3, H, W)."""
        with self._lock:
            if len(pictures) == 1:
                return self._infer(pictures)
            if self._threads == 1:
                rows = [self._infer(picture) for picture in pictures[:, None]]
            else:
                rows = self._infer_each(pictures)
        return tuple(map(np.concatenate, zip(*rows, strict=True)))

    def _infer(self, picture: NDArray[np.float32]) -> Outputs:
        shape = picture.shape[1:]
        if shape not in self._single:
            model = self._read()
            (self._single[shape],) = self._compiled(model, shape, 1, self._threads)
        request = self._single[shape]
        request.picture[:] = picture
        request.infer.infer(share_outputs=True)
        return request.copied()

    def _infer_each(self, pictures: NDArray[np.float32]) -> list[Outputs]:
        """Outputs of each picture; parallel requests are faster than one batch on all threads."""
        shape = pictures.shape[1:]
        if shape not in self._several:
            model = self._read()
            self._several[shape] = self._compiled(model, shape, self._threads, self._threads)
        requests, rows = self._several[shape], []
        for i in range(len(pictures) + len(requests)):
            request = requests[i % len(requests)]
            if i >= len(requests):
                request.infer.wait()
                rows.append(request.copied())
            if i < len(pictures):
                request.picture[0] = pictures[i]
                request.infer.start_async()
        return rows

    def _read(self) -> ov.Model:
        return _core().read_model(*read_graph(self._name, self._own, self._precision == 'int8'))

    def _compiled(
        self, model: ov.Model, shape: tuple[int, ...], requests: int, threads: int
    ) -> list[_Request]:
        """Parallel requests that share the threads."""
        model.reshape([1, *shape])
        properties: dict[str, Any] = {
            'INFERENCE_NUM_THREADS': threads,
            'NUM_STREAMS': requests,
            # In int8 that of the layers that stay in floating point.
            'INFERENCE_PRECISION_HINT': (
                _float_precision() if self._precision == 'int8' else self._precision
            ),
            'ENABLE_CPU_PINNING': False,
        }
        if folder := writable_folder('openvino'):  # halves start-up time and memory
            properties['CACHE_DIR'] = str(folder)
        compiled = _core().compile_model(model, 'CPU', properties)
        return [_Request.of(compiled) for _ in range(requests)]


def _fastest_precision(name: str, own: Path | str | None) -> str:
    is_quantised = own is None and f'{name}_int8' in GRAPHS_SHA256
    return 'int8' if is_quantised and _has_fast_int8() else _float_precision()


def _float_precision() -> str:
    return 'bf16' if _has_bf16() else 'f32'


@cache
def _has_bf16() -> bool:
    """Whether the CPU has bfloat16 instructions, which are faster than float32."""
    return 'BF16' in _core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')


@cache
def _has_fast_int8() -> bool:
    """Whether the CPU adds up products of bytes without saturating (VNNI)."""
    # OpenVINO reports INT8 for every CPU with AVX2.
    try:
        return '_vnni' in Path('/proc/cpuinfo').read_text()
    except OSError:
        return False


@cache
def _core() -> ov.Core:
    return ov.Core()
