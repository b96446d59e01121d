"""Writes what is made from the declared options: config/pose.yaml and docs/parameters.md.

    python tools/make_reference.py [--check]

With --check nothing is written; the exit status is 1 if a file is stale.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from face_pose_ros.options import Option
from face_pose_ros.ros.parameters import Parameters

ROOT = Path(__file__).resolve().parents[1]
YAML_HEADER = """\
# Parameters of pose_node, all at their defaults. Those marked with * are read at start; all others
# can be changed while the node runs. Made by tools/make_reference.py.
/**:
  ros__parameters:
"""
MARKDOWN_HEADER = """\
# Parameters of `pose_node`

Parameters marked * are read at start. All others can be changed at run time and apply from the
next image. In Python each is the option of the same name of `EstimatorOptions`:
`EstimatorOptions().tracking.detect_every`. Made by `tools/make_reference.py`.

| parameter | default | range | unit | meaning |
|---|---|---|---|---|
"""


def yaml_value(value: object) -> str:
    """As YAML and ROS read it: a number with a point is a double."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def range_of(known: Option) -> str:
    """The allowed values in a few characters; empty: any."""
    if known.choices:
        return ', '.join(known.choices)
    return '' if known.low is None else f'{known.low:g} .. {known.high:g}'


def pose_yaml(options: list[tuple[str, Any, Option]]) -> str:
    """The parameter file."""
    lines, group = [YAML_HEADER], ''
    for name, value, known in options:
        *parents, leaf = name.split('.')
        if ''.join(parents) != group:
            group = ''.join(parents)
            lines.append(f'    {group}:\n')
        about = ' '.join(
            part
            for part in (
                '*' if known.start_only else '',
                f'[{known.unit}]' if known.unit else '',
                f'{range_of(known)};' if range_of(known) else '',
                known.text,
            )
            if part
        )
        lines.append(f'{"  " * (2 + len(parents))}{leaf}: {yaml_value(value)}  # {about}\n')
    return ''.join(lines)


def parameters_md(options: list[tuple[str, Any, Option]]) -> str:
    """The parameter reference."""
    rows = [
        f'| `{name}`{" *" if known.start_only else ""} | {yaml_value(value)} | {range_of(known)} '
        f'| {known.unit} | {known.text} |\n'
        for name, value, known in options
    ]
    return MARKDOWN_HEADER + ''.join(rows)


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='only tell whether a file is stale')
    check = parser.parse_args().check
    options = Parameters().options()
    made = {
        ROOT / 'config' / 'pose.yaml': pose_yaml(options),
        ROOT / 'docs' / 'parameters.md': parameters_md(options),
    }
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f'{path.relative_to(ROOT)}: {"stale" if check else "written"}')
        if not check:
            path.write_text(made[path])
    return 1 if check and stale else 0


if __name__ == '__main__':
    sys.exit(main())
