"""The folder of what the demo writes."""

from __future__ import annotations

from pathlib import Path

VIDEO, SHEET = 'demo.mp4', 'demo.png'


def make_empty(folder: Path) -> None:
    """Make the folder, without a former run's video and picture; other files are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (VIDEO, SHEET):
        (folder / name).unlink(missing_ok=True)
