# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's import sends nothing and writes nothing to the home folder."""

import os
import subprocess
import sys

import pytest

pytest.importorskip('openvino', reason='OpenVINO is not installed')

SENDER = """
import os
class Telemetry:
    def __init__(self, **options):
        open(os.environ['HOME'] + '/sent', 'a').write('made ')
    def send_event(self, *event):
        open(os.environ['HOME'] + '/sent', 'a').write('event')
"""


@pytest.fixture
def files_of(tmp_path):
    """Files that a program writes to its home, with a telemetry sender that only writes there."""
    backend = tmp_path / 'lib' / 'openvino_telemetry' / 'backend'
    backend.mkdir(parents=True)
    (backend.parent / '__init__.py').write_text(SENDER)
    (backend / '__init__.py').write_text('backend_ga4 = None')
    home = tmp_path / 'home'
    home.mkdir()
    path = os.pathsep.join([str(tmp_path / 'lib'), *filter(None, sys.path)])
    env = {name: value for name, value in os.environ.items() if name != 'CI'}
    env |= {'PYTHONPATH': path, 'HOME': str(home), 'XDG_CACHE_HOME': str(tmp_path / 'cache')}

    def run(program):
        subprocess.run([sys.executable, '-c', program], env=env, check=True, timeout=120)
        return [f'{path.name}: {path.read_text()}' for path in home.rglob('*') if path.is_file()]

    return run


def test_the_import_is_not_reported(files_of):
    assert files_of('import face_pose_ros.engines.openvino') == []


def test_openvino_alone_would_report_it(files_of):
    """Shows that the test above can fail."""
    assert files_of('import openvino') == ['sent: made event']


def test_other_modules_find_the_sender_again(files_of):
    files = files_of(
        'import face_pose_ros.engines.openvino, openvino_telemetry as t; t.Telemetry()'
    )
    assert files == ['sent: made ']
