# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the pose pipeline offline over recordings: `face_pose_bag in.mcap out.mcap`.

Writes the messages that the node would publish if it processed every image, with the stamps of the
recording. After an interruption the same command resumes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

try:
    import rosbags  # noqa: F401
except ModuleNotFoundError as error:
    raise SystemExit(
        'face_pose_bag needs the package rosbags, which is not installed: pip install rosbags'
    ) from error

from tqdm import tqdm

from face_pose_ros.ros.bag.config import load_parameters
from face_pose_ros.ros.bag.job import Job, convert
from face_pose_ros.ros.bag.reader import BagError, Recording
from face_pose_ros.ros.declaring import ParameterError
from face_pose_ros.weights import WeightsError

BAD_INPUT = 2
INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit code."""
    try:
        jobs, workers = _parse(args)
        return _run_all(jobs, workers)
    except (BagError, ParameterError, OSError) as error:
        print(f'face_pose_bag: {error}', file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print('interrupted; the same command resumes', file=sys.stderr)
        return INTERRUPTED
    except BrokenProcessPool:
        print('a worker was killed; the same command resumes', file=sys.stderr)
        return INTERRUPTED


def _parse(args: Sequence[str] | None) -> tuple[list[Job], int]:
    """The jobs that are not done yet, and the number of worker processes."""
    parser = argparse.ArgumentParser(
        'face_pose_bag',
        usage='%(prog)s [options] in.mcap out.mcap\n       %(prog)s [options] --out DIR BAG...',
        description='Head poses of all people in recordings, as the node would publish them, and '
        'a plot of them. After an interruption the same command resumes.',
    )
    parser.add_argument('bags', nargs='+', type=Path, help='.mcap, .db3, or a folder of ros2 bag')
    parser.add_argument('--out', type=Path, help='folder for BAG_poses.mcap and .png of each BAG')
    parser.add_argument('--jobs', type=int, default=1, help='bags in parallel (default: 1)')
    parser.add_argument('--config', type=Path, help="the node's parameters, as config/pose.yaml")
    parser.add_argument('--image', default='', help='image topic, if there are several')
    parser.add_argument('--camera-info', default='', help='CameraInfo topic, if there are several')
    options = parser.parse_intermixed_args(args)
    if options.jobs < 1:
        parser.error(f'--jobs must be at least 1, got {options.jobs}')
    if options.out:
        names = [bag.name if bag.is_dir() else bag.stem for bag in options.bags]
        if len(set(names)) < len(names):
            parser.error('two bags have the same name: use an --out for each')
        outputs = [options.out / f'{name}_poses.mcap' for name in names]
    else:
        if len(options.bags) != 2 or options.bags[1].suffix != '.mcap':
            parser.error('expected in.mcap out.mcap, or --out DIR and any number of bags')
        if options.bags[1].exists():
            raise BagError(f'{options.bags[1]} exists already, expected a new file')
        outputs = [options.bags.pop()]
    parameters = load_parameters(options.config)
    jobs = []
    for bag, output in zip(options.bags, outputs, strict=True):
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.exists():
            print(f'{bag}: {output} exists already, skipped')
        else:
            jobs.append(Job(bag, output, options.image, options.camera_info, parameters))
    return jobs, min(options.jobs, len(jobs))


def _run_all(jobs: Sequence[Job], workers: int) -> int:
    """Process all recordings that can be opened, print one line for each; 0 or BAD_INPUT."""
    code, images, ready = 0, 0, []
    for job in jobs:
        try:
            with Recording(job.recording, job.image_topic, job.info_topic) as recording:
                images += recording.image_count
                ready.append(job)
        except BagError as error:
            code = BAD_INPUT
            print(f'face_pose_bag: {error}', file=sys.stderr)
    with tqdm(total=images, unit='image', disable=None) as bar:
        for result in _in_workers(ready, workers, bar) if workers > 1 else _here(ready, bar):
            try:
                tqdm.write(result())
            except (BagError, ParameterError, WeightsError) as error:
                code = BAD_INPUT
                tqdm.write(f'face_pose_bag: {error}', file=sys.stderr)
    return code


def _here(jobs: Sequence[Job], bar: tqdm) -> Iterator[Callable[[], str]]:
    for job in jobs:
        yield partial(convert, job, bar.update)


def _in_workers(jobs: Sequence[Job], workers: int, bar: tqdm) -> Iterator[Callable[[], str]]:
    # Spawn, not fork: the inference engine's threads do not survive a fork.
    context = multiprocessing.get_context('spawn')
    done = context.Value('Q')
    # The workers must end with this process, however it is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (done,))
    try:
        threads = max(1, len(os.sched_getaffinity(0)) // workers)
        waiting = {pool.submit(_convert_in_worker, replace(job, threads=threads)) for job in jobs}
        while waiting:
            finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            bar.update(done.value - bar.n)
            yield from (future.result for future in finished)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown()


_done: Any = None  # images done by all workers; set in a worker


def _start_worker(done: Any) -> None:
    global _done
    _done = done
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it


def _convert_in_worker(job: Job) -> str:
    def advance(images: int) -> None:
        with _done.get_lock():
            _done.value += images

    return convert(job, advance)
