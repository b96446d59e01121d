# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The output folder of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from face_pose_ros.options import Checked, start_option

VIDEO, SHEET = 'demo.mp4', 'demo.png'


@dataclass(frozen=True)
class OutputParameters(Checked):
    """Parameters of `demo_checker` and `demo_recorder`."""

    output: str = start_option('demo_output', 'folder for video and picture')


def make_empty(folder: Path) -> None:
    """Make the folder and remove the last run's video and picture; other files stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (VIDEO, SHEET):
        (folder / name).unlink(missing_ok=True)
