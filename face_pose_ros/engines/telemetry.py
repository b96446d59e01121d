# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Disables the telemetry of OpenVINO."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_SENDER = 'openvino_telemetry'


@contextmanager
def no_openvino_telemetry() -> Iterator[None]:
    """Within it, `import openvino` does not find `openvino_telemetry` and uses its own stub.

    Otherwise `import openvino` alone writes files in the home folder and sends an event to an
    analytics service (2026.4.1). Imports after this context are not affected.
    """
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    before = modules.get(_SENDER)
    modules[_SENDER] = None  # makes its import raise ModuleNotFoundError
    try:
        yield
    finally:
        if before is None:
            del modules[_SENDER]
        else:
            modules[_SENDER] = before
