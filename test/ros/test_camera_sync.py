# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pairing by equal stamp, by the nearest, and with a latched CameraInfo."""

import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.ros.camera_sync import CameraSync

PERIOD_NS = 33_000_000


class Synced:
    """A CameraSync, its callbacks, and a clock to set."""

    def __init__(self, **kwargs):
        self.pairs, self.unpaired, self.nearest_ns, self.now_s = [], [], [], 5.0
        self.sync = CameraSync(
            lambda image, info: self.pairs.append((number(image), number(info))),
            lambda image, came: self.unpaired.append((number(image), came)),
            self.nearest_ns.append,
            clock_s=lambda: self.now_s,
            **kwargs,
        )
        self.add_image, self.add_info = self.sync.add_image, self.sync.add_info


@pytest.fixture
def sync():
    return Synced()


def header(i, off_ns=0):
    ns = i * PERIOD_NS + off_ns
    return Header(stamp=Time(sec=7 + ns // 10**9, nanosec=ns % 10**9))


def image(i, off_ns=0):
    return Image(header=header(i, off_ns))


def info(i, off_ns=0):
    return CameraInfo(header=header(i, off_ns))


def number(msg):
    ns = (msg.header.stamp.sec - 7) * 10**9 + msg.header.stamp.nanosec
    return round(ns / PERIOD_NS)


@pytest.mark.parametrize('image_first', [True, False])
def test_equal_stamps_make_a_pair_in_either_order(sync, image_first):
    steps = [lambda: sync.add_image(image(3)), lambda: sync.add_info(info(3))]
    for step in steps if image_first else steps[::-1]:
        step()
    assert sync.pairs == [(3, 3)]


def test_a_nanosecond_apart_is_no_pair(sync):
    sync.add_image(image(3))
    sync.add_info(info(3, 1))
    assert sync.pairs == []


def test_late_infos_find_their_images(sync):
    for i in range(3):
        sync.add_image(image(i))
    for i in range(3):
        sync.add_info(info(i))
    assert sync.pairs == [(0, 0), (1, 1), (2, 2)]
    assert sync.unpaired == []


def test_an_overtaken_image_is_dropped(sync):
    for i in (1, 2):
        sync.add_image(image(i))
    for i in (2, 1):
        sync.add_info(info(i))
    assert sync.pairs == [(2, 2)]


def test_images_without_info_are_reported_and_memory_stays_bounded(sync):
    for i in range(1000):
        sync.add_image(image(i))
    assert sync.pairs == []
    assert len(sync.unpaired) >= 990
    for i in range(2000, 3000):
        sync.add_info(info(i))
    sync.add_image(image(2000))  # its info has been dropped
    assert sync.pairs == []


@pytest.mark.parametrize('image_first', [True, False])
@pytest.mark.parametrize('off_ns', [-999_000, -1, 300, 999_000])
def test_stamps_that_are_never_equal_but_near_are_paired_by_the_nearest(sync, image_first, off_ns):
    for i in range(12):
        steps = [lambda i=i: sync.add_image(image(i)), lambda i=i: sync.add_info(info(i, off_ns))]
        for step in steps if image_first else steps[::-1]:
            step()
    # From the first image on that would have been given up, each at once.
    assert sync.pairs[-8:] == [(i, i) for i in range(4, 12)]
    assert all(i == j for i, j in sync.pairs)
    assert sync.unpaired == []
    assert sync.nearest_ns == [off_ns]  # reported once


@pytest.mark.parametrize('off_ns', [1_100_000, -16_000_000])
def test_stamps_further_than_a_millisecond_apart_are_no_pair(sync, off_ns):
    for i in range(12):
        sync.add_info(info(i, off_ns))
        sync.add_image(image(i))
    assert sync.pairs == []
    assert sync.nearest_ns == []


def test_where_stamps_are_equal_a_near_one_is_another_images(sync):
    sync.add_info(info(0))
    sync.add_image(image(0))
    for i in range(1, 12):
        sync.add_image(image(i))
        sync.add_info(info(i, 3000))
    assert sync.pairs == [(0, 0)]
    assert sync.unpaired[-1][1] == 'the nearest is 3 us later'


def test_the_warning_for_an_image_without_info_names_what_arrived(sync):
    def last_of(images):
        for i in images:
            sync.add_image(image(i))
        return sync.unpaired[-1][1]

    assert last_of(range(5)) == 'none has arrived'
    sync.add_info(info(8, -12_000_000))
    assert last_of(range(5, 13)) == 'the nearest is 12 ms earlier'
    sync.now_s += 12.3
    assert last_of([13]) == 'the last one arrived 12 s ago'


@pytest.mark.parametrize('image_first', [True, False])
def test_a_latched_info_holds_for_every_image_until_the_next(image_first):
    sync = Synced(latched=True)
    steps = [lambda: sync.add_image(image(900)), lambda: sync.add_info(info(3))]
    for step in steps if image_first else steps[::-1]:
        step()
    sync.add_image(image(901))
    sync.add_info(info(4))
    sync.add_image(image(902))
    assert sync.pairs == [(900, 3), (901, 3), (902, 4)]
