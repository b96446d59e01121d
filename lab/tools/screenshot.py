# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A picture of a recording of `face_pose_view`, by a rerun viewer that runs without a display.

rerun --headless --port 9912 --window-size 1440x680 &
python lab/tools/screenshot.py people.rrd docs/images/view.png --second 1.2
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
from rerun.experimental import ViewerClient

from face_pose_ros.ros.view.scene import TIMELINE

_TOP_PX, _BOTTOM_PX = 37, 31  # bars of the viewer, which are cut off
_TRIES = 5  # without a GPU a busy machine may take longer than the viewer waits


def main(args: Sequence[str] | None = None) -> None:
    """Open, go to a time, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('recording', type=Path, help='.rrd')
    parser.add_argument('picture', type=Path, help='.png to write')
    parser.add_argument('--second', type=float, default=0.0, help='after the first image')
    parser.add_argument('--port', type=int, default=9912)
    parser.add_argument('--wait', type=float, default=5.0, help='for the viewer to draw [s]')
    options = parser.parse_args(args)
    viewer = ViewerClient.connect(f'rerun+http://127.0.0.1:{options.port}/proxy')
    viewer.open(str(options.recording))
    time.sleep(options.wait)
    (recording,) = viewer.get_state().recordings
    (stamps,) = (t for t in recording.timelines if t.name == TIMELINE)
    at_s = 1e-9 * (stamps.start or 0) + options.second
    viewer.set_time(TIMELINE, timestamp=at_s, play_state='paused')
    picture = str(options.picture.resolve())
    for _ in range(_TRIES):
        time.sleep(options.wait)
        with contextlib.suppress(TimeoutError):
            viewer.save_screenshot(picture)
            break
    else:
        parser.error(f'the viewer at port {options.port} made no picture')
    whole = cv2.imread(picture)
    assert whole is not None
    cv2.imwrite(picture, whole[_TOP_PX:-_BOTTOM_PX])


if __name__ == '__main__':
    main()
