# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recall and pose errors of the single-shot detector on rendered heads, by size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from face_pose_lab.torch_faces.single_shot import cells_of_poses
from face_pose_lab.torch_geometry import camera as torch_camera
from face_pose_lab.training.scenes import SceneBatch, moved_scenes
from face_pose_lab.training.single_shot_losses import SingleShotLossOptions, is_wanted
from face_pose_ros.engines.torch_engine import TorchNetwork
from face_pose_ros.faces.head_uncertainty import log_apparent_size, pose_of_normalised
from face_pose_ros.faces.nms import box_overlaps
from face_pose_ros.faces.region_pose import PROPOSED_FROM, PosedHeads, pose_proposals
from face_pose_ros.faces.single_shot import (
    PosedFaces,
    cells_of_picture,
    decode_faces,
    head_boxes,
    middles_of_poses,
)
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera

# Apparent sizes of heads of 0.24 m; other sizes are ignored.
SIZE_BINS_PX = ((20, 28), (28, 40), (40, 56), (56, 80), (80, 160), (160, 400))
# IoU of the squares around a head and its estimate, see `head_boxes`: a wrong rotation is an error
# of the pose, not a missed head.
_MIN_IOU = 0.4
# The score threshold gives one false head per ten images.
_FALSE_PER_PICTURE = 0.1


class Answers(NamedTuple):
    """Estimates for J heads that should be found, and false heads."""

    size_px: Tensor  # (J,) apparent size
    score: Tensor  # (J,) of the best answer, 0 without one
    error: Tensor  # (J, 6) of its pose, see `normalised_errors`; NaN without one
    log_size: Tensor  # (J,) logarithm of its apparent size [px]
    sigma: Tensor  # (J, 6) that the network states of this error; 1: it states none
    false_scores: Tensor  # (F,) of false heads
    pictures: int

    @property
    def threshold(self) -> float:
        """Lowest score threshold with at most one false head in ten images."""
        allowed = int(_FALSE_PER_PICTURE * self.pictures)
        false = self.false_scores.sort(descending=True).values
        return float(false[allowed]) if len(false) > allowed else 0.0


# Heads of each picture of a batch, its pictures in [0, 1].
Detect = Callable[[SceneBatch], list[PosedHeads]]


def at_first_look(network: nn.Module, xyz_head: NDArray[np.float64], amp: bool) -> Detect:
    """The first stage alone, which has no uncertainty."""

    def detect(batch: SceneBatch) -> list[PosedHeads]:
        with torch.autocast(batch.pictures.device.type, torch.bfloat16, enabled=amp):
            each = _proposed(network, batch, xyz_head, min_score=0.02)
        heads = []
        for _, faces, _ in each:
            scores = faces.scores.clip(1e-6, 1 - 1e-6)
            logits = np.log(scores / (1 - scores))
            heads.append(PosedHeads(faces.T_cam_head, logits, np.ones((len(scores), 6))))
        return heads

    return detect


def at_second_look(
    network: nn.Module, region_network: nn.Module, xyz_head: NDArray[np.float64]
) -> Detect:
    """Both stages, as in the detector."""

    def detect(batch: SceneBatch) -> list[PosedHeads]:
        regions = TorchNetwork(region_network, str(batch.pictures.device))
        each = _proposed(network, batch, xyz_head, PROPOSED_FROM)
        return [pose_proposals(regions, image, faces, camera) for image, faces, camera in each]

    return detect


def _proposed(
    network: nn.Module, batch: SceneBatch, xyz_head: NDArray[np.float64], min_score: float
) -> list[tuple[NDArray[np.uint8], PosedFaces, Camera]]:
    """Each image with its proposals and its camera."""
    images = (255 * batch.pictures).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def in_float32(pictures: Tensor) -> list[Tensor]:
        return [output.float() for output in network(pictures)]  # numpy has no bfloat16

    cells = TorchNetwork(in_float32, str(batch.pictures.device))
    cameras = [camera.runtime() for camera in batch.camera_list()]
    return [
        (image, decode_faces(cells_of_picture(cells, image), camera, xyz_head, min_score), camera)
        for image, camera in zip(map(np.ascontiguousarray, images), cameras, strict=True)
    ]


def evaluate_scenes(
    detect: Detect, batches: Iterable[SceneBatch], options: SingleShotLossOptions, device: str
) -> dict[str, dict[str, float]]:
    """Recall and pose errors at one false head per ten images, by apparent head size.

    Returns:
        For each bin of sizes, and for all of them: `heads`; `recall`, the share found;
        `rotation_deg`, mean angle of those found, and `rotation_median_deg`; `depth_percent`, mean
        absolute error of the distance of the head's middle. For all also `score_threshold`.
    """
    answers = answers_of(detect, batches, options, device)
    size, low, high = answers.size_px, SIZE_BINS_PX[0][0], SIZE_BINS_PX[-1][1]
    figures = {f'{a}-{b}': _row(answers, (size >= a) & (size < b)) for a, b in SIZE_BINS_PX}
    figures['all'] = _row(answers, (size >= low) & (size < high))
    figures['all']['score_threshold'] = answers.threshold
    return figures


def answers_of(
    detect: Detect, batches: Iterable[SceneBatch], options: SingleShotLossOptions, device: str
) -> Answers:
    """Compare detections with the labels; see `evaluate_scenes`."""
    parts, false, pictures = [], [], 0
    # Independent of the sizes in training.
    options = replace(options, max_size_px=math.inf)
    for batch in batches:
        none = torch.zeros(len(batch.pictures))
        batch = moved_scenes(batch, none.bool(), none + 1, torch.zeros(len(none), 2)).to(device)
        with torch.no_grad():
            said = detect(batch)
        batch = batch.to('cpu')
        for i, (faces, camera) in enumerate(zip(said, batch.camera_list(), strict=True)):
            mine = batch.image_index == i
            rows, wrong = _match(faces, batch, mine, camera, options)
            parts.append(rows)
            false.append(wrong)
        pictures += len(said)
    size_px, score, error, log_size, sigma = (
        torch.cat(field) for field in zip(*parts, strict=True)
    )
    return Answers(size_px, score, error, log_size, sigma, torch.cat(false), pictures)


def _match(
    faces: PosedHeads,
    batch: SceneBatch,
    mine: Tensor,
    camera: torch_camera.Camera,
    options: SingleShotLossOptions,
) -> tuple[list[Tensor], Tensor]:
    """All but the last two fields of `Answers` of one image, and scores of false heads."""
    cells, visible = cells_of_poses(batch.T_cam_head[mine], camera)
    size = (camera.height, camera.width)
    wanted = visible & is_wanted(
        batch.T_cam_head[mine], cells, batch.visible_fraction[mine], size, options
    )
    T, runtime = batch.T_cam_head[mine].double().numpy(), camera.runtime()
    truth, found = middles_of_poses(T, runtime), middles_of_poses(faces.T_cam_head, runtime)
    both = np.nan_to_num(np.concatenate([head_boxes(truth), head_boxes(found)]), posinf=0)
    iou = box_overlaps(both)[0][: len(T), len(T) :]
    score, log_size = np.zeros(len(T)), np.zeros(len(T))
    error, sigma = np.full((len(T), 6), np.nan), np.ones((len(T), 6))
    false = []
    for j, answer in enumerate(1 / (1 + np.exp(-faces.logits))):
        fits = (iou[:, j] >= _MIN_IOU) & (score == 0)
        if fits.any():
            head = int(np.where(fits, iou[:, j], -1.0).argmax())
            score[head], sigma[head] = answer, faces.sigma[j]
            error[head] = normalised_errors(faces.T_cam_head[j : j + 1], T[head : head + 1])[0]
            log_size[head] = log_apparent_size(faces.T_cam_head[j : j + 1], runtime)[0]
        elif not (iou[:, j] >= _MIN_IOU).any():
            false.append(answer)
    rows = [np.exp(truth.log_size), score, error, log_size, sigma]
    return [torch.from_numpy(row)[wanted] for row in rows], torch.tensor(false).double()


def normalised_errors(
    T_cam_head: NDArray[np.float64], T_true: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Errors e (N, 6) of poses (N, 4, 4), as `faces.head_uncertainty` defines them."""
    error = rotations.difference(T_cam_head, T_true)[..., None]
    return np.linalg.solve(pose_of_normalised(T_cam_head), error)[..., 0]


def _row(answers: Answers, these: Tensor) -> dict[str, float]:
    found = these & (answers.score > answers.threshold)
    angle = answers.error[found, 3:].norm(dim=-1).rad2deg()
    return {
        'heads': float(these.sum()),
        'recall': int(found.sum()) / max(int(these.sum()), 1),
        'rotation_deg': float(angle.mean()),
        'rotation_median_deg': float(angle.nanmedian()) if len(angle) else math.nan,
        'depth_percent': float(100 * answers.error[found, 2].abs().mean()),
    }
