# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The newest frame is processed, there is no queue, and the thread stops."""

import threading
import time

from face_pose_ros.ros.frame_worker import FrameWorker


class Work:
    """Work that takes until it is released."""

    def __init__(self):
        self.done, self.overtaken = [], []
        self.begun, self.release = threading.Semaphore(0), threading.Semaphore(0)
        self.worker = FrameWorker(self._work, self.overtaken.append)

    def _work(self, frame):
        self.begun.release()
        assert self.release.acquire(timeout=10)
        self.done.append(frame)


def test_the_newest_frame_is_next_and_the_others_are_reported():
    work = Work()
    work.worker.put(0)
    assert work.begun.acquire(timeout=10)
    for frame in (1, 2, 3):
        work.worker.put(frame)
    assert work.overtaken == [1, 2]
    work.release.release(2)
    assert work.begun.acquire(timeout=10)
    work.worker.stop()
    assert work.done == [0, 3]


def test_stop_waits_for_the_frame_in_work_and_drops_the_next():
    work = Work()
    work.worker.put(0)
    assert work.begun.acquire(timeout=10)
    work.worker.put(1)
    threading.Timer(0.1, work.release.release).start()
    start_s = time.monotonic()
    work.worker.stop()
    assert time.monotonic() - start_s > 0.05
    assert work.done == [0]
