"""A picture of a recording of `face_pose_view`, by a rerun viewer that runs without a display.

rerun --headless --port 9912 --window-size 1440x680 &
python lab/tools/screenshot.py people.rrd docs/images/view.png --second 1.2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rerun.experimental import ViewerClient

from face_pose_ros.ros.view.scene import TIMELINE


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
    at_s = 1e-9 * stamps.start + options.second
    viewer.set_time(TIMELINE, timestamp=at_s, play_state='paused')
    time.sleep(options.wait)
    viewer.save_screenshot(str(options.picture))


if __name__ == '__main__':
    main()
