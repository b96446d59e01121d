# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks shared by several cameras: simultaneous calls run as one batch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.engines.network import Network, Outputs, Pictures
from face_pose_ros.engines.networks import Networks, load_networks
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops

if TYPE_CHECKING:
    from face_pose_ros.tracking.tracker import Tracker

# Detections of frames that begin within this time delay each other; below the period at 60 Hz [s].
_SAME_MOMENT_S = 0.012
_FAILED = 'the batch with this frame failed'


@dataclass
class _Call:
    """The call of one thread and its result."""

    pictures: Pictures  # (N, ...)
    outputs: Outputs = ()
    error: BaseException | None = None
    done: bool = False


class SharedNetworks:
    """The networks of one device, for estimators that run in a thread each.

    A call waits for other cameras whose frames began within `window_s` of its own frame and that
    have not called yet; at most `window_s`. Cameras that are not synchronised do not wait.
    """

    def __init__(self, window_s: float = 0.005) -> None:
        """Load nothing yet.

        Args:
            window_s: Frames that begin within this time run as one batch [s].
        """
        self._window_s = window_s
        self._changed = threading.Condition()
        self._begun_s: dict[int, float] = {}  # thread -> begin of its frame
        # Of each camera, the begin of the last frame with a detection.
        self._detected_s: WeakKeyDictionary[Tracker, float] = WeakKeyDictionary()
        self._calling: set[int] = set()  # threads within a call
        self._device: str | None = None
        self._networks: Networks | None = None
        self._damaged = False
        self._detector = _Batched(self, lambda networks: networks.detector)
        self._keypoints = _Batched(self, lambda networks: networks.keypoints)

    def load(self, device: str, threads: int | None = None) -> Networks:
        """The networks for one more estimator, loaded again if they failed.

        Args:
            device: As in `load_networks`, and for all estimators the same.
            threads: As in `load_networks`; that of the first estimator counts.

        Raises:
            ValueError: There is no such device, or the other estimators use another one.
            WeightsError: See `load_networks`.
        """
        with self._changed:
            if self._device not in (None, device):
                raise ValueError(
                    f"device is '{device}', expected '{self._device}' as for the other cameras "
                    'that share the networks'
                )
            # What fails for one camera is loaded again for all.
            if self._networks is None or self._damaged:
                self._networks = load_networks(device, threads=threads)
                self._device = device
                self._damaged = False
            return Networks(self._networks.device, self._detector, self._keypoints)

    @contextmanager
    def frame(self, tracker: Tracker | None = None) -> Iterator[None]:
        """Context of the processing of one frame, in the thread that processes it.

        Args:
            tracker: The camera's. Cameras that detect at the same moment would wait for all these
                detections together: from then on some detect an image or more earlier.
        """
        thread, begin_s = threading.get_ident(), time.monotonic()
        with self._changed:
            self._begun_s[thread] = begin_s
        try:
            yield
        finally:
            with self._changed:
                del self._begun_s[thread]
                self._changed.notify_all()
                if tracker and tracker.ids and tracker.images_since_detection == 0:
                    self._spread(tracker, begin_s)

    def _spread(self, tracker: Tracker, begin_s: float) -> None:
        """Bring the camera's next detection forward, if others had theirs at the same moment."""
        self._detected_s.pop(tracker, None)
        before = sum(abs(t - begin_s) < _SAME_MOMENT_S for t in self._detected_s.values())
        self._detected_s[tracker] = begin_s
        # The image after a detection is too early to start the next one.
        turns = tracker.options.detect_every - 1
        if turns > 0:
            cameras_per_turn = math.ceil(len(self._detected_s) / turns)
            tracker.images_since_detection = before // cameras_per_turn % turns


class _Batched(Network):
    """One network; the thread that calls first runs it for all."""

    def __init__(self, shared: SharedNetworks, network_of: Callable[[Networks], Network]) -> None:
        self._shared = shared
        self._network_of = network_of
        self._calls: dict[int, _Call] = {}  # thread -> its call
        self._is_led = False

    def render(
        self, image: NDArray[np.uint8], crops: Crops, camera: Camera, shrink: int = 1
    ) -> Pictures:
        """Render crops, see `Network.render`."""
        return self._network().render(image, crops, camera, shrink)

    def __call__(self, pictures: Pictures) -> Outputs:
        """The network's outputs for these pictures (N, ...)."""
        call, changed, thread = _Call(pictures), self._shared._changed, threading.get_ident()
        with changed:
            self._calls[thread] = call
            self._shared._calling.add(thread)
            changed.notify_all()
            changed.wait_for(lambda: call.done or not self._is_led)
            if not call.done:
                self._is_led = True
                self._lead(call)
            self._shared._calling.remove(thread)
        if call.error is not None:
            raise RuntimeError(_FAILED) from call.error
        return call.outputs

    def _lead(self, first: _Call) -> None:
        """Run the network for all calls with pictures of the same size; the lock is held."""
        shared = self._shared
        shared._changed.wait_for(self._all_have_called, shared._window_s)
        shape = first.pictures.shape[1:]
        together = {t: c for t, c in self._calls.items() if c.pictures.shape[1:] == shape}
        for thread in together:
            del self._calls[thread]
        network = self._network()
        shared._changed.release()
        try:
            _run(network, list(together.values()))
        finally:
            shared._changed.acquire()
            shared._damaged |= first.error is not None
            self._is_led = False
            shared._changed.notify_all()

    def _network(self) -> Network:
        assert self._shared._networks is not None
        return self._network_of(self._shared._networks)

    def _all_have_called(self) -> bool:
        """Whether all threads whose frames began with this thread's frame wait in a call."""
        shared = self._shared
        mine_s = shared._begun_s.get(threading.get_ident(), -math.inf)
        return all(
            thread in shared._calling or abs(other_s - mine_s) > shared._window_s
            for thread, other_s in shared._begun_s.items()
        )


def _run(network: Network, calls: list[_Call]) -> None:
    """Run the network once; each call gets its rows or the error."""
    try:
        if len(calls) == 1:
            calls[0].outputs = network(calls[0].pictures)
        else:
            outputs = network(network.join([call.pictures for call in calls]))
            ends = np.cumsum([len(call.pictures) for call in calls])[:-1]
            parts = zip(*(np.split(output, ends) for output in outputs), strict=True)
            for call, part in zip(calls, parts, strict=True):
                call.outputs = part
    # Every camera must get the error, whatever it is.
    except BaseException as error:
        for call in calls:
            call.error = error
    finally:
        for call in calls:
            call.done = True
