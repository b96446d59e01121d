# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The four messages of hri_msgs that are published, built where the package is absent."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Fields of hri_msgs 2.3.2, github.com/ros4hri/hri_msgs.
DEFINITIONS = {
    'IdsList': 'std_msgs/Header header\nstring[] ids\n',
    'NormalizedPointOfInterest2D': 'float32 x\nfloat32 y\nfloat32 c\n',
    'NormalizedRegionOfInterest2D': (
        'std_msgs/Header header\n'
        'float32 xmin\nfloat32 ymin\nfloat32 xmax\nfloat32 ymax\nfloat32 c\n'
    ),
    'FacialLandmarks': (
        'std_msgs/Header header\n'
        'NormalizedPointOfInterest2D[70] landmarks\n'
        'uint32 height\nuint32 width\n'
    ),
}
CMAKE = f"""\
cmake_minimum_required(VERSION 3.20)
project(hri_msgs)
find_package(ament_cmake REQUIRED)
find_package(std_msgs REQUIRED)
find_package(rosidl_default_generators REQUIRED)
rosidl_generate_interfaces(hri_msgs
  {' '.join(f'msg/{name}.msg' for name in DEFINITIONS)}
  DEPENDENCIES std_msgs
)
ament_package()
"""
PACKAGE = """\
<package format="3">
  <name>hri_msgs</name>
  <version>0.0.0</version>
  <description>For tests</description>
  <maintainer email="none@face-pose-ros.invalid">none</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>std_msgs</depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


def environment_with_hri_msgs(folder: Path) -> dict[str, str]:
    """The environment of a process that has hri_msgs.

    Args:
        folder: Keeps what was built for the next time.
    """
    if importlib.util.find_spec('hri_msgs'):
        return dict(os.environ)
    for program in ('colcon', 'cmake', 'rosidl'):
        if shutil.which(program) is None:
            pytest.skip(f'hri_msgs is not installed, and without {program} it can not be built')
    # What it was made of: these definitions, this Python, this installation of the messages.
    std_msgs = importlib.util.find_spec('std_msgs')
    installed = str(os.stat(std_msgs.origin).st_mtime_ns)
    made_of = [*DEFINITIONS.values(), CMAKE, PACKAGE, sys.version, installed, str(folder)]
    key = hashlib.sha256(''.join(made_of).encode()).hexdigest()
    stamp = folder / 'stamp'
    if not (stamp.is_file() and stamp.read_text() == key):
        _build(folder)
        stamp.write_text(key)
    prefix = folder / 'install' / 'hri_msgs'
    modules = next(prefix.rglob('hri_msgs/__init__.py')).parents[1]
    first = {'AMENT_PREFIX_PATH': prefix, 'LD_LIBRARY_PATH': prefix / 'lib', 'PYTHONPATH': modules}
    return os.environ | {
        name: os.pathsep.join(filter(None, [str(path), os.environ.get(name)]))
        for name, path in first.items()
    }


def _build(folder: Path) -> None:
    shutil.rmtree(folder)  # what is left of another version
    source = folder / 'source'
    (source / 'msg').mkdir(parents=True)
    for name, fields in DEFINITIONS.items():
        (source / 'msg' / f'{name}.msg').write_text(fields)
    (source / 'CMakeLists.txt').write_text(CMAKE)
    (source / 'package.xml').write_text(PACKAGE)
    command = ['colcon', '--log-base', 'log', 'build', '--base-paths', 'source']
    command += ['--event-handlers', 'console_direct+']
    command += ['--cmake-args', f'-DPython3_EXECUTABLE={sys.executable}', '-DBUILD_TESTING=OFF']
    # An outer make's job server is not for the make that colcon starts.
    env = {k: v for k, v in os.environ.items() if k not in ('MAKEFLAGS', 'MAKELEVEL')}
    build = subprocess.run(
        command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert build.returncode == 0, build.stdout[-4000:]
