# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compiling in several processes: numba compiles one function at a time in each.

The first start after an installation or an update compiles everything. While the process that asks
for it loads networks and compiles what reads pictures, helpers compile the fit of poses and the
tracking and leave them in the cache.
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
# What helpers compile, the longest first -> a source of it, which tells whether that was done.
_PARTS = {
    'poses': _PACKAGE / 'pose' / 'fit.py',
    'tracking': _PACKAGE / 'tracking' / 'shape_memory.py',
}
_helpers: list[subprocess.Popen[bytes]] = []


def begin() -> None:
    """Start the helpers whose work is not in the cache, once in a process; returns at once."""
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
    """The command of a helper."""
    code = f'from face_pose_ros.first_start import help_with; help_with({part!r})'
    return [sys.executable, '-c', code]


def wait() -> None:
    """Until the helpers have ended. What one has not compiled is compiled when it is called."""
    for helper in _helpers:
        helper.wait()


def help_with(part: str) -> None:
    """What a helper does: run its part once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from face_pose_ros.engines.network import Network
    from face_pose_ros.engines.networks import Networks
    from face_pose_ros.estimator import FacePoseEstimator

    os.nice(5 * list(_PARTS).index(part))
    gc.set_threshold(20_000)  # numba makes millions of objects, of which few are garbage
    _PARTS.clear()  # a helper has none
    estimator = FacePoseEstimator(networks=Networks('cpu', Network(), Network()))
    {'poses': estimator._fit_mean_face, 'tracking': estimator._track_mean_face}[part]()


def _end_with_parent() -> None:
    """The parent's end of the pipe closes with it, however it ends."""
    sys.stdin.buffer.read()
    os._exit(1)
