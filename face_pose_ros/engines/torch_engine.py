# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks run by torch: on GPUs, and on CPUs without OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from face_pose_ros.engines.cuda import GraphedNetwork, HalfPrecision, render_crops
from face_pose_ros.engines.network import Network, Outputs, Pictures
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops
from face_pose_ros.networks.head_detector import packaged_head_detector
from face_pose_ros.networks.keypoint_network import packaged_keypoint_network

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    'head_detector': packaged_head_detector,
    'keypoint_network': packaged_keypoint_network,
}


class TorchNetwork(Network):
    """A network in torch, on any device."""

    def __init__(self, network: Callable[[Tensor], Any], device: str) -> None:
        """Wrap a network.

        Args:
            network: Pictures (N, 3, H, W) on the device -> one or several tensors of N rows.
            device: 'cpu', 'cuda' or 'cuda:<index>'. On a GPU the network has its own stream.
        """
        self._network = network
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(device) if self._device.type == 'cuda' else None

    @torch.inference_mode()
    def __call__(self, pictures: Pictures) -> Outputs:
        """The outputs for N >= 1 pictures, on the CPU."""
        if not isinstance(pictures, Tensor):
            pictures = torch.from_numpy(np.ascontiguousarray(pictures, np.float32))
        with self._on_stream():
            outputs = self._network(pictures.to(self._device))
            outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
            return _downloaded(outputs)

    @torch.inference_mode()
    def render(
        self, image: NDArray[np.uint8], crops: Crops, camera: Camera, shrink: int = 1
    ) -> Pictures:
        """Render crops, see `Network.render`; a GPU gets only the part of the image in them."""
        if self._device.type == 'cpu':
            return super().render(image, crops, camera, shrink)
        with self._on_stream():
            return render_crops(image, crops, camera, shrink, self._device)

    def join(self, pictures: Sequence[Pictures]) -> Pictures:
        """Concatenate batches."""
        if isinstance(pictures[0], Tensor):
            with self._on_stream():
                return torch.cat(list(pictures))
        return super().join(pictures)

    def _on_stream(self) -> Any:
        return torch.cuda.stream(self._stream) if self._stream else nullcontext()


def packaged(
    name: str,
    device: str,
    graphs: bool,
    threads: int,
    own: Path | str | None = None,
    half: bool = True,
) -> TorchNetwork:
    """A packaged network.

    Args:
        name: Name of its weights.
        device: As in `TorchNetwork`.
        graphs: Whether to use CUDA graphs on a GPU.
        threads: Threads of torch in this process, if the device is the CPU.
        own: Weights to use instead of the packaged ones.
        half: With graphs, whether to run it in half precision.

    Raises:
        WeightsError: As in `load_weights`.
    """
    network: Callable[[Tensor], Any] = _BUILDERS[name](device, own)
    if device == 'cpu':
        torch.set_num_threads(threads)
    elif graphs:
        network = GraphedNetwork(HalfPrecision(network) if half else network)
    return TorchNetwork(network, device)


def _downloaded(outputs: tuple[Tensor, ...]) -> Outputs:
    """Tensors of N rows each as arrays; copied from a GPU in one transfer."""
    if outputs[0].device.type == 'cpu':
        return tuple(output.numpy() for output in outputs)
    rows = torch.cat([output.flatten(1).float() for output in outputs], 1).cpu()
    parts = rows.split([output[0].numel() for output in outputs], 1)
    return tuple(
        part.contiguous().view(output.shape).numpy()
        for part, output in zip(parts, outputs, strict=True)
    )


def allocated_bytes(device: str) -> int:
    """Memory [bytes] of a GPU that the tensors of this process use."""
    return int(torch.cuda.memory_allocated(device))


def release_memory() -> None:
    """Return unused GPU memory of this process to the device."""
    torch.cuda.empty_cache()
