# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every source file begins with its copyright and licence: `python3 tools/licence_headers.py`.

Exit status 1 and their names if files lack them; `--write` puts them there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = ('Copyright the face_pose_ros authors', 'SPDX-License-Identifier: Apache-2.0')
SUFFIXES = ('.py', '.pyi', '.sh', '.c', '.cpp', '.hpp')
NAMES = ('Makefile', 'Dockerfile', 'CMakeLists.txt', 'run')
_COMMENTS = dict.fromkeys(('.c', '.cpp', '.hpp'), '// ')


def sources() -> list[Path]:
    """The repository's source files, sorted.

    Raises:
        RuntimeError: This is no git repository.
    """
    listed = subprocess.run(
        ['git', 'ls-files'], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise RuntimeError(listed.stderr.strip())
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [p for p in paths if (p.suffix in SUFFIXES or p.name in NAMES) and p.is_file()]


def header_of(path: Path) -> str:
    """The lines that a file begins with, in its own comments."""
    comment = _COMMENTS.get(path.suffix, '# ')
    return ''.join(f'{comment}{line}\n' for line in HEADER)


def with_header(path: Path, text: str) -> str:
    """The text of a file with its header; a first line for the system stays the first."""
    first, rest = '', text
    if text.startswith('#!'):
        first, _, rest = text.partition('\n')
        first += '\n'
    return text if rest.startswith(header_of(path)) else first + header_of(path) + rest


def main(args: Sequence[str] | None = None) -> int:
    """Check, or write; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--write', action='store_true', help='put missing headers there')
    write = parser.parse_args(args).write
    lacking = []
    for path in sources():
        text = path.read_text()
        whole = with_header(path, text)
        if whole == text:
            continue
        if write:
            path.write_text(whole)
        else:
            lacking.append(path)
    for path in lacking:
        print(f'{path.relative_to(ROOT)}: no licence header; --write adds it')
    return 1 if lacking else 0


if __name__ == '__main__':
    sys.exit(main())
