"""Ending a program on Ctrl-C without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.executors import ExternalShutdownException


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Whatever an interruption makes of the spinning within ends it in silence."""
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RuntimeError:
        # rclpy's own, of no public type: the context ended just before the executor used it.
        if rclpy.ok():
            raise
