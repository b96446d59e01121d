# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Release files agree: package.xml, changelog, container, public CI."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tools.licence_headers as licence_headers
import tools.setup_bare_machine as setup
from face_pose_ros import _core

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / 'docker' / 'Dockerfile').read_text()
WORKFLOW = yaml.safe_load((ROOT / '.github' / 'workflows' / 'ci.yml').read_text())
PRE_COMMIT = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())


@pytest.fixture(scope='module')
def package():
    catkin_pkg = pytest.importorskip('catkin_pkg.package', reason='comes with colcon')
    return catkin_pkg.parse_package(ROOT / 'package.xml')


def test_package_xml_has_author_and_addresses(package):
    package.validate()
    assert package.maintainers
    assert package.authors
    assert {url.type for url in package.urls} == {'website', 'repository', 'bugtracker'}
    assert package.licenses == ['Apache-2.0', 'MIT']
    for licence in package.licenses:
        assert (ROOT / licence.file).is_file()


def test_only_package_xml_has_addresses_to_fill_in():
    command = ['git', 'grep', '-l', r'\.invalid\b', '--', ':!test', ':!overlay']
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode > 1:
        pytest.skip('no git repository')
    assert listed.stdout.split() == ['package.xml']


def test_setup_py_takes_name_and_version_from_package_xml(package):
    shown = subprocess.run(
        [sys.executable, 'setup.py', '--quiet', '--name', '--version', '--maintainer', '--url'],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()[-4:]  # fmt: skip
    website = next(url.url for url in package.urls if url.type == 'website')
    assert shown == [package.name, package.version, package.maintainers[0].name, website]


def test_a_release_depends_on_binary_packages_alone(package):
    """The build farm takes no pip keys (ros/rosdistro #39892)."""
    keys = {str(d) for d in (*package.exec_depends, *package.build_depends)}
    assert not {key for key in keys if key.endswith('-pip')}
    assert not keys & {'rosbags', 'rerun-sdk', 'simplejpeg'}


def test_the_changelog_is_read_and_its_release_is_the_packages(package):
    changelog = pytest.importorskip('catkin_pkg.changelog').get_changelog_from_path(
        ROOT, package.name
    )
    version, _, _ = next(changelog.foreach_version(reverse=True))
    assert version == package.version
    (bullets,) = changelog.get_content_of_version(version)
    assert len(bullets.bullets) >= 10


def test_rosdoc2_finds_what_its_file_names(package):
    (export,) = [e for e in package.exports if e.tagname == 'rosdoc2']
    _, config = yaml.safe_load_all((ROOT / export.content).read_text())
    assert (ROOT / config['settings']['python_source'] / '__init__.py').is_file()
    docs = ROOT / config['builders'][0]['sphinx']['sphinx_sourcedir']
    assert (docs / 'conf.py').is_file()
    listed = set(re.findall(r'^   (\w+)$', (docs / 'index.rst').read_text(), re.MULTILINE))
    # modules and standards are made by rosdoc2.
    assert listed - {'modules', 'standards'} == {path.stem for path in docs.glob('*.md')}


def test_the_container_skips_only_keys_of_package_xml(package):
    keys = {str(d) for d in package.exec_depends}
    (skipped,) = re.findall(r'--skip-keys (\S+)', DOCKERFILE)
    assert skipped in keys
    assert 'FROM ros:${ROS_DISTRO}-perception' in DOCKERFILE
    for module in ('openvino', 'rosbags', 'simplejpeg'):
        assert re.search(rf'\b{module}\b', DOCKERFILE)


def test_public_ci_covers_the_supported_pythons_and_distributions():
    jobs = WORKFLOW['jobs']
    pythons = jobs['bare-machine']['strategy']['matrix']['python']
    versions = {tuple(map(int, version.split('.'))) for version in pythons}
    assert setup.PYTHONS[0] in versions
    assert all(setup.PYTHONS[0] <= version <= setup.PYTHONS[1] for version in versions)
    distributions = set(jobs['distribution']['strategy']['matrix']['ros'])
    assert distributions == {'jazzy', 'kilted', 'lyrical', 'rolling'}
    targets = set(re.findall(r'^(\w[\w-]*):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    for job in jobs.values():
        for step in job['steps']:
            for words in re.findall(r'^make ([a-z ]+)', step.get('run', ''), re.MULTILINE):
                assert set(words.split()) <= targets


def test_pre_commit_checks_with_the_ruff_of_the_tests():
    (revision,) = [r['rev'] for r in PRE_COMMIT['repos'] if 'ruff' in r['repo']]
    pinned = (ROOT / 'requirements-dev.txt').read_text()
    assert f'ruff=={revision.removeprefix("v")}\n' in pinned.replace(' ', '\n')
    hooks = {hook['id'] for repo in PRE_COMMIT['repos'] for hook in repo['hooks']}
    assert hooks >= {'ruff-check', 'ruff-format', 'codespell', 'licence-headers'}


def test_without_rosbags_the_error_of_face_pose_bag_names_what_to_install():
    code = "import sys; sys.modules['rosbags'] = None; import face_pose_ros.ros.bag.main"
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == (
        'face_pose_bag needs the package rosbags, which is not installed: pip install rosbags\n'
    )


def test_a_tree_that_is_not_built_says_how_to_build_it(tmp_path):
    package = tmp_path / 'face_pose_ros'
    package.mkdir()
    shutil.copy(ROOT / 'face_pose_ros' / '__init__.py', package)
    run = subprocess.run(
        [sys.executable, '-c', 'import face_pose_ros'],
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    line = run.stderr.splitlines()[-1]
    assert line.startswith(f'ImportError: {package} has no module _core for Python 3.')
    assert 'make setup, colcon build, or python3 setup.py build_ext --inplace' in line


def test_without_a_compiler_the_build_ends_with_one_line(tmp_path):
    run = subprocess.run(
        [sys.executable, 'setup.py', '-q', 'build_ext', '-b', tmp_path, '-t', tmp_path],
        env={**os.environ, 'CC': 'none', 'CXX': 'none'},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(
        'face_pose_ros is partly C++, and none cannot compile it; on Debian and Ubuntu:'
    )
    assert 'Traceback' not in run.stderr


def test_what_a_failed_compilation_left_is_not_current(tmp_path, monkeypatch):
    monkeypatch.setattr('setuptools.setup', lambda **_: None)
    monkeypatch.chdir(ROOT)
    is_current = runpy.run_path(str(ROOT / 'setup.py'))['is_current']
    compiled, rule = tmp_path / 'fit.o', tmp_path / 'fit.d'
    rule.write_text(f'{compiled}: {ROOT / "src" / "fit.cpp"}')
    assert not is_current(str(compiled))
    compiled.touch()
    assert is_current(str(compiled))


def test_every_type_of_the_compiled_module_is_declared_and_no_other():
    stub = (ROOT / 'face_pose_ros' / '_core.pyi').read_text()
    declared = set(re.findall(r'^(?:def|class) (\w+)|^([A-Z]\w+): ', stub, re.MULTILINE))
    names = {name for pair in declared for name in pair if name}
    assert names == {name for name in dir(_core) if not name.startswith('_')}


def test_every_source_file_begins_with_copyright_and_licence():
    try:
        sources = licence_headers.sources()
    except RuntimeError:
        pytest.skip('no git repository')
    assert len(sources) > 300
    lacking = [
        p for p in sources if licence_headers.with_header(p, p.read_text()) != p.read_text()
    ]
    assert lacking == [], 'python3 tools/licence_headers.py --write'


def test_a_header_stands_below_the_line_that_names_the_interpreter():
    text = licence_headers.with_header(Path('run.sh'), '#!/bin/bash\necho\n')
    assert text.startswith('#!/bin/bash\n# Copyright the face_pose_ros authors\n# SPDX-')
    assert licence_headers.with_header(Path('run.sh'), text) == text
    in_c = licence_headers.with_header(Path('a.c'), 'int main;\n')
    assert in_c.splitlines()[1] == '// SPDX-License-Identifier: Apache-2.0'
