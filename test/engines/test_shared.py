# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calls of several threads become one batch, when they belong together."""

import threading
import time

import numpy as np
import pytest
from helpers.portraits import portrait_view

from face_pose_ros import FacePoseEstimator
from face_pose_ros.engines import shared as shared_module
from face_pose_ros.engines.network import Network
from face_pose_ros.engines.networks import Networks
from face_pose_ros.engines.shared import SharedNetworks
from face_pose_ros.options import TrackingOptions


class Function(Network):
    """A network that is a function; its crops are numbers."""

    def __init__(self, function):
        self.function = function

    def __call__(self, pictures):
        return self.function(pictures)

    def render(self, image, crops, camera, shrink=1):
        return np.full((len(crops), shrink), image)


class Counting:
    """Networks that note the size of every batch."""

    def __init__(self, monkeypatch):
        self.batches = []
        self.loads = 0
        self.error = None
        self.threads = None
        monkeypatch.setattr(shared_module, 'load_networks', self.load)

    def load(self, device, threads):
        self.loads += 1
        self.threads = threads
        functions = self.run, lambda x: (5 * x,)
        return Networks(device, *map(Function, functions))

    def run(self, pictures):
        self.batches.append(len(pictures))
        if self.error:
            raise self.error
        return pictures + 1, pictures - 1


@pytest.fixture
def network(monkeypatch):
    return Counting(monkeypatch)


def test_both_networks_are_shared_with_the_threads_of_the_first_camera(network):
    shared = SharedNetworks()
    networks = shared.load('cpu', threads=3)
    shared.load('cpu', threads=1)
    assert (network.loads, network.threads, networks.device) == (1, 3, 'cpu')
    pictures = np.full((2, 3), 4.0)
    assert [x.tolist() for x in networks.detector(pictures)] == [[[5.0] * 3] * 2, [[3.0] * 3] * 2]
    assert networks.keypoints(pictures)[0].tolist() == [[20.0] * 3] * 2


def in_threads(*works):
    """Results, or errors, of functions that run at the same time."""
    results = [None] * len(works)

    def run(i):
        try:
            results[i] = works[i]()
        except RuntimeError as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=[i]) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
    return results


def asking(shared, pictures, barrier=None, delay_s=0.0, ask=lambda networks: networks.detector):
    """Process a frame with these pictures."""
    networks = shared.load('cpu')

    def work():
        time.sleep(delay_s)
        with shared.frame():
            if barrier:
                barrier.wait()
            return ask(networks)(pictures)

    return work


def test_frames_of_one_moment_are_one_batch_and_each_gets_its_own(network):
    shared, barrier = SharedNetworks(window_s=5), threading.Barrier(3)
    pictures = [np.full((n, 3, 4, 4), float(n)) for n in (1, 2, 3)]
    results = in_threads(*(asking(shared, p, barrier) for p in pictures))

    assert network.batches == [6]
    for p, (plus, minus) in zip(pictures, results, strict=True):
        np.testing.assert_array_equal(plus, p + 1)
        np.testing.assert_array_equal(minus, p - 1)


def test_crops_of_one_moment_are_one_batch_too(network):
    shared, barrier = SharedNetworks(window_s=5), threading.Barrier(2)

    def work(value, crops):
        networks = shared.load('cpu')

        def on_crops():
            with shared.frame():
                barrier.wait()
                return networks.detector.on_crops(value, crops, None, shrink=2)

        return on_crops

    one, two = in_threads(work(1.0, [0]), work(5.0, [0, 0]))
    assert network.batches == [3]
    assert one[0].tolist() == [[2, 2]]
    assert two[0].tolist() == [[6, 6]] * 2


def test_pictures_of_other_sizes_are_a_batch_of_their_own(network):
    shared, barrier = SharedNetworks(window_s=5), threading.Barrier(3)
    sizes = (4, 8, 8)
    in_threads(*(asking(shared, np.zeros((1, 3, s, s)), barrier) for s in sizes))

    assert sorted(network.batches) == [1, 2]


class Counter:
    """What `SharedNetworks.frame` needs of a tracker: a camera with one person."""

    def __init__(self, detect_every):
        self.ids = ['f00001']
        self.options = TrackingOptions(detect_every=detect_every)
        self.images_since_detection = 0

    def process(self, shared):
        """An image; whether it used a detection."""
        with shared.frame(self):
            is_due = self.images_since_detection + 1 == self.options.detect_every
            self.images_since_detection = 0 if is_due else self.images_since_detection + 1
        return is_due


@pytest.mark.parametrize(('cameras', 'most_at_once'), [(4, 1), (8, 2), (9, 3)])
def test_detections_of_cameras_that_started_together_are_spread(
    cameras, most_at_once, monkeypatch
):
    shared = SharedNetworks(window_s=0.005)
    counters = [Counter(detect_every=5) for _ in range(cameras)]
    used = []
    for i in range(60):
        monkeypatch.setattr(time, 'monotonic', lambda i=i: 7 + i / 30)
        used.append([counter.process(shared) for counter in counters])
    settled = np.array(used[40:])
    assert settled.sum(1).max() <= most_at_once
    assert (settled.sum(0) == 4).all()  # none detects more often


def test_a_camera_alone_keeps_its_rhythm():
    shared, counter = SharedNetworks(), Counter(detect_every=3)
    used = [counter.process(shared) for _ in range(9)]
    assert used == 3 * [False, False, True]


def test_frames_of_different_moments_do_not_wait_for_each_other(network):
    shared = SharedNetworks(window_s=0.05)
    networks = shared.load('cpu')
    begun, done = threading.Event(), threading.Event()

    def slow():
        with shared.frame():
            begun.set()
            assert done.wait(10)

    def quick():
        begun.wait()
        time.sleep(0.1)
        with shared.frame():
            start_s = time.perf_counter()
            for _ in range(50):
                networks.detector(np.zeros((1, 3, 4, 4)))
            seconds = time.perf_counter() - start_s
        done.set()
        return seconds

    assert in_threads(slow, quick)[1] < 50 * 0.05 / 5


def test_no_call_waits_longer_than_the_window(network):
    shared = SharedNetworks(window_s=0.2)
    done = threading.Event()

    def never_asks():
        with shared.frame():
            assert done.wait(10)

    def asks():
        ask = asking(shared, np.zeros((1, 3, 4, 4)), delay_s=0.05)
        start_s = time.perf_counter()
        ask()
        done.set()
        return time.perf_counter() - start_s

    assert 0.2 < in_threads(never_asks, asks)[1] < 2


def test_an_error_reaches_every_camera_and_the_networks_are_loaded_again_once(network):
    shared, barrier = SharedNetworks(window_s=5), threading.Barrier(2)
    network.error = MemoryError('device lost')
    works = [asking(shared, np.zeros((1, 3, 4, 4)), barrier) for _ in range(2)]
    results = in_threads(*works)

    assert [str(result) for result in results] == ['the batch with this frame failed'] * 2
    assert [result.__cause__ for result in results] == [network.error] * 2
    network.error = None
    shared.load('cpu')
    shared.load('cpu')
    assert network.loads == 2
    assert len(asking(shared, np.zeros((1, 3, 4, 4)))()) == 2


def test_a_network_of_one_output_gives_each_camera_its_rows(network):
    shared, barrier = SharedNetworks(window_s=5), threading.Barrier(2)
    keypoints = shared.load('cpu').keypoints

    def work(value, count):
        with shared.frame():
            barrier.wait()
            return keypoints(np.full((count, 2), value))

    (one,), (two,) = in_threads(lambda: work(1.0, 1), lambda: work(2.0, 3))
    assert one.tolist() == [[5, 5]]
    assert two.tolist() == [[10, 10]] * 3


def test_all_share_one_device(network):
    shared = SharedNetworks()
    shared.load('cpu')
    with pytest.raises(ValueError, match="device is 'cuda', expected 'cpu'"):
        shared.load('cuda')


def test_estimators_that_share_see_what_one_alone_sees():
    shared, barrier = SharedNetworks(window_s=5), threading.Barrier(2)
    rgb, camera = portrait_view()
    (alone,) = FacePoseEstimator().estimate(rgb, camera)

    def work():
        estimator = FacePoseEstimator(networks=shared.load('cpu'))
        with shared.frame():
            barrier.wait()
            return estimator.estimate(rgb, camera)

    for (face,) in in_threads(work, work):
        assert abs(face.keypoints_uv - alone.keypoints_uv).max() < 0.01
