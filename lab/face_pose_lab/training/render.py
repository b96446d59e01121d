# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Render training pictures with exact truth.

    python -m face_pose_lab.training.render crops --assets ASSETS --output FOLDER --count 60000
    python -m face_pose_lab.training.render scenes --assets ASSETS --output FOLDER --sheet s.png

lab/docs/rendering.md says where the assets come from. The same seed gives the same pictures,
for any number of workers. A stopped run resumes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from face_pose_lab.training.heads import crops, scenes
from face_pose_lab.training.heads.assets import HELD_OUT, Assets, MissingAssetError, Split
from face_pose_lab.training.heads.sheet import draw_sheet
from face_pose_lab.training.heads.studio import FAMILIES, Models, Studio
from face_pose_lab.training.shards import (
    VERSION,
    Shard,
    ShardError,
    shard_folder,
    write_manifest,
    write_shard,
)
from face_pose_ros.keypoints import semantic

SHARD_SIZES = {'crops': 512, 'scenes': 64}


@dataclass(frozen=True)
class Job:
    """Options of a rendered folder."""

    kind: str  # crops, scenes
    seed: int
    count: int
    shard_size: int
    size_px: int
    families: tuple[str, ...]
    output: Path

    def rows(self, shard: int) -> range:
        """Numbers of a shard's pictures."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.count))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.count // self.shard_size)

    def is_done(self, shard: int) -> bool:
        """Whether a shard is complete."""
        there = Shard(shard_folder(self.output, shard))
        return there.is_complete and len(there.pictures) == len(self.rows(shard))


# Set in the parent before it forks, so that the workers share the meshes.
_models: Models
_job: Job
_studio: Studio | None = None


def _start() -> None:
    """Prepare a worker: one thread; its OpenGL context comes with the first shard."""
    os.environ.setdefault('LP_NUM_THREADS', '0')  # llvmpipe: draw in this thread
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threadpool_limits(1)  # BLAS threads would compete with the other workers


def _render_shard(shard: int) -> int:
    """Render one shard in a worker; returns how many pictures it has."""
    global _studio
    if _studio is None:
        _studio = Studio(_models, _job.seed, _job.families)
    rows = _job.rows(shard)
    if _job.kind == 'crops':
        pictures, labels = crops.render_range(_studio, rows, _job.size_px)
    else:
        pictures, labels = scenes.render_range(_studio, rows, shard)
    write_shard(shard_folder(_job.output, shard), pictures, labels)
    return len(rows)


def manifest(job: Job, assets: Assets) -> dict[str, Any]:
    """The manifest of the folder."""
    is_crops = job.kind == 'crops'
    return {
        'version': VERSION,
        'kind': job.kind,
        'split': assets.split.value,
        'unseen': assets.unseen if assets.split is Split.TEST else (),
        'seed': job.seed,
        'count': job.count,
        'shard_size': job.shard_size,
        'size_px': job.size_px if is_crops else None,
        'families': job.families,
        'ranges': crops.RANGES if is_crops else scenes.RANGES,
        'keypoint_names': semantic.NAMES,
        'held_out': HELD_OUT,
        'assets_sha256': assets.checksums(),
        'commit': _commit(),
    }


def _commit() -> str | None:
    """Commit of the code, with a plus sign if files were changed."""
    folder = Path(__file__).parent

    def git(*args: str) -> str:
        run = subprocess.run(
            ['git', *args], cwd=folder, capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    try:
        return git('rev-parse', 'HEAD') + ('+' if git('status', '--porcelain', '.') else '')
    except (OSError, subprocess.CalledProcessError):
        return None


def render(job: Job, assets: Assets, workers: int) -> None:
    """Render the missing shards."""
    global _models, _job
    write_manifest(job.output, manifest(job, assets))
    missing = [shard for shard in range(job.shards) if not job.is_done(shard)]
    with tqdm(total=job.count, unit='picture', smoothing=0.05) as progress:
        progress.update(job.count - sum(len(job.rows(shard)) for shard in missing))
        if not missing:
            return
        _models, _job = Models.load(assets), job
        with multiprocessing.get_context('fork').Pool(workers, _start) as pool:
            for done in pool.imap_unordered(_render_shard, missing):
                progress.update(done)


def main(args: Sequence[str] | None = None) -> None:
    """Read the command line and render."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('kind', choices=('crops', 'scenes'))
    parser.add_argument('--assets', type=Path, required=True, help='folder of the assets')
    parser.add_argument('--output', type=Path, required=True, help='folder of the shards')
    parser.add_argument('--count', type=int, default=1000, help='pictures')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--split', choices=[s.value for s in Split], default='train')
    parser.add_argument(
        '--unseen',
        nargs='*',
        choices=tuple(HELD_OUT),
        default=list(HELD_OUT),
        help='kinds of assets and places of the test split only, with --split test; default: all',
    )
    parser.add_argument('--families', nargs='+', choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument('--size', type=int, default=128, help='side of a crop [px]')
    parser.add_argument(
        '--steady', action='store_true', help='crops: little jitter, for the keypoint network'
    )
    parser.add_argument('--shard-size', type=int, help='pictures in a shard: 512 crops, 64 scenes')
    parser.add_argument(
        '--sheet', type=Path, help='also draw the first pictures with their labels'
    )
    parser.add_argument('--sheet-pictures', type=int, default=64)
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(args)
    if options.steady:
        crops.RANGES.update(crops.STEADY)  # before the workers are forked
    try:
        assets = Assets(options.assets, Split(options.split), options.unseen)
        job = Job(
            options.kind,
            options.seed,
            options.count,
            options.shard_size or SHARD_SIZES[options.kind],
            options.size,
            tuple(options.families),
            options.output,
        )
        render(job, assets, options.workers)
        if options.sheet:
            draw_sheet(options.output, options.sheet, options.sheet_pictures)
    except (MissingAssetError, ShardError, RuntimeError) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
