# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fast inference on GPUs: CUDA graphs, half precision, crops rendered on the device."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from face_pose_ros.engines.network import finer
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import MAX_STEP_PX, NODE_SPACING_PX, Crops

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_MAX_SAMPLES = 4  # per pixel and axis of a rendered crop
_WARM_UPS = 3  # calls before a capture, required by PyTorch: they select and load kernels


class Graph(NamedTuple):
    """A captured network with fixed input and output memory."""

    pictures: Tensor  # written before a replay
    outputs: tuple[Tensor, ...]  # read after it, before the next one
    replay: Callable[[], None]


class GraphedNetwork:
    """A network that is captured once for each picture size and batch size.

    A replay is one launch instead of a hundred kernels. A batch is padded to the next of
    BATCH_SIZES; batches above the largest are split. Calls from several threads run one after the
    other, because they share the graphs' memory.
    """

    def __init__(
        self, network: Any, capture: Callable[[Any, Tensor], Graph] | None = None
    ) -> None:
        """Wrap a network.

        Args:
            network: Pictures (N, 3, H, W) -> one or several tensors of N rows.
            capture: Makes a graph for pictures of one shape; None: `capture_on_cuda`.
        """
        self._network = network
        self._capture = capture or capture_on_cuda
        self._graphs: dict[torch.Size, Graph] = {}
        self._lock = threading.Lock()

    def __call__(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """The network's outputs for pictures (N, 3, H, W) float32, N >= 1."""
        with self._lock:
            parts = [self._replayed(part) for part in pictures.split(BATCH_SIZES[-1])]
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def _replayed(self, pictures: Tensor) -> list[Tensor]:
        count = len(pictures)
        size = next(size for size in BATCH_SIZES if size >= count)
        shape = torch.Size((size, *pictures.shape[1:]))
        if shape not in self._graphs:
            self._graphs[shape] = self._capture(self._network, pictures.new_zeros(shape))
        graph = self._graphs[shape]
        graph.pictures[:count] = pictures
        graph.replay()
        return [output[:count].clone() for output in graph.outputs]


def capture_on_cuda(network: Any, pictures: Tensor) -> Graph:
    """Capture the network for pictures in this memory (pytorch.org, "CUDA semantics")."""
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    stream = torch.cuda.Stream(pictures.device)
    stream.wait_stream(torch.cuda.current_stream(pictures.device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            network(pictures)
    torch.cuda.current_stream(pictures.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Threads of other cameras may use the device meanwhile. The stream selects the device.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
        outputs = network(pictures)
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    return Graph(pictures, outputs, graph.replay)


class HalfPrecision(nn.Module):
    """A network in float16 with last layers in float32; pictures and outputs are float32.

    Linear layers and the layer named `last` stay in float32, because their outputs are places:
    the resolution of float16 is a thousandth.
    """

    def __init__(self, network: Any) -> None:
        """Copy a network: pictures -> tensor or tuple of tensors."""
        super().__init__()
        self.network = deepcopy(network).half()
        for name, layer in self.network.named_children():
            if name == 'last' or isinstance(layer, nn.Linear):
                layer.float().register_forward_pre_hook(_in_float)

    def forward(self, pictures: Tensor) -> Any:
        """The network's outputs in float32 for pictures (N, 3, H, W) float32."""
        return self.network(pictures.half())


def _in_float(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return inputs[0].float()


def render_crops(
    image: NDArray[np.uint8], crops: Crops, camera: Camera, shrink: int, device: torch.device
) -> Tensor:
    """`Network.render` on a device.

    The image is reduced by the largest power of two that the smallest crop allows; pixels of
    larger crops are means of several samples.

    Returns:
        (N, 3, size, size) float32 RGB in [0, 1]; outside the image its border is repeated.
    """
    crops = finer(crops, shrink)
    height, width = image.shape[:2]
    # Centres of cells that tile the crop, with one more cell on each side.
    axis = (np.arange(-1, crops.size_px // NODE_SPACING_PX + 1) + 0.5) * NODE_SPACING_PX - 0.5
    nodes = np.stack(np.meshgrid(axis, axis), -1).reshape(1, -1, 2)
    uv, _ = crops.to_image(np.repeat(nodes, len(crops), 0), camera)
    # Pixels without a ray may have any content.
    uv = np.nan_to_num(uv, nan=0.0).clip(-1e6, 1e6).reshape(len(crops), len(axis), len(axis), 2)
    steps = np.linalg.norm(uv[:, 1:, 1:] - uv[:, :-1, :-1], axis=-1).max((1, 2))
    steps_px = steps.clip(1e-6, min(height, width)) / (math.sqrt(2) * NODE_SPACING_PX)
    scale = 2 ** max(math.ceil(math.log2(steps_px.min() / MAX_STEP_PX)), 0)
    samples = min(max(math.ceil(steps_px.max() / (scale * MAX_STEP_PX)), 1), _MAX_SAMPLES)

    left, top, right, bottom = _bounds(uv, width, height)
    left, top = left - left % scale, top - top % scale
    part = torch.from_numpy(np.ascontiguousarray(image[top:bottom, left:right])).to(device)
    part = part.permute(2, 0, 1).float()[None] / 255
    part = F.avg_pool2d(part, scale, ceil_mode=True, count_include_pad=False)
    per_px = 2 / (scale * np.array([part.shape[3], part.shape[2]]))
    grid = torch.from_numpy(((uv - [left, top] + 0.5) * per_px - 1).astype(np.float32)).to(device)
    pictures = F.grid_sample(
        part.expand(len(crops), -1, -1, -1),
        _between_nodes(grid, samples),
        padding_mode='border',
        align_corners=False,
    )
    return pictures if samples * shrink == 1 else F.avg_pool2d(pictures, samples * shrink)


def _between_nodes(values: Tensor, samples: int) -> Tensor:
    """Interpolate values at the nodes to all samples (N, size * samples, size * samples, 2)."""
    margin = NODE_SPACING_PX * samples
    fine = F.interpolate(
        values.permute(0, 3, 1, 2), scale_factor=margin, mode='bilinear', align_corners=False
    )
    return fine[..., margin:-margin, margin:-margin].permute(0, 2, 3, 1)


def _bounds(uv: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of the image that the crops use; at least one pixel."""
    left, top = (int(x) for x in np.floor(uv.min((0, 1, 2))) - 1)
    right, bottom = (int(x) for x in np.ceil(uv.max((0, 1, 2))) + 2)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, max(min(right, width), left + 1), max(min(bottom, height), top + 1)
