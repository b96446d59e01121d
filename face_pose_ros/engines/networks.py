# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The networks of the estimator, ready to run on a device."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from face_pose_ros.engines.network import Network
from face_pose_ros.weights import GRAPHS_SHA256

# How networks run. auto: CUDA graphs in half precision, or OpenVINO on a CPU if it is installed,
# else torch.
ENGINES = ('auto', 'openvino', 'torch')
_OPENVINO = 'face_pose_ros.engines.openvino'
_TORCH = 'face_pose_ros.engines.torch_engine'
_LOGGER = logging.getLogger(__name__)

Weights = Mapping[str, Path | str]


class SingleShotNetworks(NamedTuple):
    """Both stages of the single-shot detector."""

    # (N, 3, H, W) RGB in [0, 1] -> for each stride (N, 10, H / stride, W / stride)
    cells: Network
    regions: Network  # (N, 3, 64, 64) RGB in [0, 1] -> one output (N, 16)


class Networks(NamedTuple):
    """Stateless networks of one device, which estimators may share."""

    device: str  # 'cpu', 'cuda' or 'cuda:<index>'
    # (N, 3, H, W) RGB in [-1, 1] -> logits (N, C), regressions (N, C, 16)
    detector: Network
    keypoints: Network  # (N, 3, 128, 128) RGB in [0, 1] -> one output (N, 437)
    single_shot: SingleShotNetworks | None = None  # see `load_single_shot`


def load_networks(
    device: str = 'auto',
    engine: str = 'auto',
    threads: int | None = None,
    weights: Weights | None = None,
    precision: str | None = None,
) -> Networks:
    """Load all networks but those of the single-shot detector.

    Args:
        device: 'auto' (CUDA if there is a GPU and a torch for it, else the CPU), 'cpu', 'cuda' or
            'cuda:<index>'.
        engine: One of ENGINES.
        threads: CPU threads of one call; None: one for each core.
        weights: Files to use instead of packaged ones, by the packaged file's name.
        precision: 'f32'; None: on a CPU bfloat16 where it has that, on a GPU float16, for the
            networks that are as accurate in it.

    Raises:
        ValueError: There is no such device, engine, precision or name of weights.
        ImportError: The engine asked for is not installed, or none is.
        WeightsError: A weights file is missing, truncated or altered; or one's own is of another
            network.
    """
    names = ('blazeface_full_range', 'keypoint_network')
    return Networks(*_load(names, device, engine, threads, weights, precision))


def load_single_shot(
    device: str = 'auto',
    engine: str = 'auto',
    threads: int | None = None,
    weights: Weights | None = None,
) -> SingleShotNetworks:
    """The single-shot detector's networks; arguments and errors as in `load_networks`."""
    _, *networks = _load(('single_shot', 'region_pose'), device, engine, threads, weights)
    return SingleShotNetworks(*networks)


def _load(
    names: Sequence[str],
    device: str,
    engine: str,
    threads: int | None,
    weights: Weights | None,
    precision: str | None = None,
) -> tuple:
    """The device, and the networks of these names."""
    if engine not in ENGINES:
        raise ValueError(f"engine '{engine}' is not one of {', '.join(ENGINES)}")
    if precision not in (None, 'f32'):
        raise ValueError(f"precision '{precision}' is not f32")
    device, own = chosen_device(device), weights or {}
    for name in own:
        if name not in GRAPHS_SHA256:
            raise ValueError(f"weights of '{name}', expected {', '.join(GRAPHS_SHA256)}")
    make = _maker(device, engine, threads or core_count(), precision)
    # They are compiled side by side.
    with ThreadPoolExecutor(len(names)) as executor:
        return device, *executor.map(lambda name: make(name, own=own.get(name)), names)


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
    """The engine, or None, which is logged once."""
    if find_spec('openvino') is None:
        _LOGGER.warning(
            'OpenVINO is not installed: networks run in torch, which is slower '
            '(pip install openvino)'
        )
        return None
    return import_module(_OPENVINO)


def chosen_device(name: str) -> str:
    """The device of that name; 'auto' is the CPU where there is no GPU, or no torch for it.

    A machine without a GPU does not import torch for it.

    Raises:
        ValueError: There is no such device, or no torch for it.
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
    """What torch lacks to use a GPU, and the command that adds it; empty if nothing."""
    remedy = '(pip install torch, see pytorch.org for the build of your CUDA version)'
    if find_spec('torch') is None:
        return f'torch is not installed {remedy}'
    torch = import_module('torch')
    return '' if torch.cuda.is_available() else f'torch {torch.__version__} cannot use it {remedy}'


@cache
def gpu_count() -> int:
    """How many GPUs CUDA's driver tells of."""
    try:
        driver = ctypes.CDLL('libcuda.so.1')
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def core_count() -> int:
    """Cores that this process may use; two hyperthreads are one."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f'/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list')
        cores.add(siblings.read_text() if siblings.is_file() else str(cpu))
    return len(cores)
