"""Pairs each image with the CameraInfo of the same stamp, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

ImageMsg = TypeVar('ImageMsg', Image, CompressedImage)

# Either message may be ahead of its partner by a few frames on a busy machine.
_MEMORY = 4


class CameraSync(Generic[ImageMsg]):
    """Calls back with (image, info) as soon as both have arrived."""

    def __init__(
        self,
        on_pair: Callable[[ImageMsg, CameraInfo], None],
        on_unpaired: Callable[[ImageMsg], None],
    ) -> None:
        """Take what to do with pairs, and with images whose CameraInfo did not come in time."""
        self._on_pair = on_pair
        self._on_unpaired = on_unpaired
        self._images: OrderedDict[tuple[int, int], ImageMsg] = OrderedDict()
        self._infos: OrderedDict[tuple[int, int], CameraInfo] = OrderedDict()

    def add_image(self, msg: ImageMsg) -> None:
        """An image has arrived."""
        info = self._infos.pop(_key(msg.header.stamp), None)
        if info is not None:
            # The images before it have been overtaken; the newest frame wins.
            self._images.clear()
            self._on_pair(msg, info)
            return
        self._images[_key(msg.header.stamp)] = msg
        if len(self._images) > _MEMORY:
            self._on_unpaired(self._images.popitem(last=False)[1])

    def add_info(self, msg: CameraInfo) -> None:
        """A CameraInfo has arrived."""
        key = _key(msg.header.stamp)
        if key in self._images:
            # What arrived before this image has been overtaken by it.
            while True:
                oldest, image = self._images.popitem(last=False)
                if oldest == key:
                    break
            self._on_pair(image, msg)
            return
        self._infos[_key(msg.header.stamp)] = msg
        if len(self._infos) > _MEMORY:
            self._infos.popitem(last=False)


def _key(stamp: Time) -> tuple[int, int]:
    return stamp.sec, stamp.nanosec
