# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compares this build with another one: runs a benchmark of both alternately, in processes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent.parent
ROUNDS = 3


def add_against(parser: argparse.ArgumentParser) -> None:
    """The option --against."""
    parser.add_argument(
        '--against', type=Path, metavar='WORKTREE', help='also measure the build in this folder'
    )


def compare(script: str | Path, other: Path, own: bool = False) -> None:
    """Run a benchmark of both builds with the arguments of this process; print their ratio.

    Args:
        script: Of this build, with an option --json; the other build has one of the same name.
        other: Root of the other build's worktree.
        own: Measure the other build with this build's script.

    Raises:
        SystemExit: The folder holds no build, or a run failed.
    """
    script, other = Path(script).resolve(), other.resolve()
    scripts = {other: script if own else other / script.relative_to(HERE), HERE: script}
    for path in (scripts[other], other / 'face_pose_ros'):
        if not path.exists():
            sys.exit(f'--against {other}: there is no {path}; give the root of a worktree')
    arguments = _without_against(sys.argv[1:])
    figures = {root: defaultdict(list) for root in scripts}
    for turn in range(ROUNDS):
        for root, path in scripts.items():
            for name, value in _figures(path, root, arguments):
                figures[root][name].append(value)
            print(f'round {turn + 1} of {ROUNDS}: {root}', flush=True)
    print(f'{"median of the rounds":<52}{"other":>10}{"this":>10}{"ratio":>8}')
    for name, values in figures[HERE].items():
        if name in figures[other]:
            before, now = median(figures[other][name]), median(values)
            ratio = now / before if before else float('nan')
            print(f'{name:<52}{before:>10.4g}{now:>10.4g}{ratio:>8.2f}')


def _figures(script: Path, root: Path, arguments: Sequence[str]) -> Iterator[tuple[str, float]]:
    paths = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    others = [path for path in paths if path and HERE not in (Path(path), Path(path).parent)]
    python_path = os.pathsep.join([str(root), str(root / 'lab'), *others])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'figures.json'
        run = subprocess.run(
            [sys.executable, str(script), *arguments, '--json', str(file)],
            env={**os.environ, 'PYTHONPATH': python_path},
            cwd=root,
            capture_output=True,
            text=True,
        )
        if not file.is_file():
            sys.exit(f'{script} failed:\n{run.stdout[-2000:]}{run.stderr[-2000:]}')
        content = json.loads(file.read_text())
    yield from _numbers('', content.get('results', content))


def _numbers(name: str, value: object) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(f'{name}, {key}' if name else key, part)
    elif isinstance(value, int | float):
        yield name, float(value)


def _without_against(arguments: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if not skip and not argument.startswith('--against='):
            skip = argument == '--against'
            if not skip:
                kept.append(argument)
        else:
            skip = False
    return kept
