# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Machine code is never older than the sources, and is kept wherever it can be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import face_pose_ros

PACKAGE = Path(face_pose_ros.__file__).parent
KERNEL = """
from face_pose_ros.geometry.jit import compiled
from face_pose_ros.kernels import (  # in parentheses
    offset,
)


@compiled
def moved(x):
    return x / 2 + offset.METRES
"""
TWICE = """
from face_pose_ros.geometry.jit import compiled
from face_pose_ros.kernels.moved import moved


@compiled
def twice(x):
    return 2 * moved(x)
"""
PROGRAM = """
from face_pose_ros.kernels.moved import moved
print(moved(3.0), len(moved.stats.cache_hits) if moved.stats.cache_path else 'memory')
"""


@pytest.fixture
def package(tmp_path):
    """A copy of what compiles, with one function that uses another file's constant."""
    root = tmp_path / 'lib' / 'face_pose_ros'
    (root / 'kernels').mkdir(parents=True)
    (root / 'geometry').mkdir()
    for name in ('__init__.py', 'cache.py', 'geometry/__init__.py', 'geometry/jit.py'):
        shutil.copy(PACKAGE / name, root / name)
    (root / 'kernels' / '__init__.py').touch()
    (root / 'kernels' / 'moved.py').write_text(KERNEL)
    (root / 'kernels' / 'offset.py').write_text('METRES = 0.25\n')
    return root


def run(package: Path, program: str = PROGRAM, **variables: str) -> tuple[list[str], str]:
    """What a program prints; PROGRAM: a function's value, how often it was loaded from disk."""
    base = {
        name: os.environ[name]
        for name in ('PATH', 'LD_LIBRARY_PATH', '_ROS_WHEELS_BOOTSTRAP_COMPLETE')
        if name in os.environ
    }
    env = {**base, 'HOME': str(package / 'file'), 'PYTHONPATH': str(package.parent), **variables}
    env.setdefault('TMPDIR', str(package.parent.parent))
    done = subprocess.run(
        [sys.executable, '-B', '-c', program],
        cwd=package.parent,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


def test_a_changed_constant_of_another_file_is_seen(package):
    assert run(package)[0] == ['1.75', '0']
    assert run(package)[0] == ['1.75', '1']  # from disk
    (package / 'kernels' / 'offset.py').write_text('METRES = 0.75\n')
    assert run(package)[0] == ['2.25', '0']
    assert len(list((package / '__pycache__' / 'numba').iterdir())) == 1  # no outdated code stays


@pytest.mark.parametrize('length', [0, 100])
@pytest.mark.parametrize('kind', ['nbi', 'nbc'])
def test_what_a_loss_of_power_left_is_compiled_anew(package, kind, length):
    run(package)
    (file,) = (package / '__pycache__' / 'numba').rglob(f'*.{kind}')
    file.write_bytes(file.read_bytes()[:length])
    assert run(package)[0] == ['1.75', '0']
    assert run(package)[0] == ['1.75', '1']


def test_a_function_from_disk_can_be_called_by_one_that_is_compiled_later(package):
    run(package)
    (package / 'kernels' / 'twice.py').write_text(TWICE)
    program = """
from face_pose_ros.kernels.moved import moved
from face_pose_ros.kernels.twice import twice
print(moved(3.0), len(moved.stats.cache_hits), twice(3.0), len(twice.stats.cache_hits))
"""
    assert run(package, program)[0] == ['1.75', '1', '3.5', '0']


def test_numba_need_not_import_scipys_linear_algebra(package):
    program = """
import sys
from face_pose_ros.geometry.jit import without_blas
without_blas()
from face_pose_ros.kernels.moved import moved
print(moved(3.0), 'scipy.linalg' in sys.modules)
"""
    assert run(package, program)[0] == ['1.75', 'False']


def test_an_unrelated_file_may_change(package):
    run(package)
    (package / 'kernels' / 'other.py').write_text('METRES = 0.5\n')
    assert run(package)[0] == ['1.75', '1']


def block(package: Path) -> None:
    """Make the installation one that cannot be written, even by root."""
    (package / '__pycache__').touch()
    (package / 'file').touch()


def test_a_folder_of_the_environment_is_used(package, tmp_path):
    block(package)
    folder = tmp_path / 'mine'
    assert run(package, NUMBA_CACHE_DIR=str(folder))[0] == ['1.75', '0']
    assert run(package, NUMBA_CACHE_DIR=str(folder))[0] == ['1.75', '1']


def test_a_read_only_installation_without_a_home_uses_a_folder_of_its_own(package, tmp_path):
    block(package)
    assert run(package) == (['1.75', '0'], '')
    assert run(package) == (['1.75', '1'], '')
    assert (tmp_path / f'face_pose_ros-{os.geteuid()}-numba').is_dir()


def test_with_nothing_writable_code_stays_in_memory_with_one_warning(package):
    block(package)
    (package.parent.parent / f'face_pose_ros-{os.geteuid()}-numba').touch()
    found, printed = run(package)
    assert found == ['1.75', 'memory']
    (line,) = printed.splitlines()
    assert 'NUMBA_CACHE_DIR' in line
    assert 'tens of seconds' in line


def test_other_users_of_numba_keep_their_folder():
    from numba import config

    from face_pose_ros.geometry.jit import compiled

    before = config.CACHE_DIR
    assert compiled(lambda x: x + 0.5)(1) == 1.5
    assert before == config.CACHE_DIR
