# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Photographs out of a repository's objects, and which of them count."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from face_pose_lab.keypoint_net.leaks import cells, closest
from face_pose_lab.keypoint_net.sources import SOURCES, read_photographs

MEMBERS = """icpsr,congress,image,source
1,23,images/wiki/000001.jpg,wiki
2,71,images/manual/000002.jpg,manual
3,95,images/wiki/000003.jpg,wiki
4,95,images/bio_guide/000004.jpg,bio_guide
5,112,images/bio_guide/000005.jpg,bio_guide
6,112,images/wiki/000006.jpg,wiki
7,30,images/wiki/000007.jpg,wiki
"""
PATHS = [line.split(',')[2] for line in MEMBERS.splitlines()[1:-1]]  # one file is not there


@pytest.fixture(scope='module')
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose colours are their number, then the working tree removed."""
    folder = tmp_path_factory.mktemp('members')
    git = ['git', '-C', str(folder), '-c', 'user.name=a', '-c', 'user.email=a@b.c']
    subprocess.run([*git, 'init', '-q'], check=True)
    (folder / 'members.csv').write_text(MEMBERS)
    for i, path in enumerate(PATHS):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        picture = np.zeros((20, 30, 3), np.uint8)
        picture[...] = (10, 20, 40 * i)  # BGR
        cv2.imwrite(str(folder / path), picture)
    (folder / 'images/wiki/broken.jpg').write_bytes(b'not a picture')
    subprocess.run([*git, 'add', '.'], check=True)
    subprocess.run([*git, 'commit', '-q', '-m', 'x'], check=True)
    for path in PATHS:
        (folder / path).unlink()
    return folder


def test_old_and_official_portraits_alone(repository: Path) -> None:
    found = SOURCES['legislators'](repository)
    assert [Path(path).stem for path in found] == ['000001', '000002', '000005']


def test_images_come_from_the_objects_in_rgb(repository: Path) -> None:
    asked = [PATHS[4], 'images/wiki/none.jpg', 'images/wiki/broken.jpg', PATHS[1]]
    found = list(read_photographs(repository, asked))
    assert [photograph.name for photograph in found] == [PATHS[4], PATHS[1]]
    assert found[0].rgb.shape == (20, 30, 3)
    np.testing.assert_allclose(found[0].rgb[5, 5], (160, 20, 10), atol=6)


def test_an_image_is_found_again_smaller_darker_and_mirrored() -> None:
    rng = np.random.default_rng(4)

    def face() -> np.ndarray:
        noise = rng.integers(0, 256, (12, 12, 3)).astype(np.uint8)
        return cv2.resize(noise, (128, 128), interpolation=cv2.INTER_CUBIC)

    theirs = [face() for _ in range(30)]
    small = cv2.resize(cv2.resize(theirs[7], (60, 60)), (128, 128))
    changed = (0.6 * small[:, ::-1] + 20).astype(np.uint8)
    both = np.stack([cells(c) for c in theirs] + [cells(c[:, ::-1]) for c in theirs])
    correlation, different = closest(np.stack([cells(changed), cells(face())]), both)
    assert correlation[0] > 0.97
    assert different[0] <= 4
    assert correlation[1] < 0.8
    assert different[1] > 10
