# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Links, files, modules, commands and options in documents exist."""

import re
from functools import cache
from pathlib import Path

import pytest

from face_pose_ros.options import EstimatorOptions, named_options

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (
    'benchmarks', 'config', 'docker', 'docs', 'face_pose_ros', 'findings', 'lab', 'launch',
    'overlay', 'resource', 'test', 'tools',
)  # fmt: skip
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ('*.md', '*.rst', 'NOTICE', '*/*.md', '*/docs/*.md', '*/weights/*.md')
    for path in ROOT.glob(pattern)
    if path.parent == ROOT or path.relative_to(ROOT).parts[0] in FOLDERS
)
SOURCES = (ROOT, ROOT / 'lab')
HISTORY = ('lab/NOTEBOOK.md', 'CHANGELOG.rst')  # may tell what was tried, and what failed
GENERATED = ('__pycache__', 'install')  # folders


def anchors(markdown: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.+)$', markdown, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', h.lower()).strip().replace(' ', '-') for h in headings}


def code_of(markdown: str) -> str:
    """Fenced and indented blocks and all between backticks, one piece a line."""
    fenced = re.findall(r'^```\w*\n(.*?)^```', markdown, re.MULTILINE | re.DOTALL)
    rest = re.sub(r'^```.*?^```', '', markdown, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r'^    .+$', rest, re.MULTILINE)
    return '\n'.join([*fenced, *indented, *re.findall(r'`+([^`\n]+)`+', rest)])


@cache
def file_names() -> set[str]:
    here = {path.name for path in ROOT.iterdir()}
    return here.union(path.name for folder in FOLDERS for path in (ROOT / folder).rglob('*.py'))


def module_problem(name: str) -> str | None:
    """The problem of `package.module` or `package.module.name`; None if it exists."""
    parts = name.split('.')
    for source in SOURCES:
        path, left = source / parts[0], parts[1:]
        if not (path / '__init__.py').is_file():
            continue
        while left and (path / left[0]).is_dir():
            path, left = path / left[0], left[1:]
        if left and (path / f'{left[0]}.py').is_file():
            path, left = path / f'{left[0]}.py', left[1:]
        text = (path if path.is_file() else path / '__init__.py').read_text()
        known = not left or re.search(
            rf"^ *(?:async )?(?:def|class) {left[0]}\b|^ *'?{left[0]}\b.*[=:]",
            text,
            re.MULTILINE,
        )
        return None if known else f'{name}: no {left[0]} in {path.relative_to(ROOT)}'
    return f'{name}: no such module'


def link_problems(text: str, folder: Path) -> list[str]:
    problems = []
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        name, _, anchor = target.partition('#')
        path = folder / name if name else None
        if re.match(r'[a-z]+:', target):
            continue
        if path and not path.exists():
            problems.append(f'link {target}: no such file')
        elif anchor and anchor not in anchors(path.read_text() if path else text):
            problems.append(f'link {target}: no such heading')
    return problems


def path_problems(text: str, folder: Path) -> list[str]:
    """Problems of paths in folders of the repository, and of Python files and scripts."""
    problems = []
    for token in re.findall(r'(?<![\w./<>$~*=:-])[\w-][\w./-]*', text):
        name = token.rstrip('.')
        ours = '/' in name and name.split('/')[0] in FOLDERS
        script = name.endswith(('.py', '.sh'))
        meant = Path(name).stem.isupper() or any(part in GENERATED for part in name.split('/'))
        if meant or not (ours or script):
            continue
        if '/' in name and not ((ROOT / name).exists() or (folder / name).exists()):
            problems.append(f'{name}: no such file')
        elif '/' not in name and name not in file_names():
            problems.append(f'{name}: no file of this name')
    return problems


def module_problems(text: str) -> list[str]:
    names = set(re.findall(r'\bface_pose_(?:ros|lab)(?:\.[A-Za-z_]\w*)+', text))
    pattern = r'^ *from (face_pose_(?:ros|lab)[\w.]*) import ([\w, ]+)$'
    for module, imported in re.findall(pattern, text, re.MULTILINE):
        names.update(f'{module}.{name.strip()}' for name in imported.split(','))
    return [problem for name in sorted(names) if (problem := module_problem(name))]


def command_problems(text: str) -> list[str]:
    code = code_of(text)
    targets = re.findall(r'^(\w[\w-]*):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    programs = re.findall(r"f'(\w+) = ", (ROOT / 'setup.py').read_text())
    return [
        *(
            f'make {name}: no such target'
            for name in re.findall(r'\bmake ([a-z][\w-]*)', code)
            if name not in targets
        ),
        *(
            f'ros2 run face_pose_ros {name}: no such program'
            for name in re.findall(r'ros2 run face_pose_ros (\w+)', code)
            if name not in programs
        ),
        *(
            f'ros2 launch face_pose_ros {name}: no such file'
            for name in re.findall(r'ros2 launch face_pose_ros ([\w.]+)', code)
            if not (ROOT / 'launch' / name).is_file()
        ),
    ]


def option_problems(text: str) -> list[str]:
    """Problems of `detector.`, `keypoints.`, `pose.`, `tracking.`: an option, or a module."""
    known = {name for name, _, _ in named_options(EstimatorOptions())}
    pattern = r'(?<![\w./])(?:detector|keypoints|pose|tracking)\.[a-z_]+'
    return [
        f'{name}: neither an option nor a module'
        for name in re.findall(pattern, code_of(text))
        if name not in known
        and module_problem(f'face_pose_ros.{name}')
        and not name.endswith(('.launch', '.yaml'))
    ]


def example_problems(text: str) -> list[str]:
    problems = []
    for block in re.findall(r'^```python\n(.*?)^```', text, re.MULTILINE | re.DOTALL):
        try:
            compile(block, 'example', 'exec')
        except SyntaxError as error:
            problems.append(f'example: {error}')
    return problems


def problems_of(text: str, folder: Path = ROOT) -> list[str]:
    return [
        *link_problems(text, folder), *path_problems(text, folder), *module_problems(text),
        *command_problems(text), *option_problems(text), *example_problems(text),
    ]  # fmt: skip


@pytest.mark.parametrize('name', DOCUMENTS)
def test_what_a_document_names_exists(name):
    path = ROOT / name
    assert problems_of(path.read_text(), path.parent) == []


@pytest.mark.parametrize('name', [name for name in DOCUMENTS if name not in HISTORY])
def test_a_document_has_no_words_of_a_report(name):
    reports = (
        r'(?i)\b(one-off|asked|missed|one look|anybody|somebody|nobody|weights before|'
        r'before, before|(was|were) at hand|by now|not yet)\b'
    )
    assert [m[0] for m in re.finditer(reports, (ROOT / name).read_text())] == []


def test_all_kinds_of_documents_are_read():
    some = {'README.md', 'CHANGELOG.rst', 'NOTICE', 'findings/README.md', 'docs/tuning.md'}
    some |= {'lab/docs/rendering.md', 'face_pose_ros/weights/keypoint_network.md'}
    assert some <= set(DOCUMENTS)


@pytest.mark.parametrize(
    'broken',
    [
        '[text](docs/nowhere.md)',
        '[text](docs/accuracy.md#no-such-heading)',
        '[text](#no-such-heading)',
        'See docs/nowhere.md.',
        'See `pose/nowhere.py`.',
        'See `test_nowhere.py`.',
        '    python -m face_pose_lab.training.nowhere --count 3',
        '    python -m face_pose_ros.estimator.nowhere',
        '```python\nfrom face_pose_ros.samples import load_portraits, nothing\n```',
        '`make nothing`',
        '    ros2 run face_pose_ros nothing',
        '    ros2 launch face_pose_ros nothing.launch.py',
        '`tracking.nothing`',
        '```python\nfor face in faces\n```',
    ],
)
def test_what_does_not_exist_is_a_problem(broken):
    assert len(problems_of(broken)) >= 1


def test_what_exists_is_none():
    text = """
[text](docs/performance.md#over-dds) [web](https://docs.ros.org) `make test` `pose.launch.py`

    python -m face_pose_lab.training.train lab/config/hourglass.yaml out=runs/hourglass
    ros2 run face_pose_ros pose_node  # `face_pose_ros.ros.conversions.transform`

`tracking.detect_every` `keypoints.semantic.NAMES`
"""
    assert problems_of(text) == []
