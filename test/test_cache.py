# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Folders of compiled networks."""

import os
import tempfile
from collections import namedtuple

import pytest

from face_pose_ros.cache import writable_folder


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A home and a folder for temporary files, below tmp_path."""
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'tmp'))
    (tmp_path / 'tmp').mkdir()
    return tmp_path


def test_the_users_cache_comes_first(places, monkeypatch):
    assert writable_folder('openvino') == places / 'home/.cache/face_pose_ros/openvino'
    monkeypatch.setenv('XDG_CACHE_HOME', str(places / 'xdg'))
    assert writable_folder('openvino') == places / 'xdg/face_pose_ros/openvino'
    assert (places / 'xdg/face_pose_ros/openvino').stat().st_mode & 0o777 == 0o700


def test_a_relative_cache_variable_is_ignored(places, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', 'here')
    assert writable_folder('openvino') == places / 'home/.cache/face_pose_ros/openvino'


def test_without_a_home_it_is_the_folder_for_temporary_files(places, monkeypatch):
    (places / 'home').touch()
    expected = places / 'tmp' / f'face_pose_ros-{os.geteuid()}-openvino'
    assert writable_folder('openvino') == expected
    # What expanduser gives where neither HOME nor the password file names one.
    monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
    assert writable_folder('openvino') == expected


@pytest.mark.parametrize('mode', [0o770, 0o707])
def test_a_folder_that_others_may_write_to_is_not_used(places, mode):
    (places / 'home').touch()
    folder = writable_folder('openvino')
    assert folder is not None
    folder.chmod(mode)
    assert writable_folder('openvino') is None
    folder.chmod(0o700)
    assert writable_folder('openvino') == folder


def test_a_link_in_its_place_is_not_followed(places):
    (places / 'home').touch()
    (places / 'elsewhere').mkdir(mode=0o700)
    (places / 'tmp' / f'face_pose_ros-{os.geteuid()}-openvino').symlink_to(places / 'elsewhere')
    assert writable_folder('openvino') is None


def test_a_folder_that_another_user_prepared_is_not_used(places, monkeypatch):
    (places / 'home').touch()
    folder = writable_folder('openvino')
    assert folder is not None
    real = os.lstat

    def lstat_of_another(path, *args, **kwargs):
        status = real(path, *args, **kwargs)
        if path != folder:
            return status
        return os.stat_result((*status[:4], os.geteuid() + 1, *status[5:10]))

    monkeypatch.setattr(os, 'lstat', lstat_of_another)
    assert writable_folder('openvino') is None


def test_a_full_disk_is_not_used(places, monkeypatch):
    Disk = namedtuple('Disk', 'f_bavail f_frsize')
    monkeypatch.setattr(os, 'statvfs', lambda path: Disk(1000, 4096))
    assert writable_folder('openvino') is None
