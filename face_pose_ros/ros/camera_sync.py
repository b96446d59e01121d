# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pairs each image with its CameraInfo, in bounded memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from face_pose_ros.ros import conversions

ImageMsg = TypeVar('ImageMsg', Image, CompressedImage)

# On a busy machine either message may be some frames ahead of its partner.
_MEMORY = 4
_INFO_MEMORY = 2 * _MEMORY  # kept longer than images, for images that are dropped late
_NEAR_NS = 1_000_000
_RECENT_S = 2.0  # an older CameraInfo belongs to none of the kept images


class CameraSync(Generic[ImageMsg]):
    """Calls back with (image, info) as soon as both have arrived.

    Both must have equal stamps. Some drivers stamp each message separately: if no stamps are
    equal but some differ by less than a millisecond, the nearest is used from then on.
    """

    def __init__(
        self,
        on_pair: Callable[[ImageMsg, CameraInfo], None],
        on_unpaired: Callable[[ImageMsg, str], None],
        on_nearest: Callable[[int], None] = lambda _: None,
        latched: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait for messages.

        Args:
            on_pair: Called with an image and its CameraInfo.
            on_unpaired: Called with an image without CameraInfo, and a text about the CameraInfos
                that arrived.
            on_nearest: Called when pairing by the nearest stamp starts, with the first difference,
                CameraInfo minus image [ns].
            latched: Whether the newest CameraInfo is used for every image, whatever its stamp.
            clock_s: Monotonic clock [s].
        """
        self._on_pair = on_pair
        self._on_unpaired = on_unpaired
        self._on_nearest = on_nearest
        self._latched = latched
        self._clock_s = clock_s
        self._images: OrderedDict[int, ImageMsg] = OrderedDict()  # by stamp [ns]
        self._infos: OrderedDict[int, CameraInfo] = OrderedDict()
        self._last_info_s: float | None = None
        self._any_equal = False
        self._by_nearest = False

    def add_image(self, msg: ImageMsg) -> None:
        """An image has arrived."""
        stamp_ns = conversions.stamp_ns(msg.header.stamp)
        self._images[stamp_ns] = msg
        if self._latched:
            if self._infos:
                self._pair(stamp_ns, next(iter(self._infos)))
                return
        else:
            info_ns = self._partner(stamp_ns, self._infos)
            if info_ns is not None:
                self._pair(stamp_ns, info_ns)
                return
        if len(self._images) > _MEMORY:
            self._drop_oldest()

    def add_info(self, msg: CameraInfo) -> None:
        """A CameraInfo has arrived."""
        stamp_ns = conversions.stamp_ns(msg.header.stamp)
        self._last_info_s = self._clock_s()
        if self._latched:
            self._infos = OrderedDict({stamp_ns: msg})
            if self._images:
                self._pair(next(reversed(self._images)), stamp_ns)
            return
        self._infos[stamp_ns] = msg
        image_ns = self._partner(stamp_ns, self._images)
        if image_ns is not None:
            self._pair(image_ns, stamp_ns)
        elif len(self._infos) > _INFO_MEMORY:
            self._infos.popitem(last=False)

    def _partner(self, stamp_ns: int, others: Collection[int]) -> int | None:
        if stamp_ns in others:
            self._any_equal = True
            return stamp_ns
        return _nearest_ns(stamp_ns, others) if self._by_nearest else None

    def _pair(self, image_ns: int, info_ns: int) -> None:
        # Older images are dropped: only the newest frame is processed.
        while True:
            oldest_ns, image = self._images.popitem(last=False)
            if oldest_ns == image_ns:
                break
        info = self._infos[info_ns] if self._latched else self._infos.pop(info_ns)
        self._on_pair(image, info)

    def _drop_oldest(self) -> None:
        for image_ns in () if self._any_equal else reversed(self._images):
            info_ns = _nearest_ns(image_ns, self._infos)
            if info_ns is not None:
                self._by_nearest = True
                self._on_nearest(info_ns - image_ns)
                self._pair(image_ns, info_ns)
                return
        stamp_ns, image = self._images.popitem(last=False)
        self._on_unpaired(image, self._arrived_text(stamp_ns))

    def _arrived_text(self, stamp_ns: int) -> str:
        """Text about the CameraInfos that arrived, for an unpaired image."""
        if self._last_info_s is None:
            return 'none has arrived'
        age_s = self._clock_s() - self._last_info_s
        if age_s > _RECENT_S or not self._infos:
            return f'the last one arrived {age_s:.0f} s ago'
        nearest_ns = min(self._infos, key=lambda info_ns: abs(info_ns - stamp_ns))
        return f'the nearest is {_apart(nearest_ns - stamp_ns)}'


def _nearest_ns(stamp_ns: int, others: Collection[int]) -> int | None:
    """The nearest stamp, if it differs by at most a millisecond."""
    near = [other_ns for other_ns in others if abs(other_ns - stamp_ns) <= _NEAR_NS]
    return min(near, key=lambda other_ns: abs(other_ns - stamp_ns), default=None)


def _apart(difference_ns: int) -> str:
    """A difference of stamps as text, such as '3 us later'."""
    size_ns = abs(difference_ns)
    units = {'s': 1e9, 'ms': 1e6, 'us': 1e3, 'ns': 1}
    unit, scale = next((u, s) for u, s in units.items() if size_ns >= s or u == 'ns')
    return f'{size_ns / scale:.4g} {unit} {"later" if difference_ns > 0 else "earlier"}'
