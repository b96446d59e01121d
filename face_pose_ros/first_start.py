"""Compiling in several processes: numba compiles one function at a time in each.

The first start after an installation or an update compiles everything. While the process that asks
for it loads networks and compiles what reads pictures, helpers compile the fit of poses and the
tracking and leave them in the cache.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from face_pose_ros.geometry.jit import can_be_compiled_ahead

_PACKAGE = Path(__file__).parent
# Helper -> a source of what it compiles, which tells whether it has run.
_HELPERS = {
    'poses': _PACKAGE / 'pose' / 'fit.py',
    'tracking': _PACKAGE / 'tracking' / 'shape_memory.py',
}
_running: list[subprocess.Popen[bytes]] = []


def begin() -> None:
    """Start the helpers whose work is not in the cache; returns at once."""
    if _running or len(os.sched_getaffinity(0)) == 1:
        return
    for name, source in _HELPERS.items():
        if can_be_compiled_ahead(source):
            helper = subprocess.Popen(
                command(name),
                env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            _running.append(helper)


def command(name: str) -> list[str]:
    """The command of a helper."""
    code = f'from face_pose_ros.first_start import help_with; help_with({name!r})'
    return [sys.executable, '-c', code]


def wait() -> None:
    """Until the helpers have ended. What one has not compiled is compiled when it is called."""
    while _running:
        _running[-1].wait()
        _running.pop()


def help_with(name: str) -> None:
    """What a helper does: run its part once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from face_pose_ros.engines.network import Network
    from face_pose_ros.engines.networks import Networks
    from face_pose_ros.estimator import FacePoseEstimator

    _HELPERS.clear()  # a helper has none
    estimator = FacePoseEstimator(networks=Networks('cpu', Network(), Network()))
    {'poses': estimator._fit_mean_face, 'tracking': estimator._track_mean_face}[name]()


def _end_with_parent() -> None:
    """The parent's end of the pipe closes with it, however it ends."""
    sys.stdin.buffer.read()
    os._exit(1)
