"""Networks on CUDA as graphs of fixed batch sizes: one launch for a hundred kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

Outputs = TypeVar('Outputs')
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
_WARM_UPS = 3  # calls before a capture, as PyTorch asks for: they choose and load kernels


class Graph(NamedTuple):
    """A network whose memory does not move."""

    pictures: Tensor  # written before a replay
    outputs: tuple[Tensor, ...]  # read after it, before the next one
    replay: Callable[[], None]


class GraphedNetwork(Generic[Outputs]):
    """A network, captured for every picture size at the batch sizes that are asked for.

    A batch is filled up to the next size with pictures that are not looked at; a larger one than
    the largest size is cut.
    """

    def __init__(
        self,
        network: nn.Module,
        make_outputs: Callable[[tuple[Tensor, ...]], Outputs],
        capture: Callable[[nn.Module, Tensor], Graph] | None = None,
    ) -> None:
        """Take a network.

        Args:
            network: Takes pictures (N, 3, H, W), returns tensors of N rows each.
            make_outputs: What to return of these tensors.
            capture: Makes a graph for pictures of this shape; None is `capture_on_cuda`.
        """
        self._network = network
        self._make_outputs = make_outputs
        self._capture = capture or capture_on_cuda
        self._graphs: dict[torch.Size, Graph] = {}

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> Outputs:
        """The network's outputs for pictures (N, 3, H, W) float32, N >= 1."""
        parts = [self._replayed(part) for part in pictures.split(BATCH_SIZES[-1])]
        return self._make_outputs(tuple(torch.cat(part) for part in zip(*parts, strict=True)))

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


def capture_on_cuda(network: nn.Module, pictures: Tensor) -> Graph:
    """The network's kernels for pictures in this memory (pytorch.org, "CUDA semantics")."""
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    stream = torch.cuda.Stream(pictures.device)
    stream.wait_stream(torch.cuda.current_stream(pictures.device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            network(pictures)
    torch.cuda.current_stream(pictures.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Other cameras' threads may use the device meanwhile. The stream says which device it is.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
        outputs = network(pictures)
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    return Graph(pictures, outputs, graph.replay)
