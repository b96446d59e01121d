"""How well the single-shot detector finds rendered heads and their poses, by their size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from face_pose_ros.faces.nms import box_overlaps
from face_pose_ros.faces.single_shot import (
    CellPoses,
    PosedFaces,
    boxes_of_poses,
    cell_poses,
    cells_of_poses,
    decode_faces,
)
from face_pose_ros.geometry import so3
from face_pose_ros.training.scenes import SceneBatch, moved_scenes
from face_pose_ros.training.single_shot_losses import SingleShotLossOptions, is_wanted

SIZE_BINS_PX = ((16, 32), (32, 64), (64, 128), (128, 1000))
_MIN_IOU = 0.4  # of the boxes of a face and its answer
# One false answer per ten pictures is what the score threshold is set to.
_FALSE_PER_PICTURE = 0.1


def predict_scenes(
    network: nn.Module, batch: SceneBatch, xyz_head: Tensor, amp: bool, min_score: float = 0.02
) -> list[PosedFaces]:
    """Faces of each picture of a batch, in [0, 1], on the network's device."""
    with torch.autocast(batch.pictures.device.type, torch.bfloat16, enabled=amp):
        outputs = network(batch.pictures.contiguous(memory_format=torch.channels_last))
    cells = cell_poses(outputs)
    faces = []
    for i, camera in enumerate(batch.camera_list()):
        of_one = CellPoses(*(field[i] for field in cells))
        faces.append(decode_faces(of_one, camera, xyz_head, min_score))
    return faces


def evaluate_scenes(
    network: nn.Module,
    batches: list[Any],
    xyz_head: Tensor,
    options: SingleShotLossOptions,
    device: str,
    amp: bool,
) -> dict[str, dict[str, float]]:
    """Recall and pose errors at one false answer per ten pictures, by apparent head size.

    Returns:
        For each bin of sizes, and for all: `heads`; `recall`, the share found; `rotation_deg`,
        mean angle of those found; `depth_percent`, mean absolute error of their distance. For all
        also `score_threshold`.
    """
    found, false_scores, pictures = [], [], 0
    for batch in batches:
        none = torch.zeros(len(batch.pictures))
        batch = moved_scenes(batch, none.bool(), none + 1, torch.zeros(len(none), 2)).to(device)
        with torch.no_grad():
            answers = predict_scenes(network, batch, xyz_head.to(device), amp)
        pictures += len(answers)
        for i, (faces, camera) in enumerate(zip(answers, batch.camera_list(), strict=True)):
            mine = batch.image_index == i
            one, false = _match(faces, batch, mine, camera, xyz_head.to(device), options)
            found.append(one.cpu())
            false_scores.append(false.cpu())
    rows, false = torch.cat(found), torch.cat(false_scores).sort(descending=True).values
    allowed = int(_FALSE_PER_PICTURE * pictures)
    threshold = float(false[allowed]) if len(false) > allowed else 0.0
    figures = {
        f'{a}-{b}': _row(rows[(rows[:, 0] >= a) & (rows[:, 0] < b)], threshold)
        for a, b in SIZE_BINS_PX
    }
    figures['all'] = _row(rows, threshold) | {'score_threshold': threshold}
    return figures


def _match(
    faces: PosedFaces,
    batch: SceneBatch,
    mine: Tensor,
    camera: Any,
    xyz_head: Tensor,
    options: SingleShotLossOptions,
) -> tuple[Tensor, Tensor]:
    """Rows (H, 4) size, score or 0, angle, depth error of heads; scores of false answers."""
    T = batch.T_cam_head[mine]
    cells, visible = cells_of_poses(T, camera)
    size_px = cells.log_size.exp()
    size = (camera.height, camera.width)
    wanted = visible & is_wanted(T, cells, batch.visible_fraction[mine], size, options)
    truth = boxes_of_poses(T, xyz_head.to(T), camera)
    both = torch.cat([truth, faces.boxes_xyxy]).nan_to_num(0, 0, 0)
    iou = box_overlaps(both)[0][: len(T), len(T) :]
    rows = T.new_zeros(len(T), 4)
    rows[:, 0] = size_px
    false = []
    for j, score in enumerate(faces.scores):
        fits = (iou[:, j] >= _MIN_IOU) & (rows[:, 1] == 0)
        if bool(fits.any()):
            head = int(torch.where(fits, iou[:, j], -1.0).argmax())
            rows[head, 1] = score
            estimate = faces.T_cam_head[j]
            rows[head, 2] = so3.angle_between(estimate[:3, :3], T[head, :3, :3]).rad2deg()
            ratio = estimate[:3, 3].norm() / T[head, :3, 3].norm()
            rows[head, 3] = 100 * (ratio - 1).abs()
        elif not bool((iou[:, j] >= _MIN_IOU).any()):
            false.append(score)
    return rows[wanted], torch.stack(false) if false else faces.scores[:0]


def _row(rows: Tensor, threshold: float) -> dict[str, float]:
    hit = rows[rows[:, 1] > threshold]
    return {
        'heads': float(len(rows)),
        'recall': len(hit) / max(len(rows), 1),
        'rotation_deg': float(hit[:, 2].mean()),
        'depth_percent': float(hit[:, 3].mean()),
    }
