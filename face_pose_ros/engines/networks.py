"""The networks of the estimator, ready to run on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_ros.faces.blazeface import blazeface_full_range
from face_pose_ros.keypoints.face_mesh import FaceMeshPoints, face_mesh_v2


class Networks(NamedTuple):
    """What every estimator on a device may share: networks remember nothing."""

    device: torch.device
    # (N, 3, H, W) float RGB in [-1, 1] -> logits (N, C), regressions (N, C, 16)
    detector: Callable[[Tensor], tuple[Tensor, Tensor]]
    keypoints: Callable[[Tensor], FaceMeshPoints]  # (N, 3, 256, 256) float RGB in [0, 1]


def load_networks(name: str | torch.device) -> Networks:
    """Load the packaged networks.

    Args:
        name: Of the device: 'cpu', 'cuda' or 'cuda:<index>'.

    Raises:
        ValueError: There is no such device.
        WeightsError: A weights file is missing, truncated or altered.
    """
    device = _checked_device(name)
    return Networks(device, blazeface_full_range(device), face_mesh_v2(device))


def _checked_device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        present = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        raise ValueError(f"device '{name}' is not one of {', '.join(present)}") from error
    return device
