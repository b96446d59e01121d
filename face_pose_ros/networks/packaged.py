# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks with the packaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from face_pose_ros.weights import Tensors, WeightsError, load_weights

Network = TypeVar('Network', bound=nn.Module)


def with_weights(
    network: Network, name: str, device: torch.device | str, own: Path | str | None = None
) -> Network:
    """The network with the tensors of a weights file, for inference only.

    Args:
        network: With parameters of any values.
        name: Of the packaged file. Those of our training have other arrays beside `network.*`.
        device: Where the network shall run.
        own: A file to read instead.

    Raises:
        WeightsError: As in `load_weights`; or one's own tensors do not fit.
    """
    return with_tensors(network, load_weights(name, own), device, own or name)


def with_tensors(
    network: Network, tensors: Tensors, device: torch.device | str, source: Path | str
) -> Network:
    """The same with tensors that were read before; the source is for messages."""
    prefix = 'network.'
    state = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
    try:
        network.load_state_dict({k: torch.tensor(x) for k, x in (state or tensors).items()})
    except RuntimeError as error:
        raise WeightsError(f'{source}: {" ".join(str(error).split())}') from error
    network.requires_grad_(False).eval()
    # torch's stubs lack this argument. Channels last is 1.5 to 2 times as fast on CPU.
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
