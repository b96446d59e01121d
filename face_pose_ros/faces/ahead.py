"""Detection in the time between two images, so that no image is late for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from face_pose_ros.results import Faces


class _Pending(NamedTuple):
    stream: object
    stamp_s: float
    faces: Future[Faces]


class DetectionAhead:
    """One detection, begun after an image and asked for with the next one.

    The answer does not depend on how long it takes: whoever asks waits for it.
    """

    def __init__(self) -> None:
        """Nothing has begun yet."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix='detect')
        self._pending: _Pending | None = None

    def begin(self, detect: Callable[[], Faces], stream: object, stamp_s: float) -> None:
        """Run a detection in another thread.

        Args:
            detect: Returns the faces; it must not read the caller's image.
            stream: Whose image it is.
            stamp_s: Of the image [s].
        """
        self._pending = _Pending(stream, stamp_s, self._executor.submit(detect))

    def faces(self, stream: object, since_s: float, until_s: float) -> Faces | None:
        """The faces of the stream's last image, if they were asked for; but once.

        Args:
            stream: As given to `begin`.
            since_s: Stamp from which on faces can still be found where they were [s].
            until_s: Stamp of the present image [s].
        """
        pending = self.forget()
        if pending and pending.stream is stream and since_s <= pending.stamp_s <= until_s:
            return pending.faces.result()
        return None

    def forget(self) -> _Pending | None:
        """Drop the detection; returns what has begun, after it has ended."""
        pending, self._pending = self._pending, None
        if pending:
            pending.faces.exception()
        return pending
