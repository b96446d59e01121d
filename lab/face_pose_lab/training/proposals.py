# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Cuts the proposals of the first stage out of scenes, to train the second stage.

    python -m face_pose_lab.training.proposals SCENES --out PROPOSALS

The shards are read like crops. A proposal on a head has the head's pose and keypoints as seen by
its region; one beside all heads has none (NaN). Partial hits are left out, as are hits on heads
that need not be found.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.torch_faces.single_shot import cells_of_poses
from face_pose_lab.torch_geometry import se3
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.training.batches import complete_shards
from face_pose_lab.training.export import commit_of_code
from face_pose_lab.training.head_shape import face_points
from face_pose_lab.training.scenes import SceneBatch
from face_pose_lab.training.shards import (
    Shard,
    ShardError,
    read_manifest,
    write_manifest,
    write_shard,
)
from face_pose_lab.training.single_shot_losses import SingleShotLossOptions, is_wanted
from face_pose_ros.engines.network import finer
from face_pose_ros.engines.torch_engine import TorchNetwork
from face_pose_ros.faces.nms import box_overlaps
from face_pose_ros.faces.region_pose import REGION_PX, regions_of_poses
from face_pose_ros.faces.single_shot import (
    cells_of_picture,
    decode_faces,
    head_boxes,
    middles_of_poses,
)
from face_pose_ros.geometry.crops import render_crops
from face_pose_ros.keypoints import semantic
from face_pose_ros.networks.single_shot import packaged_single_shot
from face_pose_ros.weights import SHA256

CROP_PX = 128
# Below the score of the detector, so that there are enough false proposals.
_MIN_SCORE = 0.05
_MAX_FALSE = 4  # per image, highest scores first
_ON, _BESIDE = 0.4, 0.2  # intersection over union with a head's square
_WANTED = SingleShotLossOptions(max_size_px=math.inf)


class Regions(NamedTuple):
    """The regions of one picture."""

    pictures: NDArray[np.uint8]  # (N, CROP_PX, CROP_PX, 3)
    focal_px: Tensor  # (N,)
    T_crop_head: Tensor  # (N, 4, 4), NaN: no head
    xyz_head: Tensor  # (N, K, 3) m, keypoints of this person; NaN: no head


def cut_out(
    network: nn.Module,
    image_rgb: Tensor,
    camera: Camera,
    T_true: Tensor,
    visible: Tensor,
    keypoints: Tensor,
    face: NDArray[np.float64],
) -> Regions:
    """Regions of the proposals of one picture.

    Args:
        network: The single-shot network.
        image_rgb: (H, W, 3) uint8.
        camera: Of the picture.
        T_true: (J, 4, 4) heads in it.
        visible: (J,) visible fraction of each, in [0, 1].
        keypoints: (J, K, 3) m, of each person, head frame.
        face: (P, 3) m, `xyz_head` of `decode_faces`.
    """
    image, runtime = image_rgb.numpy(), camera.runtime()
    cells = cells_of_picture(TorchNetwork(network, 'cpu'), image)
    T = decode_faces(cells, runtime, face, _MIN_SCORE).T_cam_head
    truth, seen = cells_of_poses(T_true, camera)
    size = image_rgb.shape[0], image_rgb.shape[1]
    wanted = (seen & is_wanted(T_true, truth, visible, size, _WANTED)).numpy()
    heads = middles_of_poses(T_true.double().numpy(), runtime), middles_of_poses(T, runtime)
    both = np.nan_to_num(np.concatenate([head_boxes(middles) for middles in heads]), posinf=0)
    # A column of zeros means no head.
    iou = box_overlaps(both)[0][len(wanted) :, : len(wanted)]
    iou = np.concatenate([iou, np.zeros((len(T), 1))], 1)
    best, head = iou.max(1), iou.argmax(1)
    is_true = (best >= _ON) & np.append(wanted, False)[head]
    is_false = best < _BESIDE
    is_false &= is_false.cumsum() <= _MAX_FALSE
    regions = finer(regions_of_poses(T), CROP_PX // REGION_PX)
    T_crop = np.full_like(T, np.nan)
    T_crop[:, 3] = 0, 0, 0, 1
    R = regions.R_cam_crop.swapaxes(1, 2)
    T_crop[is_true, :3] = R[is_true] @ T_true.double().numpy()[head[is_true], :3]
    xyz_head = keypoints.new_full((len(T), *keypoints.shape[1:]), torch.nan)
    xyz_head[is_true] = keypoints[head[is_true]]
    kept = is_true | is_false
    pictures = (255 * render_crops(image, regions, runtime)).round().astype(np.uint8)
    return Regions(
        pictures.transpose(0, 2, 3, 1)[kept],
        torch.from_numpy(regions.focal_px[kept]),
        torch.from_numpy(T_crop[kept]),
        xyz_head[torch.from_numpy(kept)],
    )


def labels_of(regions: Sequence[Regions]) -> dict[str, Any]:
    """Labels like those of crops; the visibility of keypoints is unknown."""
    focal_px = torch.cat([r.focal_px for r in regions])
    T = torch.cat([r.T_crop_head for r in regions])
    xyz_head = torch.cat([r.xyz_head for r in regions])
    count, points = xyz_head.shape[:2]
    K = torch.eye(3, dtype=T.dtype).repeat(count, 1, 1)
    K[:, 0, 0] = K[:, 1, 1] = focal_px
    K[:, :2, 2] = 0.5 * (CROP_PX - 1)
    uvw = se3.apply(T, xyz_head) @ K.mT
    return {
        'K_crop': K.numpy(),
        'T_crop_head': T.numpy(),
        'uv': (uvw[..., :2] / uvw[..., 2:]).float().numpy(),
        'xyz_head': xyz_head.float().numpy(),
        'visible': np.zeros((count, points), bool),
        'head_size_px': np.full(count, np.nan, np.float32),
    }


def regions_of(
    network: nn.Module, batch: SceneBatch, keypoints: Tensor, face: NDArray[np.float64]
) -> list[Regions]:
    """Of each picture of a batch; other arguments as in `cut_out`, keypoints of all heads."""
    regions = []
    for i, camera in enumerate(batch.camera_list()):
        mine = batch.image_index == i
        image = batch.pictures[i].permute(1, 2, 0).contiguous()
        heads = batch.T_cam_head[mine], batch.visible_fraction[mine], keypoints[mine]
        regions.append(cut_out(network, image, camera, *heads, face))
    return regions


def _keypoints(labels: dict[str, Any], pictures: int) -> Tensor:
    """(J, K, 3) m of the heads in the first pictures; NaN in standard sets, which know none."""
    shown = labels['image_index'] < pictures
    if 'xyz_head' in labels:
        return torch.from_numpy(labels['xyz_head'][shown]).double()
    return torch.full((int(shown.sum()), len(semantic.NAMES), 3), torch.nan, dtype=torch.float64)


def main(args: Sequence[str] | None = None) -> None:
    """Write a shard of proposals for every shard of scenes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('scenes', type=Path, help='folder of rendered scenes')
    parser.add_argument('--out', type=Path, required=True, help='folder for the shards')
    options = parser.parse_args(args)
    network, face = packaged_single_shot(), face_points()
    try:
        shards = list(complete_shards([str(options.scenes)], None))
        manifest = read_manifest(options.scenes)
        manifest |= {
            'kind': 'proposals',
            'scenes_commit': manifest['commit'],
            'proposed_by': SHA256['single_shot'],
        }
        write_manifest(options.out, manifest | {'commit': commit_of_code()})
        with torch.inference_mode():
            for shard, count in tqdm(shards, unit='shard'):
                # Same number as the scenes' shard: others may be completed later.
                folder = options.out / shard.folder.name
                if not Shard(folder).is_complete:
                    batch = SceneBatch.from_labels(
                        np.asarray(shard.pictures), np.arange(count), shard.labels
                    )
                    keypoints = _keypoints(shard.labels, count)
                    regions = regions_of(network, batch, keypoints, face)
                    pictures = np.concatenate([r.pictures for r in regions])
                    write_shard(folder, pictures, labels_of(regions))
    except (DataError, ShardError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
