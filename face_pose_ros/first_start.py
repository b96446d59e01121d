# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compiles in several processes at the first start: numba compiles one function at a time.

The first start after an installation or update compiles everything. While the main process loads
networks and compiles the image functions, helper processes compile the pose fit and the tracking
into the cache.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from face_pose_ros.geometry.jit import can_be_compiled_ahead

_PACKAGE = Path(__file__).parent
# Part that a helper compiles, the longest first -> a source file whose cache shows if it is done.
_PARTS = {
    'poses': _PACKAGE / 'pose' / 'fit.py',
    'tracking': _PACKAGE / 'tracking' / 'shape_memory.py',
}
_helpers: list[subprocess.Popen[bytes]] = []


def begin() -> None:
    """Start helpers for the parts that are not in the cache, once per process; does not wait."""
    if _helpers or len(os.sched_getaffinity(0)) == 1:
        return
    for part, source in _PARTS.items():
        if can_be_compiled_ahead(source):
            helper = subprocess.Popen(
                command(part),
                env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            _helpers.append(helper)


def command(part: str) -> list[str]:
    """Command line of the helper of a part."""
    code = f'from face_pose_ros.first_start import help_with; help_with({part!r})'
    return [sys.executable, '-c', code]


def wait() -> None:
    """Wait until the helpers have ended. Anything not in the cache then compiles on first call."""
    for helper in _helpers:
        helper.wait()


def help_with(part: str) -> None:
    """Run a part once; the work of a helper process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from face_pose_ros.engines.network import Network
    from face_pose_ros.engines.networks import Networks
    from face_pose_ros.estimator import FacePoseEstimator

    os.nice(5 * list(_PARTS).index(part))
    gc.set_threshold(20_000)  # numba makes millions of objects, few of them garbage
    _PARTS.clear()  # a helper starts no helpers
    estimator = FacePoseEstimator(networks=Networks('cpu', Network(), Network()))
    {'poses': estimator._fit_mean_face, 'tracking': estimator._track_mean_face}[part]()


def _end_with_parent() -> None:
    """End this process when the parent ends, which closes the pipe."""
    sys.stdin.buffer.read()
    os._exit(1)
