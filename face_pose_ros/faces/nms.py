# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression: many proposals per face -> one face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core

Boxes = NDArray[np.floating]


def box_overlaps(boxes_xyxy: Boxes) -> tuple[Boxes, Boxes]:
    """Overlap of every box with every other.

    Args:
        boxes_xyxy: (N, 4), x1 <= x2 and y1 <= y2.

    Returns:
        iou: (N, N) intersection over union, in [0, 1].
        contained: (N, N) intersection over the smaller of the two areas, in [0, 1].
    """
    return _core.box_overlaps(boxes_xyxy)


def suppress(same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Greedy suppression of boxes sorted from best to worst.

    A box is dropped when a better box that is itself kept counts as the same face.

    Args:
        same: (N, N) bool, symmetric: boxes i and j are proposals for the same face.

    Returns:
        (N,) bool: kept.
    """
    return _core.suppress(same)


def nms(boxes_xyxy: Boxes, scores: NDArray[np.floating], max_iou: float) -> NDArray[np.intp]:
    """Non-maximum suppression.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,).
        max_iou: A box with more intersection over union than this with a better one is dropped.

    Returns:
        (M,) indices of the boxes kept, best first.
    """
    order = np.argsort(-scores, kind='stable')
    iou, _ = box_overlaps(boxes_xyxy[order])
    return order[suppress(iou > max_iou)]
