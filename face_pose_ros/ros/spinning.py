# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Spins nodes until an interruption, and ends processes without a traceback."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from face_pose_ros.ros.declaring import PARAMETER_ERRORS

AnyNode = TypeVar('AnyNode', bound=Node)


class Executor(SingleThreadedExecutor):
    """An executor that tolerates publishers and subscriptions destroyed by other threads."""

    def wait_for_ready_callbacks(self, *args: Any, **kwargs: Any) -> Any:
        """See `rclpy.executors.Executor`."""
        while True:
            try:
                return super().wait_for_ready_callbacks(*args, **kwargs)
            except InvalidHandle:
                # rclpy (3.3 to 9.1 at least) handles a subscription that is destroyed while it
                # prepares to wait, but not event handlers, which publishers have too.
                continue


class Interruption:
    """A request to end the process, by a signal or by any thread.

    A `threading.Event` would not do: a handler that sets it while its thread is about to wait for
    it would wait for ever, and a main thread that waits for it sleeps on where the kernel gives
    the signal to another thread.
    """

    def __init__(self) -> None:
        """Not requested yet."""
        self._is_set = False
        self._waiting, self._waking = socket.socketpair()
        self._waking.setblocking(False)

    def on_signals(self) -> None:
        """Let SIGINT and SIGTERM request it from now on; the main thread must call this."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.set())
        # Written to whichever thread receives the signal; then the main thread calls the handler.
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)

    def set(self) -> None:
        """Request it."""
        self._is_set = True
        with contextlib.suppress(BlockingIOError):
            self._waking.send(b'\0')

    def is_set(self) -> bool:
        """Whether it is requested."""
        return self._is_set

    def wait(self) -> None:
        """Wait in the main thread until it is requested."""
        while not self._is_set:
            self._waiting.recv(1)


def init(args: list[str] | None, stop: Interruption | None = None) -> None:
    """Initialise rclpy; from now on Ctrl-C shuts its context down and raises no exception.

    KeyboardInterrupt could be raised anywhere; launch and the terminal send a second one, which
    would be raised during the shutdown.

    Args:
        args: Of the process; None: `sys.argv`.
        stop: Requested by SIGINT and SIGTERM, which then leave the context alone: what still runs
            ends without errors.

    Raises:
        SystemExit: An argument of ROS is malformed, the parameter file cannot be read, or there is
            no folder for logs; its text says which, in one line.
    """
    handled = SignalHandlerOptions.ALL
    if threading.current_thread() is threading.main_thread():  # else Python allows no handlers
        signal.signal(signal.SIGINT, lambda *_: None)  # rclpy's handler acts first, then calls it
        if stop is not None:
            handled = SignalHandlerOptions.NO
            stop.on_signals()
    try:
        rclpy.init(args=args, signal_handler_options=handled)
    except RuntimeError as error:  # rclpy's own have no public type
        text = ' '.join(str(error).split())
        text = re.sub(r', at /\S+:\d+', '', text)  # places in rcl's sources
        if text.startswith('['):  # rclpy gives only the arguments that ROS does not know
            text = f'unknown arguments {text}'
        if 'log directory' in text:
            text += '; set ROS_LOG_DIR to a folder in which this user may write'
        sys.exit(f'ROS cannot start: {text}')


def spin_until(stop: Interruption, executor: Executor) -> None:
    """Spin in another thread, because Python handles signals in the main thread, if that waits.

    Raises:
        Exception: Whatever a callback raised.
    """
    stopped: Future = Future(executor=executor)
    with ThreadPoolExecutor(1, thread_name_prefix='executor') as threads:
        spinning = threads.submit(executor.spin_until_future_complete, stopped)
        spinning.add_done_callback(lambda _: stop.set())
        stop.wait()
        stopped.set_result(None)
    spinning.result()


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Suppress the errors that an interruption causes while nodes are spinning."""
    try:
        yield
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RuntimeError:
        # rclpy's own, without a public type: the context ended just before it was used.
        if rclpy.ok():
            raise


def run(
    name: str,
    make_node: Callable[[], AnyNode],
    args: list[str] | None,
    errors: tuple[type[Exception], ...] = (),
    spin: Callable[[AnyNode], object] = rclpy.spin,
) -> AnyNode | None:
    """Make a node and spin it until an interruption; None if it came before.

    Errors of parameters, and those given, end the process with one line and status 1.
    """
    init(args)
    node = None
    with until_interrupted():
        try:
            node = make_node()
            spin(node)
        except PARAMETER_ERRORS + errors as error:
            rclpy.logging.get_logger(name).fatal(str(error))
            leave(1)
    return node


def leave(status: int, busy: bool = False) -> NoReturn:
    """End the process.

    Args:
        status: Its exit status.
        busy: Whether a thread still compiles or processes a frame. Then exit at once, without the
            interpreter's cleanup, which may crash.
    """
    if busy:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    rclpy.try_shutdown()
    if threading.current_thread() is threading.main_thread():
        # At its end the interpreter restores the default, which would be another exit status.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    sys.exit(status)
