# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The networks of the estimator, ready to run on a device."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from face_pose_ros.engines.network import Network

# auto: on a GPU CUDA graphs in half precision; on a CPU OpenVINO if it is installed, else torch.
ENGINES = ('auto', 'openvino', 'torch')
NETWORKS = ('head_detector', 'keypoint_network')  # names of their weights, as in `Networks`
_OPENVINO = 'face_pose_ros.engines.openvino'
_TORCH = 'face_pose_ros.engines.torch_engine'
_LOGGER = logging.getLogger(__name__)

Weights = Mapping[str, Path | str]


class Networks(NamedTuple):
    """Stateless networks of one device; estimators may share them."""

    device: str  # 'cpu', 'cuda' or 'cuda:<index>'
    # (N, 3, H, W) RGB in [0, 1] -> for each stride (N, 16, H // stride, W // stride)
    detector: Network
    keypoints: Network  # (N, 3, 128, 128) RGB in [0, 1] -> one output (N, 437)


def load_networks(
    device: str = 'auto',
    engine: str = 'auto',
    threads: int | None = None,
    weights: Weights | None = None,
    precision: str | None = None,
) -> Networks:
    """Load the networks.

    Args:
        device: 'auto' (CUDA if there are a GPU and a torch that can use it, else the CPU), 'cpu',
            'cuda' or 'cuda:<index>'.
        engine: One of ENGINES.
        threads: CPU threads of one call; None: one per core.
        weights: Files to use instead of packaged ones, by the packaged file's name.
        precision: 'f32'; None: on a GPU float16; on a CPU bfloat16 where it has that, and the
            detector in 8-bit integers where it has VNNI.

    Raises:
        ValueError: There is no such device, engine, precision or name of weights, or the number
            of threads is negative or not whole.
        ImportError: The engine is not installed.
        WeightsError: A weights file is missing, truncated, altered, or of another network.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine '{engine}' is not one of {', '.join(ENGINES)}")
    if precision not in (None, 'f32'):
        raise ValueError(f"precision '{precision}' is not f32")
    if threads is not None and not (threads >= 0 and threads % 1 == 0):
        raise ValueError(f'threads is {threads}, expected a whole number, or None for all cores')
    device, own = chosen_device(device), weights or {}
    for name in own:
        if name not in NETWORKS:
            raise ValueError(f"weights of '{name}', expected {', '.join(NETWORKS)}")
    make = _maker(device, engine, threads or core_count(), precision)
    # They are compiled side by side.
    with ThreadPoolExecutor(len(NETWORKS)) as executor:
        made = executor.map(lambda name: make(name, own=own.get(name)), NETWORKS)
        return Networks(device, *made)


def _maker(
    device: str, engine: str, threads: int, precision: str | None
) -> Callable[..., Network]:
    if device == 'cpu' and engine != 'torch':
        openvino = import_module(_OPENVINO) if engine == 'openvino' else _openvino_if_installed()
        if openvino is not None:
            return partial(openvino.OpenVinoNetwork, threads=threads, precision=precision)
    packaged = import_module(_TORCH).packaged
    return partial(
        packaged,
        device=device,
        graphs=engine == 'auto',
        half=precision is None,
        threads=threads,
    )


@cache
def _openvino_if_installed() -> ModuleType | None:
    """The engine; None, with one warning, if OpenVINO is missing."""
    if find_spec('openvino') is None:
        _LOGGER.warning(
            'OpenVINO is not installed: networks run in torch, which is slower '
            '(pip install openvino)'
        )
        return None
    return import_module(_OPENVINO)


def chosen_device(name: str) -> str:
    """The device of a name; 'auto' becomes 'cpu' without a GPU or without a torch that can use it.

    torch is not imported on machines without a GPU.

    Raises:
        ValueError: There is no such device, or torch cannot use it.
    """
    if name == 'cpu':
        return name
    gpus = gpu_count()
    present = ['auto', 'cpu', *(f'cuda:{i}' for i in range(gpus))]
    if name not in present and not (name == 'cuda' and gpus):
        raise ValueError(f"device '{name}' is not one of {', '.join(present)}")
    if not gpus:
        return 'cpu'
    missing = _missing_for_cuda()
    if missing and name == 'auto':
        _LOGGER.warning(f'There is a GPU, but {missing}: networks run on the CPU')
        return 'cpu'
    if missing:
        raise ValueError(f"device '{name}' can't be used: {missing}")
    return 'cuda' if name == 'auto' else name


def _missing_for_cuda() -> str:
    """Why torch cannot use a GPU, and the command that changes it; empty if it can."""
    remedy = '(pip install torch, see pytorch.org for the build of your CUDA version)'
    if find_spec('torch') is None:
        return f'torch is not installed {remedy}'
    torch = import_module('torch')
    return '' if torch.cuda.is_available() else f'torch {torch.__version__} cannot use it {remedy}'


@cache
def gpu_count() -> int:
    """Number of GPUs, from the CUDA driver."""
    try:
        driver = ctypes.CDLL('libcuda.so.1')
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def core_count() -> int:
    """Number of physical cores that this process may use."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f'/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list')
        cores.add(siblings.read_text() if siblings.is_file() else str(cpu))
    return len(cores)
