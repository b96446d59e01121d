# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Demo on one machine: camera, pose node, checker and view, one process each.

    python tools/demo.py

`make demo` runs it. `demo.launch.py` starts the same with ROS 2's launch system, and RViz as view.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from domain_coordinator import domain_id

from face_pose_ros.ros.demo.output import SHEET, VIDEO

VIRTUAL = 'virtual'

RECORDING = 'demo.rrd'

_POLL_S = 0.1
_FOLDER_RATE_HZ = 1.0  # slow enough to watch
_LOST_AFTER_S = 0.5  # ends tracks before the next image of a folder, which is another scene
_LAST_POSES_S = 2.0  # wait for the last poses, after the camera has ended


def main(args: Sequence[str] | None = None) -> None:
    """Run until the checker has reported; its exit status is the demo's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', default='demo_output', help='output folder')
    parser.add_argument(
        '--source',
        default=VIRTUAL,
        help='virtual, webcam:<index>, a video file or a folder of images; poses of the virtual '
        'camera are checked, others are recorded',
    )
    parser.add_argument('--calibration', help="camera_calibration's YAML file of the source")
    parser.add_argument(
        '--fov-deg', type=float, default=60.0, help='horizontal; used without a calibration'
    )
    parser.add_argument(
        '--rate', type=float, help="images per second; default: the source's own, 1 for a folder"
    )
    parser.add_argument(
        '--view', action='store_true', help='record demo.rrd; show it where there is a display'
    )
    parser.add_argument(
        '--depth', action='store_true', help='the virtual camera also has a depth camera'
    )
    options = parser.parse_args(args)
    if options.depth and options.source != VIRTUAL:
        parser.error('--depth: only the virtual camera has a depth camera')
    output = Path(options.output)
    replaced = [(output / name).resolve() for name in (VIDEO, SHEET, RECORDING)]
    if Path(options.source).expanduser().resolve() in replaced:
        parser.error(
            f'--source: this run would replace {options.source}: copy it elsewhere, or give '
            'another --output'
        )
    # The processes have sessions of their own, so this process must end them.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if 'ROS_DOMAIN_ID' in os.environ:
        sys.exit(_run(options))
    # Isolate the demo from robots on the same network.
    with domain_id() as domain:
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        print(f'ROS_DOMAIN_ID={domain}', flush=True)
        sys.exit(_run(options))


def _run(options: argparse.Namespace) -> int:
    # True poses are known for the virtual camera only; with other cameras poses are recorded.
    checker = 'demo_checker' if options.source == VIRTUAL else 'demo_recorder'
    camera: dict[str, object] = {'source': options.source, 'with_node': True}
    if options.calibration:
        camera['calibration'] = options.calibration
    elif options.source != VIRTUAL:
        camera['horizontal_fov_deg'] = options.fov_deg
    # Camera and checker need a core too, and one waiting thread delays all threads of an
    # inference.
    threads = max(1, (os.cpu_count() or 1) - 1)
    node: dict[str, object] = {'threads': threads}
    if options.depth:
        camera['depth'] = node['use_depth'] = True
    if options.rate:
        camera['rate_hz'] = options.rate
    elif Path(options.source).expanduser().is_dir():
        camera['rate_hz'], node['tracking.lost_after_s'] = _FOLDER_RATE_HZ, _LOST_AFTER_S
    programs: dict[str, dict[str, object]] = {
        'pose_node': node,
        checker: {'output': options.output},
        'demo_camera': camera,
    }
    recording = Path(options.output, RECORDING)
    recording.unlink(missing_ok=True)  # of the last run
    if options.view:
        shown = any(name in os.environ for name in ('DISPLAY', 'WAYLAND_DISPLAY'))
        programs['face_pose_view'] = {'output': str(recording), 'spawn': shown}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, parameters in programs.items():
            processes[name] = _start(name, parameters)
        return _wait(processes, checker)
    except KeyboardInterrupt:
        return _report(processes[checker])
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()


def _wait(processes: dict[str, subprocess.Popen[bytes]], checker: str) -> int:
    """Wait for the report; 1 if a process ends too early."""
    while (status := processes[checker].poll()) is None:
        for name, process in processes.items():
            ended = process.poll()
            if ended is None or (name, ended, checker) == ('demo_camera', 0, 'demo_checker'):
                continue
            if (name, ended) == ('demo_camera', 0):
                time.sleep(_LAST_POSES_S)
                return _report(processes[checker])
            if ended <= 0:  # else it has printed the reason
                print(
                    f'demo: {name} ended with status {ended} before the demo did', file=sys.stderr
                )
            return 1
        time.sleep(_POLL_S)
    return status


def _report(checker: subprocess.Popen[bytes]) -> int:
    checker.send_signal(signal.SIGINT)
    return checker.wait()


def _start(name: str, parameters: dict[str, object]) -> subprocess.Popen[bytes]:
    command = [sys.executable, '-m', 'face_pose_ros.ros.programs', name, '--ros-args']
    for parameter, value in parameters.items():
        # Quote text: a folder named 12 is not a number.
        command += ['-p', f'{parameter}:={json.dumps(value, ensure_ascii=False)}']
    # Ctrl-C must reach the demo only, which then requests the report.
    return subprocess.Popen(command, start_new_session=True)


if __name__ == '__main__':
    main()
