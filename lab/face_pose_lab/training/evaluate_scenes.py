"""How well the single-shot detector finds rendered heads and their poses, by their size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from face_pose_lab.torch_faces.region_pose import PROPOSED_FROM, SeenAgain, look_again
from face_pose_lab.torch_faces.single_shot import (
    CellPoses,
    PosedFaces,
    cells_of_poses,
    decode_faces,
    head_boxes,
)
from face_pose_lab.torch_faces.single_shot_levels import cells_of_picture
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.training.scenes import SceneBatch, moved_scenes
from face_pose_lab.training.single_shot_losses import SingleShotLossOptions, is_wanted
from face_pose_ros.faces.head_uncertainty import normalised_errors
from face_pose_ros.faces.nms import box_overlaps

# Apparent sizes of heads of 0.24 m; those of other sizes are not looked at.
SIZE_BINS_PX = ((20, 28), (28, 40), (40, 56), (56, 80), (80, 160), (160, 400))
# Of the squares around a head and its answer, see `head_boxes`: a wrong rotation is an error of
# the pose, and not a face that is missed.
_MIN_IOU = 0.4
# One false answer per ten pictures is what the score threshold is set to.
_FALSE_PER_PICTURE = 0.1


class Answers(NamedTuple):
    """What a network says of J heads that are to be found, and of what is none."""

    size_px: Tensor  # (J,) apparent size
    score: Tensor  # (J,) of the best answer, 0 without one
    error: Tensor  # (J, 6) of its pose, see `normalised_errors`; NaN without one
    log_size: Tensor  # (J,) logarithm of its apparent size [px]
    sigma: Tensor  # (J, 6) that the network states of this error; 1: it states none
    false_scores: Tensor  # (F,) of answers that lie on no head
    pictures: int

    @property
    def threshold(self) -> float:
        """Least score with which there is one false answer in ten pictures."""
        allowed = int(_FALSE_PER_PICTURE * self.pictures)
        false = self.false_scores.sort(descending=True).values
        return float(false[allowed]) if len(false) > allowed else 0.0


# Heads of each picture of a batch, its pictures in [0, 1].
Detect = Callable[[SceneBatch], list[SeenAgain]]


def at_first_look(network: nn.Module, xyz_head: Tensor, amp: bool) -> Detect:
    """The single-shot network alone, which does not say how sure it is."""

    def detect(batch: SceneBatch) -> list[SeenAgain]:
        proposed = _proposed(network, batch, xyz_head, amp, min_score=0.02)
        return [
            SeenAgain(
                faces.T_cam_head,
                faces.scores.double().logit(eps=1e-6),
                torch.ones(len(faces.scores), 6, dtype=torch.float64),
            )
            for faces in proposed
        ]

    return detect


def at_second_look(network: nn.Module, region_network: nn.Module, xyz_head: Tensor) -> Detect:
    """The single-shot network and that of its regions, as the detector runs them."""

    def detect(batch: SceneBatch) -> list[SeenAgain]:
        images = (255 * batch.pictures).round().byte().permute(0, 2, 3, 1)
        proposed = _proposed(network, batch, xyz_head, amp=False, min_score=PROPOSED_FROM)
        each = zip(images, proposed, batch.camera_list(), strict=True)
        return [
            look_again(region_network, image.contiguous(), faces, camera.to('cpu'))
            for image, faces, camera in each
        ]

    return detect


def _proposed(
    network: nn.Module, batch: SceneBatch, xyz_head: Tensor, amp: bool, min_score: float
) -> list[PosedFaces]:
    """Faces of each picture, on the CPU."""
    with torch.autocast(batch.pictures.device.type, torch.bfloat16, enabled=amp):
        cells = cells_of_picture(network, batch.pictures)
    return [
        decode_faces(
            CellPoses(*(field[i].cpu() for field in cells)), camera.to('cpu'), xyz_head, min_score
        )
        for i, camera in enumerate(batch.camera_list())
    ]


def evaluate_scenes(
    detect: Detect, batches: Iterable[SceneBatch], options: SingleShotLossOptions, device: str
) -> dict[str, dict[str, float]]:
    """Recall and pose errors at one false answer per ten pictures, by apparent head size.

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
    """Compare what is detected in pictures with what they show; see `evaluate_scenes`."""
    parts, false, pictures = [], [], 0
    # Whatever size the network is trained for.
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
    faces: SeenAgain,
    batch: SceneBatch,
    mine: Tensor,
    camera: Camera,
    options: SingleShotLossOptions,
) -> tuple[list[Tensor], Tensor]:
    """All but the last two fields of `Answers` of one picture, and scores of false answers."""
    T = batch.T_cam_head[mine]
    cells, visible = cells_of_poses(T, camera)
    size_px = cells.log_size.exp()
    size = (camera.height, camera.width)
    wanted = visible & is_wanted(T, cells, batch.visible_fraction[mine], size, options)
    said, _ = cells_of_poses(faces.T_cam_head, camera)
    both = torch.cat([head_boxes(cells), head_boxes(said)]).nan_to_num(0, 0, 0)
    iou = box_overlaps(both)[0][: len(T), len(T) :]
    score, log_size = T.new_zeros(len(T)), T.new_zeros(len(T))
    error, sigma = T.new_full((len(T), 6), torch.nan), T.new_ones(len(T), 6)
    false = []
    scores = faces.logits.sigmoid()
    for j in range(len(scores)):
        fits = (iou[:, j] >= _MIN_IOU) & (score == 0)
        if bool(fits.any()):
            head = int(torch.where(fits, iou[:, j], -1.0).argmax())
            score[head] = scores[j]
            pair = faces.T_cam_head[j : j + 1], T[head : head + 1]
            error[head], log_size[head] = (x[0] for x in normalised_errors(*pair, camera))
            sigma[head] = faces.sigma[j]
        elif not bool((iou[:, j] >= _MIN_IOU).any()):
            false.append(scores[j])
    rows = [field[wanted] for field in (size_px, score, error, log_size, sigma)]
    return rows, torch.stack(false) if false else scores[:0]


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
