# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A thread that processes the newest frame."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Frame = TypeVar('Frame')


class FrameWorker(Generic[Frame]):
    """Calls a function with one frame after the other; a newer frame replaces a waiting one.

    There is no queue, and `put` never waits for the function.
    """

    def __init__(
        self, work: Callable[[Frame], None], on_overtaken: Callable[[Frame], None]
    ) -> None:
        """Start the thread.

        Args:
            work: Processes a frame; must not raise.
            on_overtaken: Called with each replaced frame, on the thread of `put`.
        """
        self._work = work
        self._on_overtaken = on_overtaken
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='face_pose', daemon=True)
        self._thread.start()

    def put(self, frame: Frame) -> None:
        """Process this frame next."""
        with self._changed:
            overtaken, self._newest = self._newest, frame
            self._changed.notify()
        if overtaken is not None:
            self._on_overtaken(overtaken)

    def stop(self, timeout_s: float | None = None) -> bool:
        """End the thread after the current frame.

        Args:
            timeout_s: Longest wait for that frame [s]; None: no limit.

        Returns:
            Whether the thread has ended.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._newest is not None)
                if self._stopping:
                    return
                frame, self._newest = self._newest, None
            assert frame is not None
            self._work(frame)
