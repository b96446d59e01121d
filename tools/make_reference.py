# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Writes what is made from declarations: docs/ros_api.md and config/pose.yaml.

    python tools/make_reference.py [--check]

With --check nothing is written; the exit status is 1 if a file is stale. `make docs` runs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ros_api import EXECUTABLES, Executable, Topic

from face_pose_ros.options import Option, named_options
from face_pose_ros.ros.parameters import Parameters

ROOT = Path(__file__).resolve().parents[1]
YAML_HEADER = """\
# Parameters of pose_node at their defaults. Those marked with * are read at start; all others can
# be changed while the node runs. Written by tools/make_reference.py.
/**:
  ros__parameters:
"""
MARKDOWN_HEADER = """\
# ROS API

Written by `make docs` from the declared parameters and `tools/ros_api.py`. Frames, units and
covariance: [conventions.md](conventions.md).

- Every output has the header of its image.
- Names without a leading `/` or `~/` are relative: `-r __ns:=/front`, or remap.
- Parameters marked * are read at start. All others can be changed at run time and apply from the
  next image.
- An unknown parameter, or a value out of range, ends the start with one line; at run time it is
  refused.
- Every node also has the parameter services of ROS 2.
- `qos_overrides.<topic>.subscription.` and `.publisher.` with `reliability`, `durability`,
  `history`, `depth` change the QoS of the pose node's topics.
- Launch arguments: `ros2 launch face_pose_ros pose.launch.py --show-args`.
- In Python, a parameter of `pose_node` is the option of the same name:
  `EstimatorOptions().tracking.detect_every`.

`multi_camera` runs several pose nodes in one process: [cameras.md](cameras.md#several-cameras).
`face_pose_bag` is no node: [bags.md](bags.md).
"""


def value_text(value: object) -> str:
    """A default as YAML and ROS read it; empty text in quotes."""
    if isinstance(value, tuple):
        return f'[{", ".join(map(value_text, value))}]'
    if value == '':
        return "''"
    return str(value).lower() if isinstance(value, bool) else str(value)


def range_of(known: Option) -> str:
    """The allowed values in a few characters; empty: any."""
    if known.choices:
        return ', '.join(known.choices)
    return '' if known.low is None else f'{known.low:g} .. {known.high:g}'


def pose_yaml(options: Iterable[tuple[str, Any, Option]]) -> str:
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
        lines.append(f'{"  " * (2 + len(parents))}{leaf}: {value_text(value)}  # {about}\n')
    return ''.join(lines)


def table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; empty without rows."""
    lines = [f'| {" | ".join(row)} |'.replace('  ', ' ') for row in rows]
    if not lines:
        return ''
    return '\n'.join(['', head, '|' + '---|' * (head.count('|') - 1), *lines, ''])


def topic_rows(topics: Iterable[Topic]) -> Iterable[tuple[str, ...]]:
    """Name, type and text."""
    return [(f'`{topic.name}`', topic.type, topic.text) for topic in topics]


def section(executable: Executable) -> str:
    """Reference section of an executable."""
    parts = [f'\n## {executable.name}\n\n{executable.text} Node `{executable.node}`.\n']
    parts.append(table('| subscribed | type | |', topic_rows(executable.subscribed)))
    parts.append(table('| published | type | |', topic_rows(executable.published)))
    parts.append(table('| service | type | |', topic_rows(executable.services)))
    rows = [
        (
            f'`{name}`{" *" if known.start_only else ""}',
            value_text(value),
            range_of(known),
            known.unit,
            known.text.replace('<', '&lt;'),
        )
        for name, value, known in named_options(executable.parameters)
    ]
    parts.append(table('| parameter | default | range | unit | |', rows))
    return ''.join(parts)


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='only tell whether a file is stale')
    check = parser.parse_args().check
    made = {
        ROOT / 'config' / 'pose.yaml': pose_yaml(named_options(Parameters())),
        ROOT / 'docs' / 'ros_api.md': MARKDOWN_HEADER + ''.join(map(section, EXECUTABLES)),
    }
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f'{path.relative_to(ROOT)}: {"stale, run make docs" if check else "written"}')
        if not check:
            path.write_text(made[path])
    return 1 if check and stale else 0


if __name__ == '__main__':
    sys.exit(main())
