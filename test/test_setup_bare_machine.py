# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The set-up of a machine without ROS, and what it installs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import setup_bare_machine as setup

FOREIGN = (
    'INTERFACE_INCLUDE_DIRECTORIES "/opt/python/cp311-cp311/include/python3.11;'
    '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"\n'
)


@pytest.mark.parametrize('version', [(3, 10), (3, 11), (3, 12), (3, 13), (3, 14)])
def test_python_with_wheels_is_accepted(version):
    assert setup.python_problem(version, 'CPython', 'Linux', 'x86_64') is None


@pytest.mark.parametrize(
    ('python', 'named'),
    [
        (((3, 9), 'CPython', 'Linux', 'x86_64'), 'found CPython 3.9'),
        (((3, 15), 'CPython', 'Linux', 'x86_64'), 'found CPython 3.15'),
        (((3, 11), 'PyPy', 'Linux', 'x86_64'), 'found PyPy 3.11'),
        (((3, 11), 'CPython', 'Linux', 'aarch64'), 'Linux on aarch64'),
        (((3, 11), 'CPython', 'Darwin', 'x86_64'), 'Darwin on x86_64'),
    ],
)
def test_python_without_wheels_is_refused_by_name(python, named):
    problem = setup.python_problem(*python)
    assert named in problem
    assert '\n' not in problem


def _executable(path: Path) -> None:
    path.write_text('#!/bin/sh\n')
    path.chmod(0o755)


def test_missing_compiler_is_named(tmp_path):
    environ = {'PATH': str(tmp_path)}
    assert setup.compiler_problem(environ).startswith('no C compiler (cc or gcc or clang)')
    _executable(tmp_path / 'gcc')
    assert setup.compiler_problem(environ).startswith('no C++ compiler (c++ or g++ or clang++)')
    _executable(tmp_path / 'clang++')
    assert setup.compiler_problem(environ) is None
    problem = setup.compiler_problem({**environ, 'CXX': 'mine -O2'})
    assert problem.startswith('no C++ compiler (mine)')
    assert '\n' not in problem


def test_missing_compiler_ends_the_setup_without_a_traceback(tmp_path):
    result = subprocess.run(
        [sys.executable, setup.__file__, 'install'],
        env={**os.environ, 'PATH': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith('setup: no C compiler')
    assert result.stderr.count('\n') == 1


def test_cmake_patch_names_the_headers_in_use():
    patched = setup.patch_cmake_text(FOREIGN, '/usr/include/python3.12', r'/v/numpy\1/include')
    wanted = r'INTERFACE_INCLUDE_DIRECTORIES "/usr/include/python3.12;/v/numpy\1/include"' + '\n'
    assert patched == wanted
    assert setup.patch_cmake_text(patched, '/elsewhere', '/elsewhere') == patched


def test_cmake_files_are_patched_once(tmp_path):
    (tmp_path / 'a_msgs').mkdir()
    (tmp_path / 'a_msgs' / 'foreign.cmake').write_text(FOREIGN)
    (tmp_path / 'own.cmake').write_text('set(x 1)\n')
    assert setup.patch_cmake_files(tmp_path, '/include', '/numpy') == 1
    assert setup.patch_cmake_files(tmp_path, '/include', '/numpy') == 0
    assert '/opt/python' not in (tmp_path / 'a_msgs' / 'foreign.cmake').read_text()
    assert (tmp_path / 'own.cmake').read_text() == 'set(x 1)\n'


def test_fingerprint_sees_contents_names_and_facts(tmp_path):
    folder = tmp_path / 'source'
    folder.mkdir()
    (folder / 'a.py').write_text('1')
    keys = [setup.fingerprint([folder], 'fact')]
    assert setup.fingerprint([folder], 'fact') == keys[0]
    keys.append(setup.fingerprint([folder], 'other'))
    (folder / 'a.py').write_text('2')
    keys.append(setup.fingerprint([folder], 'fact'))
    (folder / 'a.py').rename(folder / 'b.py')
    keys.append(setup.fingerprint([folder], 'fact'))
    assert len(set(keys)) == len(keys)
    (folder / '__pycache__').mkdir()
    (folder / '__pycache__' / 'b.pyc').write_text('compiled')
    (folder / '_core.cpython-311-x86_64-linux-gnu.so').write_text('built')
    assert setup.fingerprint([folder, tmp_path / 'absent'], 'fact') == keys[-1]


def test_stamp_is_fresh_only_with_its_own_key(tmp_path):
    stamp = tmp_path / 'stamp'
    assert not setup.is_fresh(stamp, 'key')
    stamp.write_text('key')
    assert setup.is_fresh(stamp, 'key')
    assert not setup.is_fresh(stamp, 'other')


def test_environment_replaces_a_sourced_distribution_but_keeps_the_users_profile():
    base = {'AMENT_PREFIX_PATH': '/opt/ros/other', 'PATH': '/bin', 'HOME': '/home/me'}
    env = setup.environment(base)
    assert '/opt/ros' not in env['AMENT_PREFIX_PATH']
    assert env['PATH'].startswith(f'{setup.VENV}/bin:')
    assert env['PATH'].endswith(':/bin')
    assert env['HOME'] == '/home/me'
    assert Path(env['FASTDDS_DEFAULT_PROFILES_FILE']).is_file()
    own = setup.environment({'FASTDDS_DEFAULT_PROFILES_FILE': '/mine.xml'})
    assert own['FASTDDS_DEFAULT_PROFILES_FILE'] == '/mine.xml'


def test_activation_script_sets_what_environment_sets():
    script = setup.activation_script() + 'env -0'
    base = {'PATH': os.environ['PATH']}
    output = subprocess.run(['sh', '-c', script], env=base, capture_output=True, check=True).stdout
    found = dict(item.split('=', 1) for item in output.decode().rstrip('\0').split('\0'))
    wanted = setup.environment(base)
    assert {name: found.get(name) for name in wanted} == wanted


def test_requirements_are_pinned():
    for path in setup.ROOT.glob('requirements*.txt'):
        for line in path.read_text().splitlines():
            requirement = line.partition('#')[0].strip()
            assert not requirement or '==' in requirement or requirement.startswith('-r'), line


@pytest.mark.parametrize('minor', [10, 11, 12, 13, 14])
@pytest.mark.parametrize('name', ['requirements.txt', 'requirements-dev.txt'])
def test_every_python_has_one_version_of_each_package(name, minor):
    markers = {'python_version': f'3.{minor}', 'python_full_version': f'3.{minor}.1'}
    wanted = [Requirement(line) for line in setup.pinned(setup.ROOT / name)]
    found = [r.name.lower() for r in wanted if not r.marker or r.marker.evaluate(markers)]
    assert len(found) == len(set(found))
    older = {'exceptiongroup', 'tomli', 'backports.zstd'}  # in newer Pythons themselves
    assert {r.name.lower() for r in wanted} - set(found) <= older


def test_the_node_is_set_up_without_torch_and_the_tests_with_it():
    runtime, tests = (
        {Requirement(line).name.lower() for line in setup.pinned(path)}
        for path in (setup.REQUIREMENTS, setup.TEST_REQUIREMENTS)
    )
    assert not runtime & {'torch', 'scikit-image'}
    assert {'torch', 'scikit-image'} | runtime <= tests


def test_package_xml_names_what_the_package_is_built_on():
    package = (setup.ROOT / 'package.xml').read_text()
    for key in ('rclpy', 'cv_bridge', 'tf_transformations'):
        assert f'depend>{key}<' in package
    for key in ('python3-numpy', 'python3-opencv', 'python3-torch'):
        assert f'<exec_depend>{key}<' in package
    for key in ('pybind11-dev', 'python3-dev'):
        assert f'<build_depend>{key}<' in package


def test_newest_versions_take_the_place_of_the_pinned_ones(tmp_path):
    (tmp_path / 'base.txt').write_text(
        "numpy==1.26.4; python_version < '3.13'  # why\nnumpy==2.2.6\nsome-name==3\n"
    )
    (tmp_path / 'all.txt').write_text('# more\n-r base.txt\nnumpydoc==1\nsome-name==3\n')
    all_of_it = setup.pinned(tmp_path / 'all.txt')
    assert all_of_it[1:] == ['numpy==2.2.6', 'some-name==3', 'numpydoc==1']
    newest = setup.pinned(tmp_path / 'all.txt', ['numpy==2.5.5', 'Some_Name==4', 'other==1'])
    assert newest == ['numpy==2.5.5', 'Some_Name==4', 'numpydoc==1']


def test_newest_versions_are_newer_ones_of_packages_that_are_needed():
    pins = {Requirement(line).name.lower() for line in setup.pinned(setup.TEST_REQUIREMENTS)}
    newest = setup.pinned(setup.NEWEST_REQUIREMENTS)
    assert newest
    assert {Requirement(line).name.lower() for line in newest} <= pins
    assert not set(newest) & set(setup.pinned(setup.TEST_REQUIREMENTS))


def test_the_newest_set_has_an_environment_of_its_own():
    program = 'from tools import setup_bare_machine as s; print(s.VENV.name, s.OVERLAY.name)'
    for value, expected in {'': '.venv .overlay', '1': '.venv-newest .overlay-newest'}.items():
        env = {**os.environ, 'NEWEST': value}
        run = subprocess.run(
            [sys.executable, '-c', program],
            cwd=setup.ROOT,
            env=env,
            capture_output=True,
            text=True,
        )
        assert run.stdout.strip() == expected


@pytest.mark.skipif(shutil.which('colcon') is None, reason='colcon is not installed')
def test_colcon_sees_an_ament_python_package():
    command = ['colcon', 'list', '--base-paths', setup.ROOT]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.split() == ['face_pose_ros', str(setup.ROOT), '(ros.ament_python)']


def test_installed_package_is_complete():
    index = pytest.importorskip('ament_index_python')
    prefix = Path(index.get_package_prefix('face_pose_ros'))
    share = prefix / 'share' / 'face_pose_ros'
    source = setup.ROOT / 'face_pose_ros'
    (installed,) = prefix.glob('lib/python3*/site-packages/face_pose_ros')

    def files(folder: Path, *patterns: str) -> set[str]:
        return {str(p.relative_to(folder)) for pattern in patterns for p in folder.rglob(pattern)}

    kinds = ('*.py', '*.pyi', '*.safetensors', '*.xml', '*.md', '*.jpg', 'py.typed')
    package_files = files(source, *kinds)
    assert package_files >= {'weights/keypoint_network.xml', 'samples/astronaut.jpg', 'py.typed'}
    assert package_files <= files(installed, *kinds)
    assert files(installed, '_core.*.so')
    for folder in ('config', 'launch'):
        wanted = files(setup.ROOT / folder, '*.py', '*.yaml', '*.xml', '*.rviz')
        assert wanted
        assert wanted <= files(share / folder, '*')
    for name in ('package.xml', 'LICENSE', 'NOTICE'):
        assert (share / name).is_file()
    assert os.access(prefix / 'lib' / 'face_pose_ros' / 'pose_node', os.X_OK)
