"""Networks run by OpenVINO on the CPU: converted from torch once, then read from a cache."""

from __future__ import annotations

import hashlib
import inspect
import tempfile
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from face_pose_ros.cache import writable_folder
from face_pose_ros.engines.telemetry import no_openvino_telemetry
from face_pose_ros.faces.region_pose import REGION_PX
from face_pose_ros.keypoints.face_mesh import CROP_SIZE_PX
from face_pose_ros.networks.blazeface import BlazeFaceFullRange
from face_pose_ros.networks.face_mesh import FaceMeshPoints, FaceMeshV2
from face_pose_ros.networks.hourglass import PackagedHourglass
from face_pose_ros.networks.region_pose import MirrorAveraged
from face_pose_ros.networks.single_shot import SingleShot

with no_openvino_telemetry():
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

Outputs = TypeVar('Outputs')


class _Compiled(NamedTuple):
    """One network for pictures of one size."""

    single: ov.InferRequest  # one picture on all threads
    several: list[ov.InferRequest]  # one picture each, each on one thread


class OpenVinoNetwork(Generic[Outputs]):
    """A torch network, compiled for every size of picture that it is shown.

    Calls from several threads wait for each other.
    """

    def __init__(
        self,
        network: nn.Module,
        make_outputs: Callable[[list[Tensor]], Outputs],
        example_size: tuple[int, int],
        threads: int,
    ) -> None:
        """Convert the network, or read it from the cache.

        Args:
            network: Takes pictures (N, 3, H, W) float32, returns tensors of N rows each.
            make_outputs: What to return of these tensors.
            example_size: H and W that the network accepts.
            threads: CPU threads of one call, 1 or more.
        """
        self._make_outputs = make_outputs
        self._threads = threads
        self._lock = threading.Lock()
        self._compiled: dict[tuple[int, ...], _Compiled] = {}
        self._core = ov.Core()
        folder = cache_folder()
        self._folder = folder and folder / f'{type(network).__name__}-{cache_key(network)}'
        self._model = self._read() or self._converted(network, example_size)

    def __call__(self, pictures: Tensor) -> Outputs:
        """The network's outputs for pictures (N, 3, H, W) float32, N >= 1."""
        batch = pictures.contiguous().numpy()
        with self._lock:
            compiled = self._compiled_for(batch.shape)
            if len(batch) == 1:
                rows = [_infer(compiled.single, batch)]
            else:
                rows = self._infer_each(compiled, batch)
        return self._make_outputs(
            [torch.from_numpy(np.concatenate(parts)) for parts in zip(*rows, strict=True)]
        )

    def _infer_each(self, compiled: _Compiled, batch: np.ndarray) -> list[list[np.ndarray]]:
        """Outputs of each picture: several on one thread each are faster than a batch on all."""
        if not compiled.several:
            model = self._compile(batch.shape, streams=self._threads)
            compiled.several.extend(model.create_infer_request() for _ in range(self._threads))
        requests, rows = compiled.several, []
        for first in range(0, len(batch), len(requests)):
            group = [batch[i : i + 1] for i in range(first, len(batch))][: len(requests)]
            for request, picture in zip(requests, group, strict=False):
                request.set_input_tensor(ov.Tensor(picture, shared_memory=True))
                request.start_async()
            for request, _ in zip(requests, group, strict=False):
                request.wait()
                rows.append(_outputs(request))
        return rows

    def _compiled_for(self, shape: tuple[int, ...]) -> _Compiled:
        size = shape[2:]
        if size not in self._compiled:
            model = self._compile(shape, streams=1)
            self._compiled[size] = _Compiled(model.create_infer_request(), [])
        return self._compiled[size]

    def _compile(self, shape: tuple[int, ...], streams: int) -> ov.CompiledModel:
        model = self._model.clone()
        model.reshape([1, *shape[1:]])
        properties: dict[str, Any] = {
            'INFERENCE_NUM_THREADS': self._threads,
            'NUM_STREAMS': streams,
            # Half of it where the CPU could: bfloat16 moves keypoints by pixels.
            'INFERENCE_PRECISION_HINT': 'f32',
            'ENABLE_CPU_PINNING': False,
        }
        if self._folder and self._folder.is_dir():
            properties['CACHE_DIR'] = str(self._folder)
        return self._core.compile_model(model, 'CPU', properties)

    def _read(self) -> ov.Model | None:
        """The network of the cache, if it is there and whole."""
        if self._folder is None:
            return None
        try:
            return self._core.read_model(self._folder / 'network.xml')
        except RuntimeError:
            return None

    def _converted(self, network: nn.Module, example_size: tuple[int, int]) -> ov.Model:
        """The network converted from torch, and put into the cache if that can be written."""
        with warnings.catch_warnings(), torch.no_grad():
            # The networks check shapes in Python, which holds for any size that they accept.
            warnings.simplefilter('ignore', torch.jit.TracerWarning)
            warnings.simplefilter('ignore', DeprecationWarning)
            example = torch.zeros(1, 3, *example_size)
            traced = torch.jit.trace(network, example, check_trace=False)
            # Not by ov.convert_model, which reports that it was used.
            frontend = FrontEndManager().load_by_framework('pytorch')
            decoder = TorchScriptPythonDecoder(traced)  # has to outlive the conversion
            model = frontend.convert(frontend.load(decoder))
        if self._folder is None:
            return model
        with (
            suppress(OSError, RuntimeError),
            tempfile.TemporaryDirectory(dir=self._folder.parent) as new,
        ):
            unpacked = Path(new) / 'network'
            ov.save_model(model, unpacked / 'network.xml', compress_to_fp16=False)
            # At once, whoever else is writing: a folder that is there already stays.
            unpacked.rename(self._folder)
        return model


def openvino_face_mesh(network: FaceMeshV2, threads: int) -> OpenVinoNetwork[FaceMeshPoints]:
    """Face Mesh on so many threads."""
    return OpenVinoNetwork(network, FaceMeshPoints._make, (CROP_SIZE_PX, CROP_SIZE_PX), threads)


def openvino_blazeface(
    network: BlazeFaceFullRange, threads: int
) -> OpenVinoNetwork[tuple[Tensor, Tensor]]:
    """BlazeFace on so many threads."""
    return OpenVinoNetwork(network, lambda out: (out[0], out[1]), (192, 192), threads)


def openvino_hourglass(network: PackagedHourglass, threads: int) -> OpenVinoNetwork[Tensor]:
    """The hourglass on so many threads."""
    side = network.OPTIONS.input_px
    return OpenVinoNetwork(network, itemgetter(0), (side, side), threads)


def openvino_single_shot(network: SingleShot, threads: int) -> OpenVinoNetwork[tuple[Tensor, ...]]:
    """The single-shot detector on so many threads."""
    return OpenVinoNetwork(network, tuple, (192, 192), threads)


def openvino_region_pose(network: MirrorAveraged, threads: int) -> OpenVinoNetwork[Tensor]:
    """The second look of the single-shot detector on so many threads."""
    return OpenVinoNetwork(network, itemgetter(0), (REGION_PX, REGION_PX), threads)


def cache_folder() -> Path | None:
    """Where converted networks are kept; None where nothing can be written."""
    return writable_folder('networks')


def cache_key(network: nn.Module) -> str:
    """What a converted network depends on: weights, architecture, and OpenVINO's version."""
    digest = hashlib.sha256(ov.get_version().encode())
    for file in sorted({inspect.getfile(type(module)) for module in network.modules()}):
        digest.update(Path(file).read_bytes())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _infer(request: ov.InferRequest, picture: np.ndarray) -> list[np.ndarray]:
    request.set_input_tensor(ov.Tensor(picture, shared_memory=True))
    request.infer()
    return _outputs(request)


def _outputs(request: ov.InferRequest) -> list[np.ndarray]:
    # Copies: the next picture overwrites what the request holds.
    return [tensor.data.copy() for tensor in request.output_tensors]
