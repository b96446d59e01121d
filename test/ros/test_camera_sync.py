"""Pairing by equal stamp."""

import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS 2 wheels (make setup) or a distribution')

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.ros.camera_sync import CameraSync


@pytest.fixture
def sync():
    pairs, unpaired = [], []
    sync = CameraSync(lambda image, info: pairs.append((image, info)), unpaired.append)
    return sync, pairs, unpaired


def image(i):
    return Image(header=Header(stamp=Time(sec=7, nanosec=i)))


def info(i):
    return CameraInfo(header=Header(stamp=Time(sec=7, nanosec=i)))


@pytest.mark.parametrize('image_first', [True, False])
def test_equal_stamps_make_a_pair_in_either_order(sync, image_first):
    sync, pairs, _ = sync
    steps = [lambda: sync.add_image(image(3)), lambda: sync.add_info(info(3))]
    for step in steps if image_first else steps[::-1]:
        step()
    assert pairs == [(image(3), info(3))]


def test_a_nanosecond_apart_is_no_pair(sync):
    sync, pairs, _ = sync
    sync.add_image(image(3))
    sync.add_info(info(4))
    assert pairs == []


def test_late_infos_find_their_images(sync):
    sync, pairs, unpaired = sync
    for i in range(3):
        sync.add_image(image(i))
    for i in range(3):
        sync.add_info(info(i))
    assert [p[0].header.stamp.nanosec for p in pairs] == [0, 1, 2]
    assert unpaired == []


def test_an_overtaken_image_is_dropped(sync):
    sync, pairs, _ = sync
    for i in (1, 2):
        sync.add_image(image(i))
    for i in (2, 1):
        sync.add_info(info(i))
    assert [p[0].header.stamp.nanosec for p in pairs] == [2]


def test_images_without_info_are_reported_and_memory_stays_bounded(sync):
    sync, pairs, unpaired = sync
    for i in range(1000):
        sync.add_image(image(i))
    assert pairs == []
    assert len(unpaired) >= 990
    for i in range(2000, 3000):
        sync.add_info(info(i))
    sync.add_image(image(2000))  # its info has been forgotten
    assert pairs == []
