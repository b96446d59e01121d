# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files: what they declare, and a real start where ROS 2's launch system is there."""

import ast
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
POSE, DEMO = (ROOT / 'launch' / f'{name}.launch.py' for name in ('pose', 'demo'))
ARGUMENTS = {
    POSE: {
        'namespace': '',
        'cameras': '',
        'one_process': 'false',
        'image': 'image',
        'camera_info': 'camera_info',
        'use_depth': '',
        'depth': 'depth',
        'depth_camera_info': 'depth_camera_info',
        'depth_transport': '',
        'image_transport': '',
        'device': '',
        'config': 'share/face_pose_ros/config/pose.yaml',  # the end of the path
        'rviz': 'false',
        'fixed_frame': '',
        'respawn': 'false',
    },
    DEMO: {
        'output': 'demo_output',
        'source': 'virtual',
        'calibration': '',
        'fov_deg': '60.0',
        'rate_hz': '',
    },
}
both_files = pytest.mark.parametrize('path', [POSE, DEMO], ids=lambda path: path.name)


def is_package(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    # This repository's folder launch/ is found too: a namespace package, which has no file.
    return spec is not None and spec.origin is not None


MISSING = [name for name in ('launch', 'launch_ros') if not is_package(name)]
needs_launch = pytest.mark.skipif(
    bool(MISSING),
    reason=f'no {" and no ".join(MISSING)}: launch_ros and what it needs come with a ROS 2 '
    'distribution (ros-<distribution>-launch-ros), not with the wheels that make setup installs',
)

# What `ros2 launch FILE NAME:=VALUE ...` does.
RUN = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

file, *arguments = sys.argv[1:]
service = LaunchService(noninteractive=True)
service.include_launch_description(
    IncludeLaunchDescription(
        PythonLaunchDescriptionSource(file),
        launch_arguments=[argument.split(':=', 1) for argument in arguments],
    )
)
sys.exit(service.run())
"""


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), path.name)


def strings(tree: ast.AST) -> set[str]:
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def declared_names(tree: ast.AST) -> set[str]:
    """First arguments of DeclareLaunchArgument, or the keys of the table it is called for."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == 'DeclareLaunchArgument':
            if isinstance(node.args[0], ast.Constant):
                names.add(node.args[0].value)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'arguments':
            names |= {ast.literal_eval(key) for key in node.value.keys}
    return names


@both_files
def test_file_compiles_and_declares_its_arguments(path):
    compile(path.read_text(), path.name, 'exec')

    assert declared_names(parsed(path)) == set(ARGUMENTS[path])


@both_files
def test_programs_and_config_files_exist(path):
    tree = parsed(path)
    programs = {
        ast.literal_eval(keyword.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == 'executable'
    }
    entry_points = {text.split(' = ')[0] for text in strings(parsed(ROOT / 'setup.py'))}
    assert 'pose_node' in programs
    assert programs <= entry_points | {'rviz2'}

    files = {text for text in strings(tree) if text.endswith(('.yaml', '.rviz', '.xml'))}
    assert {'pose.yaml', 'face_pose.rviz'} <= files
    assert all((ROOT / 'config' / name).is_file() for name in files)


def test_every_topic_of_the_rviz_file_is_led_to_the_pose_node():
    displays = yaml.safe_load((ROOT / 'config' / 'face_pose.rviz').read_text())[
        'Visualization Manager'
    ]['Displays']
    topics = {display['Topic']['Value'] for display in displays if 'Topic' in display}

    assert topics == {'/face_pose/poses', '/face_pose/markers', '/face_pose/overlay'}
    assert topics <= strings(parsed(POSE))


@needs_launch
@both_files
def test_arguments_and_defaults(path):
    from launch import LaunchContext
    from launch.utilities import perform_substitutions

    spec = importlib.util.spec_from_file_location('launch_file', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = module.generate_launch_description().get_launch_arguments()

    context = LaunchContext()
    defaults = {a.name: perform_substitutions(context, a.default_value) for a in arguments}
    assert defaults.keys() == ARGUMENTS[path].keys()
    for name, expected in ARGUMENTS[path].items():
        if name == 'config':
            assert defaults[name].endswith(expected)
        else:
            assert defaults[name] == expected
    assert all(argument.description for argument in arguments)


@contextlib.contextmanager
def launched(folder: Path, domain_id: int, path: Path, *arguments: str):
    """Runs a launch file in a process group of its own, its output in `folder`/output."""
    env = {**os.environ, 'ROS_DOMAIN_ID': str(domain_id), 'ROS_LOG_DIR': str(folder)}
    with (folder / 'output').open('w') as output:
        process = subprocess.Popen(
            [sys.executable, '-c', RUN, path, *arguments],
            env=env,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            # Whatever is left of it, if a check failed.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def domain_id():
    with pytest.importorskip('domain_coordinator').domain_id() as number:
        yield number


@pytest.fixture
def observer(domain_id):
    """A node that sees which topics there are."""
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain_id)
    node = rclpy.create_node('observer', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@needs_launch
@pytest.mark.dds
def test_pose_node_starts_with_the_arguments_and_stops_on_ctrl_c(observer, domain_id, tmp_path):
    config = tmp_path / 'config.yaml'
    config.write_text('/**: {ros__parameters: {image_transport: compressed, threads: 1}}')
    arguments = ['namespace:=robot', 'image:=/left/image', 'camera_info:=info', 'device:=cpu']

    with launched(tmp_path, domain_id, POSE, *arguments, f'config:={config}') as process:
        end_s = time.monotonic() + 60
        # Its subscriptions are made after its publishers.
        while not (
            observer.count_publishers('/robot/face_pose/poses')
            and observer.count_subscribers('/robot/info')
            and observer.count_subscribers('/left/image/compressed') == 1
        ):
            assert process.poll() is None, (tmp_path / 'output').read_text()
            assert time.monotonic() < end_s, (tmp_path / 'output').read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0

    output = (tmp_path / 'output').read_text()
    assert 'process has finished cleanly' in output, output


@needs_launch
@pytest.mark.dds
@pytest.mark.parametrize('one_process', ['false', 'true'])
def test_several_cameras_get_a_node_each_in_their_namespaces(
    observer, domain_id, tmp_path, one_process
):
    config = tmp_path / 'config.yaml'
    config.write_text('/**: {ros__parameters: {threads: 1}}')
    arguments = [
        'namespace:=robot',
        'cameras:=front, left,',
        'image:=image_raw',
        f'one_process:={one_process}',
    ]
    with launched(tmp_path, domain_id, POSE, *arguments, f'config:={config}') as process:
        end_s = time.monotonic() + 90
        topics = [f'/robot/{camera}/image_raw' for camera in ('front', 'left')]
        while not all(observer.count_subscribers(topic) == 1 for topic in topics):
            assert process.poll() is None, (tmp_path / 'output').read_text()
            assert time.monotonic() < end_s, (tmp_path / 'output').read_text()
            time.sleep(0.05)
        for camera in ('front', 'left'):
            assert observer.count_publishers(f'/robot/{camera}/face_pose/poses') == 1
        started = (tmp_path / 'output').read_text().count('process started with pid')
        assert started == (1 if one_process == 'true' else 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


@needs_launch
@pytest.mark.dds
def test_a_device_that_looks_like_a_number_arrives_as_text(domain_id, tmp_path):
    with launched(tmp_path, domain_id, POSE, 'device:=0') as process:
        process.wait(timeout=60)

    assert "device '0' is not one of" in (tmp_path / 'output').read_text()


@needs_launch
@pytest.mark.dds
@pytest.mark.parametrize(
    ('argument', 'expected'),
    [
        ('config:=/nowhere.yaml', "config: no file '/nowhere.yaml'"),
        ('cameras:=front,left,front', 'cameras: each once, got front more than once'),
        ('respawn:=often', "['true', 'false']"),
    ],
)
def test_a_bad_argument_starts_nothing_and_is_named(domain_id, tmp_path, argument, expected):
    with launched(tmp_path, domain_id, POSE, argument) as process:
        assert process.wait(timeout=60) == 1

    output = (tmp_path / 'output').read_text()
    assert expected in output
    assert 'process started' not in output


@needs_launch
@pytest.mark.dds
def test_rviz_that_is_not_installed_is_an_error_that_names_it(domain_id, tmp_path):
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    with contextlib.suppress(PackageNotFoundError):
        pytest.skip(f'RViz is installed: {get_package_prefix("rviz2")}')
    with launched(tmp_path, domain_id, POSE, 'rviz:=true') as process:
        assert process.wait(timeout=60) == 1

    output = (tmp_path / 'output').read_text()
    assert "package 'rviz2' not found" in output
    assert 'process started' not in output  # no pose node left behind
