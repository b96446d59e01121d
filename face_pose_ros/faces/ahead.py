# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Finds new faces between two images, so that the next one is not delayed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar('T')


class _Pending(NamedTuple):
    stream: object
    stamp_s: float
    found: Future


class DetectionAhead(Generic[T]):
    """A detection that is started after an image and collected with the next one.

    The result does not depend on its duration: `result` waits for it.
    """

    def __init__(self) -> None:
        """No detection is running."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix='detect')
        self._pending: _Pending | None = None

    def copy(self, image: NDArray[np.uint8]) -> Future[NDArray[np.uint8]]:
        """Copy an image in the other thread."""
        return self._executor.submit(image.copy)

    def begin(self, detect: Callable[[], T], stream: object, stamp_s: float) -> None:
        """Run a detection in another thread.

        Args:
            detect: Returns what it found; it must not read the caller's image.
            stream: The image stream.
            stamp_s: Of the image [s].
        """
        self._pending = _Pending(stream, stamp_s, self._executor.submit(detect))

    def result(self, stream: object, since_s: float, until_s: float) -> T | None:
        """What was found in the stream's last image, if a detection was started; returned once.

        Args:
            stream: As given to `begin`.
            since_s: Detections of images before this stamp are too old to use [s].
            until_s: Stamp of the present image [s].
        """
        pending = self._pending
        if pending and pending.stream is stream and since_s <= pending.stamp_s <= until_s:
            self._pending = None
            return pending.found.result()
        self.forget()
        return None

    def forget(self) -> None:
        """Drop the detection; returns after it has ended."""
        pending, self._pending = self._pending, None
        if pending:
            pending.found.exception()
