"""One thread that works on the newest frame there is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Frame = TypeVar('Frame')


class FrameWorker(Generic[Frame]):
    """Hands frames to a function, one after the other; a newer frame replaces one that waits.

    Nothing queues, and whoever puts a frame never waits for the work.
    """

    def __init__(
        self, work: Callable[[Frame], None], on_overtaken: Callable[[Frame], None]
    ) -> None:
        """Start the thread.

        Args:
            work: What to do with a frame; must not raise.
            on_overtaken: Told of each frame that was replaced, on the thread that put it.
        """
        self._work = work
        self._on_overtaken = on_overtaken
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='face_pose', daemon=True)
        self._thread.start()

    def put(self, frame: Frame) -> None:
        """Take this frame next."""
        with self._changed:
            overtaken, self._newest = self._newest, frame
            self._changed.notify()
        if overtaken is not None:
            self._on_overtaken(overtaken)

    def stop(self, timeout_s: float | None = None) -> bool:
        """End the thread after the frame in work, if there is one.

        Args:
            timeout_s: How long to wait for that frame [s]; None: as long as it takes.

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
