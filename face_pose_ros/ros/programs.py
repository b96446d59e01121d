# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The executables: each runs a module's main; Ctrl-C is silent during the imports too.

Without a workspace: `python -m face_pose_ros.ros.programs pose_node --ros-args ...`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from functools import partial
from importlib import import_module

_M_ARENA_MAX = -8  # of glibc's malloc.h


def _run(module: str) -> None:
    # One heap per thread would use 13 MB more.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    # The arrays are small, and BLAS threads busy-wait for 25 ms after each product.
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
    # Imports take seconds, and there is nothing to clean up yet.
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    import_module(f'face_pose_ros.ros.{module}').main()


pose_node = partial(_run, 'node')
multi_camera = partial(_run, 'multi_camera')
demo_camera = partial(_run, 'demo.demo_camera')
demo_checker = partial(_run, 'demo.checker')
demo_recorder = partial(_run, 'demo.recorder')
look_at = partial(_run, 'consumers.look_at')
who_looks = partial(_run, 'consumers.who_looks')
face_pose_view = partial(_run, 'view.view_node')

if __name__ == '__main__':
    globals()[sys.argv.pop(1)]()
