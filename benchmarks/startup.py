"""How long is it from the start of a process to its first pose?

python benchmarks/startup.py           # with warm caches
python benchmarks/startup.py --cold    # compiling and converting all anew, too: a minute or two
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

PROGRAM = """
import sys
from scenes import camera_of, faces_in
from face_pose_ros import FacePoseEstimator
estimator = FacePoseEstimator('cpu')
print(len(estimator.track(faces_in(1280, 720, 1), camera_of(1280, 720), 0.0)))
"""


def first_pose_s(env: Mapping[str, str]) -> float:
    """Seconds of a process that ends with its first pose."""
    start_s = time.perf_counter()
    process = subprocess.run(
        [sys.executable, '-c', PROGRAM], env=env, check=True, capture_output=True, text=True
    )
    assert process.stdout.strip() == '1', process.stdout
    return time.perf_counter() - start_s


def main(args: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('--cold', action='store_true')
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    options = parser.parse_args(args)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')])
    env = {**os.environ, 'PYTHONPATH': path}
    first_pose_s(env)
    results = {'warm_s': float(np.median([first_pose_s(env) for _ in range(options.runs)]))}
    if options.cold:
        with tempfile.TemporaryDirectory() as empty:
            cold = {**env, 'NUMBA_CACHE_DIR': empty, 'XDG_CACHE_HOME': empty}
            results['cold_s'] = first_pose_s(cold)
    for name, value in results.items():
        print(f'{name:<8}{value:6.1f}')
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
