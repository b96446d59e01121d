"""Networks in half precision, for GPUs."""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn


class HalfPrecision(nn.Module):
    """A network in float16, but for its heads; pictures and outputs are float32.

    The heads, layers named `*_head`, end in pixels up to 256, where float16 counts in eighths.
    """

    def __init__(self, network: nn.Module) -> None:
        """Copy a network that takes pictures and returns a tuple of tensors."""
        super().__init__()
        self.network = deepcopy(network).half()
        for name, layer in self.network.named_children():
            if name.endswith('_head'):
                layer.float().register_forward_pre_hook(_in_float)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """As the network does, (N, 3, H, W) float32 to float32."""
        return tuple(self.network(pictures.half()))


def _in_float(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return inputs[0].float()
