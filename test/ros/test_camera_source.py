# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Webcams, videos and folders as pictures one after the other."""

import struct
import time
from itertools import islice

import cv2
import numpy as np
import pytest
from helpers.exif import with_orientation

from face_pose_ros.ros.demo.source import SourceError, open_source

WIDTH, HEIGHT = 96, 64


def rgb_of(level: int) -> np.ndarray:
    """A picture whose three channels differ; its red tells which one it is."""
    return np.full((HEIGHT, WIDTH, 3), (level, 90, 200), np.uint8)


def write_image(path, rgb: np.ndarray) -> None:
    assert cv2.imwrite(str(path), rgb[..., ::-1])


def reds(pictures) -> list[int]:
    return [int(picture.rgb[0, 0, 0]) for picture in pictures]


@pytest.fixture
def folder(tmp_path):
    """Pictures 10, 20, 30, which were written in another order, and a file that is none."""
    for level in (30, 10, 20):
        write_image(tmp_path / f'img_{level}.png', rgb_of(level))
    (tmp_path / 'notes.txt').write_text('no picture')
    return tmp_path


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'film.mp4'
    codec = cv2.VideoWriter.fourcc(*'mp4v')
    writer = cv2.VideoWriter(str(path), codec, 12.5, (WIDTH, HEIGHT))
    for level in (0, 50, 100, 150, 200):
        writer.write(rgb_of(level)[..., ::-1])
    writer.release()
    return path


def test_an_orientation_in_the_file_is_not_the_sensors(tmp_path):
    rgb = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3) // 4
    jpeg = cv2.imencode('.jpg', rgb)[1].tobytes()
    (tmp_path / 'a.jpg').write_bytes(jpeg)
    (tmp_path / 'b.jpg').write_bytes(with_orientation(jpeg, 6))
    plain, turned = open_source(str(tmp_path)).pictures
    np.testing.assert_array_equal(turned.rgb, plain.rgb)


def test_a_folder_plays_in_the_order_of_names(folder):
    source = open_source(str(folder))
    assert (source.width, source.height, source.rate_hz) == (WIDTH, HEIGHT, 30.0)
    pictures = list(source.pictures)
    assert reds(pictures) == [10, 20, 30]
    np.testing.assert_array_equal(pictures[0].rgb, rgb_of(10))
    assert [p.age_s for p in pictures] == [0.0] * 3


def test_a_single_image_is_a_source(folder):
    # OpenCV by itself would go on with its neighbours.
    write_image(folder / 'img_11.png', rgb_of(11))
    assert reds(open_source(str(folder / 'img_10.png')).pictures) == [10]


def test_a_video_plays_at_its_own_rate(video):
    source = open_source(str(video))
    assert (source.width, source.height, source.rate_hz) == (WIDTH, HEIGHT, 12.5)
    pictures = list(source.pictures)
    np.testing.assert_allclose(reds(pictures), [0, 50, 100, 150, 200], atol=6)
    np.testing.assert_allclose(pictures[2].rgb[5, 7], (100, 90, 200), atol=6)


@pytest.mark.parametrize('angle_deg', [90, 180])
def test_a_video_of_a_phone_is_not_turned_either(tmp_path, angle_deg):
    # OpenCV 4.11 does not turn it by itself, 4.10 and 4.12 do.
    path = tmp_path / 'phone.mp4'
    codec = cv2.VideoWriter.fourcc(*'mp4v')
    writer = cv2.VideoWriter(str(path), codec, 25, (WIDTH, HEIGHT))
    rgb = rgb_of(40)
    rgb[:16, :32] = 250
    writer.write(rgb[..., ::-1])
    writer.release()
    data, one = bytearray(path.read_bytes()), 1 << 16
    matrix = {90: (0, one, 0, -one, 0), 180: (-one, 0, 0, 0, -one)}[angle_deg]
    struct.pack_into('>5i', data, data.index(b'tkhd') + 44, *matrix)
    path.write_bytes(data)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_ORIENTATION_META) == angle_deg

    (picture,) = open_source(str(path)).pictures

    np.testing.assert_allclose(picture.rgb, rgb, atol=40)


def test_loop_repeats_the_source(folder, video):
    assert reds(islice(open_source(str(folder), loop=True).pictures, 7)) == [
        *(10, 20, 30),
        *(10, 20, 30),
        10,
    ]
    levels = reds(islice(open_source(str(video), loop=True).pictures, 7))
    np.testing.assert_allclose(levels, [0, 50, 100, 150, 200, 0, 50], atol=6)


def test_a_requested_rate_counts_more(folder, video):
    assert open_source(str(folder), rate_hz=4.0).rate_hz == 4.0
    assert open_source(str(video), rate_hz=4.0).rate_hz == 4.0


@pytest.mark.parametrize('name', ['nix.mp4', 'webcam', 'webcam:x', 'virtually'])
def test_what_does_not_exist(name):
    with pytest.raises(SourceError, match=f"'{name}' does not exist, expected virtual, webcam:<i"):
        open_source(name)


def test_a_folder_without_images(tmp_path):
    (tmp_path / 'notes.txt').write_text('no picture')
    with pytest.raises(SourceError, match=r'no pictures in this folder, expected some of \.bmp'):
        open_source(str(tmp_path))


@pytest.mark.parametrize('size', [0, 100, 900])
def test_a_video_that_cannot_be_read(video, size):
    video.write_bytes(video.read_bytes()[:size])
    with pytest.raises(SourceError, match=r'film\.mp4: no video that OpenCV can read'):
        open_source(str(video))


def test_an_image_that_cannot_be_read_is_named(folder):
    (folder / 'img_20.png').write_bytes(b'none')
    pictures = open_source(str(folder)).pictures
    assert reds([next(pictures)]) == [10]
    with pytest.raises(SourceError, match=r'img_20\.png: no picture that OpenCV can read'):
        next(pictures)


def test_images_of_a_folder_may_differ_in_size(folder):
    write_image(folder / 'img_20.png', rgb_of(20)[:-1])
    shapes = {picture.name: picture.rgb.shape for picture in open_source(str(folder)).pictures}
    assert shapes['img_10.png'] == (HEIGHT, WIDTH, 3)
    assert shapes['img_20.png'] == (HEIGHT - 1, WIDTH, 3)


class Webcam:
    """Stands in for cv2.VideoCapture: a few pictures, the second of them damaged, then none."""

    levels = (10, None, 30, 40)
    opens = True
    delay_s = 0.25  # between the driver's stamp and its delivery
    clock_offset_s = 0.0  # of the driver's clock

    def __init__(self, index):
        self.index = index
        self.requested = {}
        self.count = -1
        Webcam.last = self

    def isOpened(self):
        return self.opens

    def set(self, name, value):
        self.requested[name] = value

    def get(self, name):
        assert name == cv2.CAP_PROP_POS_MSEC
        return 1000 * (time.monotonic() - self.delay_s + self.clock_offset_s)

    def getBackendName(self):
        return 'V4L2'

    def grab(self):
        self.count += 1
        return self.count < len(self.levels)

    def retrieve(self):
        level = self.levels[self.count]
        return (False, None) if level is None else (True, rgb_of(level)[..., ::-1])


@pytest.fixture
def webcam(monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', Webcam)
    return monkeypatch


def test_size_and_rate_are_requested_from_a_webcam_which_sets_the_pace(webcam):
    source = open_source('webcam:3', rate_hz=15.0, size=(1280, 720))
    assert Webcam.last.index == 3
    assert Webcam.last.requested[cv2.CAP_PROP_FPS] == 15.0
    assert Webcam.last.requested[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert Webcam.last.requested[cv2.CAP_PROP_FRAME_HEIGHT] == 720
    # The delivered size counts, not the requested one.
    assert (source.width, source.height, source.rate_hz) == (WIDTH, HEIGHT, None)


def test_a_webcam_drops_what_is_old_or_damaged_and_its_end_is_an_error(webcam):
    pictures = open_source('webcam:0').pictures
    assert reds(islice(pictures, 2)) == [30, 40]
    with pytest.raises(SourceError, match='webcam:0 stopped delivering pictures'):
        next(pictures)


@pytest.mark.parametrize(('clock_offset_s', 'age_s'), [(0.0, 0.25), (1.7e9, 0.0), (-50.0, 0.0)])
def test_age_is_the_drivers_where_its_clock_is_ours(webcam, clock_offset_s, age_s):
    webcam.setattr(Webcam, 'clock_offset_s', clock_offset_s)
    picture = next(open_source('webcam:0').pictures)
    assert age_s <= picture.age_s < age_s + 0.2


def test_a_webcam_that_does_not_open(webcam):
    webcam.setattr(Webcam, 'opens', False)
    with pytest.raises(SourceError, match='webcam:5 does not open, expected a camera such as /d'):
        open_source('webcam:5')


def test_a_webcam_that_delivers_nothing(webcam):
    webcam.setattr(Webcam, 'levels', ())
    with pytest.raises(SourceError, match='webcam:0 stopped delivering pictures'):
        open_source('webcam:0')
