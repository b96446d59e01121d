#!/bin/bash
# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
# What: a ROS Python package with an invalid package.xml: a version of two numbers, a missing
# licence or a misspelt tag.
# Seen with colcon-core 0.21.3, colcon-ros 0.5.0: `colcon list` ends with 0 and says nothing. With
# a setup.py the package counts as plain Python instead of ros.ament_python, and its dependencies
# are setup.py's alone; without one there is no package at all. `--log-level debug` tells why.
# Why it matters: a robot's node is built without its package.xml's dependencies and order, or not
# at all, by a build that succeeds. Run catkin_pkg's parse_package, which names the fault.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check colcon-core==0.21.3 \
    colcon-ros==0.5.0 colcon-recursive-crawl==0.2.3 colcon-package-information==0.4.1 \
    catkin-pkg==1.1.1 setuptools==79.0.1
cd "$folder"
"$folder/venv/bin/pip" list --disable-pip-version-check 2>/dev/null | grep -E '^(colcon|catkin)'

mkdir -p src/camera
listed() {  # version, licence tag -> what colcon says of the package, on one line
    cat > src/camera/package.xml <<XML
<package format="3">
  <name>camera</name>
  <version>$1</version>
  <description>A camera</description>
  <maintainer email="user@example.com">user</maintainer>
  $2
  <export><build_type>ament_python</build_type></export>
</package>
XML
    PYTHONPATH='' venv/bin/colcon list --base-paths src 2>&1 | tr '\t' ' '
}
expect() {
    found=$(listed "$2" "$3")
    echo "$1: '$found'"
    [ "$found" = "$4" ] || { echo "expected '$4'"; exit 1; }
}
licence='<license>MIT</license>'
echo "from setuptools import setup; setup(name='camera', version='0.1.0')" > src/camera/setup.py
expect 'valid' 0.1.0 "$licence" 'camera src/camera (ros.ament_python)'
expect 'version 0.1' 0.1 "$licence" 'camera src/camera (python)'
expect 'no licence' 0.1.0 '' 'camera src/camera (python)'
expect 'misspelt tag' 0.1.0 "$licence<exec_depends>x</exec_depends>" 'camera src/camera (python)'
rm src/camera/setup.py
expect 'version 0.1 without setup.py' 0.1 "$licence" ''
parse='from catkin_pkg.package import parse_package; parse_package("src/camera")'
PYTHONPATH='' venv/bin/python -c "$parse" 2>&1 | tail -1 | grep 'version'
