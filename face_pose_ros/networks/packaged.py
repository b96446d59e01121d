"""Networks with the packaged weights."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from face_pose_ros.weights import load_weights

Network = TypeVar('Network', bound=nn.Module)


def with_weights(network: Network, name: str, device: torch.device | str) -> Network:
    """The network with the tensors of a packaged file, for inference only.

    A file of our own training has other arrays beside those named `network.*`.

    Raises:
        WeightsError: As in `load_weights`.
    """
    tensors, prefix = load_weights(name), 'network.'
    own = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
    network.load_state_dict(own or tensors)
    network.requires_grad_(False).eval()
    # torch's stubs lack this argument. Channels last is 1.5 to 2 times as fast on CPU.
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
