"""Non-maximum suppression: many proposals per face -> one face."""

from __future__ import annotations

import torch
from torch import Tensor

from face_pose_ros.results import Faces


def box_overlaps(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Overlap of every box with every other.

    Args:
        boxes_xyxy: (N, 4), x1 <= x2 and y1 <= y2.

    Returns:
        iou: (N, N) intersection over union, in [0, 1].
        contained: (N, N) intersection over the smaller of the two areas, in [0, 1].
    """
    size = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clamp(min=0)
    area = size.prod(dim=1)  # (N,)
    top_left = torch.maximum(boxes_xyxy[:, None, :2], boxes_xyxy[None, :, :2])
    bottom_right = torch.minimum(boxes_xyxy[:, None, 2:], boxes_xyxy[None, :, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(dim=2)  # (N, N)
    tiny = torch.finfo(boxes_xyxy.dtype).tiny  # a box without area overlaps nothing
    iou = intersection / (area[:, None] + area[None, :] - intersection).clamp(min=tiny)
    contained = intersection / torch.minimum(area[:, None], area[None, :]).clamp(min=tiny)
    return iou, contained


def suppress(same: Tensor) -> Tensor:
    """Greedy suppression of boxes sorted from best to worst.

    A box is dropped when a better box that is itself kept counts as the same face. Each round
    settles at least one more box of every chain of overlaps, so a handful of rounds suffices.

    Args:
        same: (N, N) bool, symmetric: boxes i and j are proposals for the same face.

    Returns:
        (N,) bool: kept.
    """
    better_and_same = torch.triu(same, diagonal=1)  # [i, j]: i is better than j
    keep = torch.ones(len(same), dtype=torch.bool, device=same.device)
    while True:
        settled = ~(better_and_same & keep[:, None]).any(dim=0)
        if torch.equal(settled, keep):
            return keep
        keep = settled


def nms(boxes_xyxy: Tensor, scores: Tensor, max_iou: float) -> Tensor:
    """Non-maximum suppression.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,).
        max_iou: a box with more intersection over union than this with a better one is dropped.

    Returns:
        (M,) int64 indices of the boxes kept, best first.
    """
    order = scores.argsort(descending=True, stable=True)
    iou, _ = box_overlaps(boxes_xyxy[order])
    return order[suppress(iou > max_iou)]


def merge_proposals(proposals: Faces, iou: float, contained: float) -> Faces:
    """Merge proposals for the same face into their mean, weighted by score.

    The mean is steadier from frame to frame than the best box alone; the score is the best one's.

    Args:
        proposals: N faces in any order.
        iou: proposals with at least this intersection over union are the same face.
        contained: so are proposals with at least this part of the smaller in the larger.

    Returns:
        Faces, best first.
    """
    proposals = proposals[proposals.scores.argsort(descending=True, stable=True)]
    overlap_iou, overlap_contained = box_overlaps(proposals.boxes_xyxy)
    same = (overlap_iou >= iou) | (overlap_contained >= contained)
    keep = suppress(same)
    # A dropped box may overlap several kept ones: it votes for the best of them only.
    claims = torch.where(keep[:, None], same, False)
    claims.fill_diagonal_(False)
    claims |= torch.diag(keep)
    first_claim = claims & (claims.cumsum(dim=0) == 1)  # (N, N): row keeps, column votes
    similar = (overlap_iou >= iou) | torch.diag(keep)  # a box of another size is no estimate
    weight = (first_claim & similar)[keep] * proposals.scores  # (M, N)
    weight = weight / weight.sum(dim=1, keepdim=True)
    boxes_xyxy = weight @ proposals.boxes_xyxy
    anchors_uv = torch.einsum('mn,nkc->mkc', weight, proposals.anchors_uv)
    return Faces(boxes_xyxy, proposals.scores[keep], anchors_uv)
