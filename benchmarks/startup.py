# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures the time from the start of a process to its first pose.

python benchmarks/startup.py           # with warm caches
python benchmarks/startup.py --cold    # also with an empty cache of networks
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from against import add_against, compare
from scenes import faces_in

PROGRAM = """
import sys
import numpy as np
from face_pose_ros import Camera, FacePoseEstimator
camera = Camera.from_K([900, 0, 639.5, 0, 900, 359.5, 0, 0, 1], 1280, 720)
estimator = FacePoseEstimator('cpu')
print(len(estimator.track(np.load(sys.argv[1]), camera, 0.0)))
"""


def first_pose_s(image: str, env: Mapping[str, str]) -> float:
    """Seconds of a process that ends with its first pose."""
    start_s = time.perf_counter()
    process = subprocess.run(
        [sys.executable, '-c', PROGRAM, image], env=env, check=True, capture_output=True, text=True
    )
    assert process.stdout.strip() == '1', process.stdout
    return time.perf_counter() - start_s


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('--cold', action='store_true')
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    add_against(parser)
    options = parser.parse_args(args)
    if options.against:
        compare(__file__, options.against)
        return
    with tempfile.TemporaryDirectory() as folder:
        image = str(Path(folder) / 'image.npy')
        np.save(image, faces_in(1280, 720, 1))
        first_pose_s(image, os.environ)
        times_s = [first_pose_s(image, os.environ) for _ in range(options.runs)]
        results = {'warm_s': float(np.median(times_s))}
        if options.cold:
            results['cold_s'] = first_pose_s(image, {**os.environ, 'XDG_CACHE_HOME': folder})
    for name, value in results.items():
        print(f'{name:<8}{value:6.1f}')
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
