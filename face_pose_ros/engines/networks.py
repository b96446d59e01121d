"""The networks of the estimator, ready to run on a device."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from importlib import import_module
from operator import itemgetter
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_ros.engines.cuda import GraphedNetwork
from face_pose_ros.engines.half import HalfPrecision
from face_pose_ros.networks.blazeface import blazeface_full_range
from face_pose_ros.networks.face_mesh import FaceMeshPoints, face_mesh_v2
from face_pose_ros.networks.hourglass import packaged_hourglass
from face_pose_ros.networks.region_pose import packaged_region_pose
from face_pose_ros.networks.single_shot import packaged_single_shot

# How networks run. auto: CUDA graphs in half precision, or OpenVINO on a CPU if it is installed,
# else torch.
ENGINES = ('auto', 'openvino', 'torch')
_OPENVINO = 'face_pose_ros.engines.openvino'


class SingleShotNetworks(NamedTuple):
    """Both looks of the single-shot detector."""

    cells: Callable[[Tensor], tuple[Tensor, ...]]  # (N, 3, H, W) float RGB in [0, 1]
    regions: Callable[[Tensor], Tensor]  # (N, 3, 64, 64) float RGB in [0, 1] -> (N, 16)


class Networks(NamedTuple):
    """What every estimator on a device may share: networks remember nothing."""

    device: torch.device
    # (N, 3, H, W) float RGB in [-1, 1] -> logits (N, C), regressions (N, C, 16)
    detector: Callable[[Tensor], tuple[Tensor, Tensor]]
    keypoints: Callable[[Tensor], FaceMeshPoints]  # (N, 3, 256, 256) float RGB in [0, 1]
    # (N, 3, 128, 128) float RGB in [0, 1] -> (N, 436) for `read_packaged`
    hourglass: Callable[[Tensor], Tensor]
    single_shot: SingleShotNetworks | None = None  # few ask for it, see `load_single_shot`


def load_networks(name: str | torch.device = 'auto', engine: str = 'auto') -> Networks:
    """Load the packaged networks but `single_shot`, to run on as many threads as torch does now.

    Args:
        name: Of the device: 'auto' (CUDA if there is one, else the CPU), 'cpu', 'cuda' or
            'cuda:<index>'.
        engine: One of ENGINES.

    Raises:
        ValueError: There is no such device, or no such engine.
        ImportError: The engine is 'openvino', which is not installed.
        WeightsError: A weights file is missing, truncated or altered.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine '{engine}' is not one of {', '.join(ENGINES)}")
    device = _checked_device(name)
    detector, keypoints = blazeface_full_range(device), face_mesh_v2(device)
    hourglass = packaged_hourglass(device)
    threads = torch.get_num_threads()
    if device.type != 'cpu' and engine == 'auto':
        return Networks(
            device,
            GraphedNetwork(HalfPrecision(detector), _as_pair),
            GraphedNetwork(HalfPrecision(keypoints), FaceMeshPoints._make),
            # Not measured in half precision.
            GraphedNetwork(hourglass, itemgetter(0)),
        )
    if device.type != 'cpu' or engine == 'torch':
        return Networks(device, detector, keypoints, hourglass)
    openvino = import_module(_OPENVINO) if engine == 'openvino' else _openvino_if_installed()
    if openvino is None:
        return Networks(device, detector, keypoints, hourglass)
    return Networks(
        device,
        openvino.openvino_blazeface(detector, threads),
        openvino.openvino_face_mesh(keypoints, threads),
        openvino.openvino_hourglass(hourglass, threads),
    )


def load_single_shot(
    name: str | torch.device = 'auto', engine: str = 'auto'
) -> SingleShotNetworks:
    """The single-shot detector; arguments and errors as in `load_networks`."""
    if engine not in ENGINES:
        raise ValueError(f"engine '{engine}' is not one of {', '.join(ENGINES)}")
    device = _checked_device(name)
    cells, regions = packaged_single_shot(device), packaged_region_pose(device)
    if device.type != 'cpu' and engine == 'auto':
        return SingleShotNetworks(
            GraphedNetwork(cells, tuple), GraphedNetwork(regions, itemgetter(0))
        )
    if device.type != 'cpu' or engine == 'torch':
        return SingleShotNetworks(cells, regions)
    openvino = import_module(_OPENVINO) if engine == 'openvino' else _openvino_if_installed()
    if openvino is None:
        return SingleShotNetworks(cells, regions)
    threads = torch.get_num_threads()
    return SingleShotNetworks(
        openvino.openvino_single_shot(cells, threads),
        openvino.openvino_region_pose(regions, threads),
    )


def _as_pair(outputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    logits, regressions = outputs
    return logits, regressions


@cache
def _openvino_if_installed() -> ModuleType | None:
    """The engine, or None, which is said once."""
    try:
        return import_module(_OPENVINO)
    except ImportError:
        logging.getLogger(__name__).warning(
            'OpenVINO is not installed: networks run in torch, which is slower '
            '(pip install openvino)'
        )
        return None


def _checked_device(name: str | torch.device) -> torch.device:
    if name == 'auto':
        name = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        present = ['auto', 'cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        raise ValueError(f"device '{name}' is not one of {', '.join(present)}") from error
    return device
