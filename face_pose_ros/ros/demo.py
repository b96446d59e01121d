"""The demo on one machine: camera, pose node and checker, each a process of its own.

    python -m face_pose_ros.ros.demo

`demo.launch.py` starts the same where ROS 2's launch system is installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from domain_coordinator import domain_id


def main(args: Sequence[str] | None = None) -> None:
    """Run until the checker has reported; its exit status is the demo's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', default='demo_output', help='folder for video and picture')
    options = parser.parse_args(args)
    if 'ROS_DOMAIN_ID' in os.environ:
        sys.exit(_run(options.output))
    # A robot next door must not see the demo's frames, nor the demo the robot's.
    with domain_id() as domain:
        os.environ['ROS_DOMAIN_ID'] = str(domain)
        print(f'ROS_DOMAIN_ID={domain}')
        sys.exit(_run(options.output))


def _run(output: str) -> int:
    # Camera and checker need a core too, and a thread that waits for one holds up all the others.
    threads = max(1, (os.cpu_count() or 1) - 1)
    pose_node = _start('node', '-p', f'threads:={threads}')
    checker = _start('demo_checker', '-p', f'output:={output}')
    camera = _start('demo_camera')
    try:
        return checker.wait()
    finally:
        for process in (camera, pose_node, checker):
            process.terminate()
        for process in (camera, pose_node, checker):
            process.wait()


def _start(module: str, *ros_args: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, '-m', f'face_pose_ros.ros.{module}', '--ros-args', *ros_args]
    return subprocess.Popen(command)


if __name__ == '__main__':
    main()
