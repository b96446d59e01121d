# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Installs ROS 2 and this package on a Linux machine without a ROS distribution.

`install` creates `.venv` (ROS 2 wheels and the pinned requirements) and builds the workspace
`.overlay` (tf2_msgs, which has no wheel, and face_pose_ros itself); what is up to date is left
alone. `install --tests` adds what the tests, the checks and the lab need. `run -- COMMAND ...`
executes a command in that environment; `. .overlay/activate.sh` gives the same to a shell.

With NEWEST=1 in the environment, all of this happens in `.venv-newest` and `.overlay-newest`, with
the versions of requirements-newest.txt.
"""

from __future__ import annotations  # lets older Pythons reach the message about their version

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEWEST = os.environ.get('NEWEST', '') not in ('', '0')
VENV = ROOT / ('.venv-newest' if NEWEST else '.venv')
OVERLAY = ROOT / ('.overlay-newest' if NEWEST else '.overlay')
REQUIREMENTS = ROOT / 'requirements.txt'
NEWEST_REQUIREMENTS = ROOT / 'requirements-newest.txt'
TEST_REQUIREMENTS = ROOT / 'requirements-dev.txt'
PARITY_REQUIREMENTS = ROOT / 'requirements-parity.txt'
TF2_MSGS = ROOT / 'overlay' / 'tf2_msgs'
# Without `ros2 run`, the nodes are started by their names.
PROGRAMS = (VENV / 'bin', OVERLAY / 'install' / 'face_pose_ros' / 'lib' / 'face_pose_ros')
PACKAGE_FILES = (
    'setup.py', 'setup.cfg', 'package.xml', 'LICENSE', 'NOTICE', 'resource', 'launch', 'config',
    'src', 'face_pose_ros',
)  # fmt: skip
PYTHONS = ((3, 10), (3, 14))  # the first and the last version that the ROS 2 wheels exist for

# Python paths of the machine that built the wheels, still in their CMake files.
BUILD_INCLUDE = re.compile(r'/opt/python/cp\d+-cp\d+/include/python\d\.\d+')
BUILD_NUMPY = re.compile(
    r'/opt/python/cp\d+-cp\d+/lib/python[\d.]+/site-packages/numpy[\w/]*/include'
)


class SetupError(Exception):
    """A failed set-up; the text says what to do, in one line."""


def python_problem(
    version: tuple[int, int], implementation: str, system: str, machine: str
) -> str | None:
    """The reason why the ROS 2 wheels cannot run with this Python; None if they can."""
    first, last = ('.'.join(map(str, v)) for v in PYTHONS)
    if implementation != 'CPython' or not PYTHONS[0] <= version <= PYTHONS[1]:
        found = f'{implementation} {version[0]}.{version[1]}'
        return f'needs CPython {first} to {last}, found {found}: make PYTHON=/path/to/python3'
    if (system, machine) != ('Linux', 'x86_64'):
        return f'the ROS 2 wheels are for Linux on x86_64 only, this is {system} on {machine}'
    return None


def compiler_problem(environ: Mapping[str, str]) -> str | None:
    """The missing compiler; None if there is one for C and one for C++."""
    choices = {'C': ('CC', 'cc gcc clang'), 'C++': ('CXX', 'c++ g++ clang++')}
    for language, (variable, names) in choices.items():
        wanted = shlex.split(environ.get(variable, ''))[:1] or names.split()
        if not any(shutil.which(name, path=environ.get('PATH')) for name in wanted):
            return (
                f'no {language} compiler ({" or ".join(wanted)}); '
                'on Debian and Ubuntu: sudo apt install g++'
            )
    return None


def standard_library_problem() -> str | None:
    """The part of Python's standard library that is missing; None if none is."""
    major, minor = sys.version_info[:2]
    package = f'on Debian and Ubuntu: sudo apt install python{major}.{minor}'
    if any(importlib.util.find_spec(name) is None for name in ('venv', 'ensurepip')):
        return f'{sys.executable} has no venv module; {package}-venv'
    if not Path(sysconfig.get_path('include'), 'Python.h').exists():
        return f'{sys.executable} has no C headers; {package}-dev'
    return None


def fingerprint(paths: Iterable[Path], *facts: str) -> str:
    """Hashes facts, file names and file contents; folders count with all their sources."""
    digest = hashlib.sha256('\0'.join(facts).encode())
    for path in paths:
        files = sorted(path.rglob('*')) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and '__pycache__' not in file.parts and file.suffix != '.so':
                digest.update(f'\0{file.relative_to(path.parent)}\0'.encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


def python_key() -> str:
    """Returns what `.venv` depends on: this Python and its path, since it cannot be moved."""
    return fingerprint([], sys.version, sysconfig.get_path('include'), str(ROOT))


def pinned(path: Path, instead: Sequence[str] = ()) -> list[str]:
    """Returns the lines of a requirements file and of those that it includes.

    Args:
        path: The file.
        instead: Lines that take the place of those for the same packages.
    """
    lines: list[str] = []
    others = {_package(line): line for line in instead}
    for line in path.read_text().splitlines():
        requirement = line.partition('#')[0].strip()
        if requirement.startswith('-r '):
            lines += pinned(path.parent / requirement[3:].strip(), instead)
        elif requirement:
            lines.append(others.get(_package(requirement), requirement))
    return list(dict.fromkeys(lines))


def _package(requirement: str) -> str:
    return re.split(r'[=<>~!;\[ ]', requirement, maxsplit=1)[0].lower().replace('_', '-')


def is_fresh(stamp: Path, key: str) -> bool:
    """Tells whether the step that wrote this stamp was last finished with this key."""
    return stamp.is_file() and stamp.read_text() == key


def patch_cmake_text(text: str, python_include: str, numpy_include: str) -> str:
    """Replaces the build machine's header folders by those of the Python in use."""
    text = BUILD_NUMPY.sub(lambda _: numpy_include, text)
    return BUILD_INCLUDE.sub(lambda _: python_include, text)


def patch_cmake_files(share: Path, python_include: str, numpy_include: str) -> int:
    """Patches every CMake file under `share` that needs it; returns how many did."""
    patched = 0
    for path in share.rglob('*.cmake'):
        before = path.read_text()
        after = patch_cmake_text(before, python_include, numpy_include)
        if after != before:
            path.write_text(after)
            patched += 1
    return patched


def _site_packages(prefix: Path) -> Path:
    return prefix / 'lib' / f'python{sys.version_info[0]}.{sys.version_info[1]}' / 'site-packages'


def ros_variables() -> dict[str, str]:
    """Returns the variables that the wheels, the overlay and colcon need.

    They replace what the shell has: a sourced ROS distribution and these wheels do not mix.
    """
    prefixes = [OVERLAY / 'install' / name for name in ('face_pose_ros', 'tf2_msgs')]
    libraries = [OVERLAY / 'install' / 'tf2_msgs' / 'lib', VENV / 'lib']
    libraries += sorted(_site_packages(VENV).glob('ros_*.libs'))
    # The source tree comes before its installed copy: an edit counts without a build.
    modules = [ROOT, ROOT / 'lab', *map(_site_packages, prefixes)]
    lists = {
        'AMENT_PREFIX_PATH': [*prefixes, VENV],
        'CMAKE_PREFIX_PATH': [*prefixes, VENV],
        'LD_LIBRARY_PATH': libraries,
        'PYTHONPATH': modules,
    }
    return {
        'VIRTUAL_ENV': str(VENV),
        **{name: os.pathsep.join(map(str, paths)) for name, paths in lists.items()},
        'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp',  # the only one among the wheels
        # Without it each Python start is two: the wheels restart it to set LD_LIBRARY_PATH.
        '_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1',
    }


def default_variables() -> dict[str, str]:
    """Returns the variables that the user's environment may override."""
    profile = str(ROOT / 'config' / 'fastdds_large_images.xml')
    return {'FASTDDS_DEFAULT_PROFILES_FILE': profile}


def environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns `base` plus the variables that ROS 2 and this package need."""
    path = os.pathsep.join([*map(str, PROGRAMS), base.get('PATH', os.defpath)])
    return {**default_variables(), **base, **ros_variables(), 'PATH': path}


def activation_script() -> str:
    """Returns the shell lines that do what `environment` does."""
    lines = [f'export {name}={shlex.quote(value)}' for name, value in ros_variables().items()]
    lines += [
        f'export {name}="${{{name}:-{value}}}"' for name, value in default_variables().items()
    ]
    path = shlex.quote(os.pathsep.join(map(str, PROGRAMS)))
    return '\n'.join([*lines, f'export PATH={path}:"$PATH"', ''])


@contextlib.contextmanager
def _step(number: int, title: str) -> Iterator[None]:
    print(f'[{number}/4] {title} ...', end='', flush=True)
    start_s = time.monotonic()
    try:
        yield
    except BaseException:
        print(' stopped', flush=True)
        raise
    print(f' {time.monotonic() - start_s:.1f} s', flush=True)


def _execute(command: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> None:
    """Runs a command with its output in `log`; a failure shows the end of it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('w') as output:
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=dict(env), stdout=output, stderr=output
        )
        waited_s = 0
        while True:
            try:
                code = process.wait(timeout=5)
                break
            except subprocess.TimeoutExpired:
                waited_s += 5
                print(f' {waited_s} s' if waited_s % 15 == 0 else '.', end='', flush=True)
    if code:
        tail = log.read_text(errors='replace').splitlines()[-20:]
        print('', *tail, sep='\n', file=sys.stderr)
        raise SetupError(f'{shlex.join(map(str, command[:4]))} ... failed; all it said: {log}')


def _without_make(env: Mapping[str, str]) -> dict[str, str]:
    """Removes make's own variables; inner makes would wait for the outer job server."""
    return {name: value for name, value in env.items() if name not in ('MAKEFLAGS', 'MAKELEVEL')}


def _colcon_build(source: Path, log: Path) -> None:
    # Built on the wheels alone: the overlay is being built.
    env = {**_without_make(environment()), 'PYTHONPATH': ''}
    env.update(AMENT_PREFIX_PATH=str(VENV), CMAKE_PREFIX_PATH=str(VENV))
    command: list[str | Path] = [VENV / 'bin' / 'colcon', '--log-base', OVERLAY / 'log', 'build']
    command += ['--base-paths', source, '--event-handlers', 'console_direct+']
    command += ['--build-base', OVERLAY / 'build', '--install-base', OVERLAY / 'install']
    command += ['--cmake-args', f'-DPython3_EXECUTABLE={VENV}/bin/python']
    command += ['-DCMAKE_BUILD_TYPE=Release', '-DBUILD_TESTING=OFF']
    _execute(command, log, env)


def _build_package(name: str, source: Path, inputs: Iterable[Path], base_key: str) -> None:
    key = fingerprint(inputs, base_key)
    stamp = OVERLAY / f'{name}.stamp'
    if is_fresh(stamp, key):
        return
    # Or files that the source no longer has would remain. Object files are kept: setup.py knows
    # which ones are current.
    for folder in (OVERLAY / 'install' / name, *(OVERLAY / 'build' / name).glob('build/lib*')):
        shutil.rmtree(folder, ignore_errors=True)
    _colcon_build(source, OVERLAY / f'{name}.log')
    stamp.write_text(key)


def _place_core() -> None:
    """Copies the compiled module into the source tree, which comes first on the path."""
    package = _site_packages(OVERLAY / 'install' / 'face_pose_ros') / 'face_pose_ros'
    (built,) = package.glob('_core.*.so')
    target = ROOT / 'face_pose_ros' / built.name
    if not target.is_file() or target.read_bytes() != built.read_bytes():
        # Not in place: a running program keeps the file that it has loaded.
        target.unlink(missing_ok=True)
        shutil.copy2(built, target)


def _pip_install(requirements: Path, *options: str, only: Collection[str] = ()) -> None:
    instead = pinned(NEWEST_REQUIREMENTS) if NEWEST else ()
    wanted = [line for line in pinned(requirements, instead) if not only or _package(line) in only]
    lines = VENV / requirements.name
    lines.write_text('\n'.join(wanted) + '\n')
    command: list[str | Path] = [VENV / 'bin' / 'python', '-m', 'pip', 'install', *options]
    command += ['--disable-pip-version-check', '--no-input', '-r', lines]
    _execute(command, VENV / f'pip-{requirements.stem}.log', environment())


@contextlib.contextmanager
def _incomplete() -> Iterator[None]:
    """Marks `.venv` as incomplete: a killed pip may leave half a package."""
    (VENV / 'python.stamp').unlink(missing_ok=True)
    yield
    (VENV / 'python.stamp').write_text(python_key())


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Compiles `src/` beside what runs in this context; downloads leave a core idle.

    The build of the package takes the object files over. It compiles what is missing and shows
    errors, which here are in the log alone.
    """
    build: list[str | Path] = [VENV / 'bin' / 'python', 'setup.py', 'build', '--build-base']
    build += [OVERLAY / 'build' / 'face_pose_ros' / 'build']
    with (OVERLAY / 'compile.log').open('w') as log:
        process = subprocess.Popen(
            build, cwd=ROOT, env=_without_make(os.environ), stdout=log, stderr=log
        )
        try:
            yield
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()


def _install_runtime() -> None:
    _pip_install(REQUIREMENTS)
    numpy_include = subprocess.run(
        [VENV / 'bin' / 'python', '-c', 'import numpy; print(numpy.get_include())'],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    patch_cmake_files(VENV / 'share', sysconfig.get_path('include'), numpy_include)


def install(tests: bool = False) -> None:
    """Brings `.venv` and `.overlay` up to date.

    Args:
        tests: Whether to install what tests, checks and lab need.
    """
    problem = (
        python_problem(
            sys.version_info[:2],
            platform.python_implementation(),
            platform.system(),
            platform.machine(),
        )
        or standard_library_problem()
        or compiler_problem(os.environ)
    )
    if problem:
        raise SetupError(problem)

    newest = [NEWEST_REQUIREMENTS] if NEWEST else []
    packages_key = fingerprint([REQUIREMENTS, *newest], python_key())
    tests_key = fingerprint(sorted(ROOT.glob('requirements*.txt')), packages_key)

    compiling: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    with _step(1, f'virtual environment {VENV.name}'):
        if not is_fresh(VENV / 'python.stamp', python_key()):
            if (VENV / 'python.stamp').is_file():
                print(f' made again for Python {platform.python_version()} ...', end='')
            shutil.rmtree(VENV, ignore_errors=True)
            log = OVERLAY / 'venv.log'
            _execute([sys.executable, '-m', 'venv', VENV], log, os.environ)
            _pip_install(REQUIREMENTS, only=('pybind11', 'setuptools'))
            compiling = _compiling()

    with compiling:
        with _step(2, 'Python packages and ROS 2 wheels'):
            if not is_fresh(VENV / 'packages.stamp', packages_key):
                with _incomplete():
                    _install_runtime()
                (VENV / 'packages.stamp').write_text(packages_key)
            if tests and not is_fresh(VENV / 'tests.stamp', tests_key):
                with _incomplete():
                    _pip_install(TEST_REQUIREMENTS)
                    _pip_install(PARITY_REQUIREMENTS, '--no-deps')
                (VENV / 'tests.stamp').write_text(tests_key)

        with _step(3, 'building tf2_msgs'):
            _build_package('tf2_msgs', TF2_MSGS, [TF2_MSGS], packages_key)

    with _step(4, 'building face_pose_ros'):
        inputs = [ROOT / name for name in PACKAGE_FILES]
        _build_package('face_pose_ros', ROOT, inputs, packages_key)
        _place_core()
        (OVERLAY / 'activate.sh').write_text(activation_script())


def run(command: Sequence[str]) -> None:
    """Replaces this process by the command, in the installed environment."""
    if not is_fresh(VENV / 'python.stamp', python_key()):
        raise SetupError(f'.venv is not complete, or not for {sys.executable}: make setup')
    env = environment()
    program = shutil.which(command[0], path=env['PATH'])
    if program is None:
        raise SetupError(f'no such command: {command[0]}')
    os.execve(program, list(command), env)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Makes a second set-up of the same tree wait for the first."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def main(arguments: Sequence[str]) -> int:
    """Parses the command line; returns the exit code."""
    # argparse strips a second -- too, depending on the version, and that one is the command's.
    split = arguments.index('--') if '--' in arguments else len(arguments)
    command = arguments[split + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        usage='%(prog)s install [--tests] | %(prog)s run -- COMMAND ...',
    )
    parser.add_argument('verb', choices=['install', 'run'], help='see above')
    parser.add_argument('--tests', action='store_true', help='also for tests and lab')
    options = parser.parse_args(arguments[:split])
    if (options.verb == 'run') != bool(command):
        parser.error('run takes a command, install takes none')
    try:
        if options.verb == 'run':
            run(command)
        with _locked(ROOT):
            install(options.tests)
    except SetupError as error:
        print(f'setup: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
