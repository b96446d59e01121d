"""Detection in the time between two images, so that no image is late for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch

from face_pose_ros.types import Faces


class _Pending(NamedTuple):
    stream: object
    stamp_s: float
    faces: Future[Faces]


class DetectionAhead:
    """One detection, begun after an image and asked for with the next one.

    The answer does not depend on how long it takes: whoever asks waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        """Nothing has begun yet.

        Args:
            device: Of the detector; on a GPU it gets a stream of its own, beside the keypoints'.
        """
        self._cuda_stream = torch.cuda.Stream(device) if device.type == 'cuda' else None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix='detect')
        self._pending: _Pending | None = None

    def begin(self, detect: Callable[[], Faces], stream: object, stamp_s: float) -> None:
        """Detect the faces of an image that will not change until they are asked for.

        Args:
            detect: Returns them.
            stream: Whose image it is.
            stamp_s: Of the image [s].
        """
        self._pending = _Pending(stream, stamp_s, self._executor.submit(self._aside, detect))

    def _aside(self, detect: Callable[[], Faces]) -> Faces:
        with torch.cuda.stream(self._cuda_stream):  # None changes nothing
            return detect()

    def faces(self, stream: object, since_s: float, until_s: float) -> Faces | None:
        """The faces of the stream's last image, if they were asked for; but once.

        Args:
            stream: As given to `begin`.
            since_s: Stamp from which on faces can still be found where they were [s].
            until_s: Stamp of the image at hand [s].
        """
        pending = self.forget()
        if pending and pending.stream is stream and since_s <= pending.stamp_s <= until_s:
            return pending.faces.result()
        return None

    def forget(self) -> _Pending | None:
        """Nobody will ask; returns what has begun, after it has ended."""
        pending, self._pending = self._pending, None
        if pending:
            pending.faces.exception()
        return pending
