# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decodes the single-shot network: every cell proposes a head with its 6-DoF pose.

The idea of img2pose (Albiero et al., CVPR 2021): a face is proposed as a pose, and its box is
the bounds of the projected head, not a second regression that could disagree with it.

What differs from the paper, and why:

- No anchors. Every cell of three grids predicts whether it contains the centre of a head, and that
  head's pose (as FCOS, Tian et al. 2019, does with boxes). A head's grid follows from its size.
- These poses are the proposals. The second stage is in `faces.region_pose`.
- A cell's pose is relative to the *box camera*, which is turned towards the head's centre, and is
  converted to the full camera by that exact rotation (`faces.box_camera`), through any lens. The
  paper's rotation is a shear made orthogonal again; its focal length is a guess, so its metres are
  units.
- Instead of six numbers normalised by the data's mean and deviation: the offset of the head's
  centre from the cell, the logarithm of the head's apparent size, and two columns of the rotation,
  which are continuous (Zhou et al., "On the Continuity of Rotation Representations", CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.faces.box_camera import box_rotation, pixels_per_radian
from face_pose_ros.faces.nms import nms
from face_pose_ros.faces.resize import resize
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera

Array = NDArray[np.float64]
Pictures = NDArray[np.float32]  # (N, 3, H, W) RGB in [0, 1]
# Images -> per stride (N, 10, H / stride, W / stride)
Network = Callable[[Pictures], Sequence[NDArray[np.float32]]]

HEAD_SIZE_M = 0.24  # the mean head's height: the apparent size is in this unit
# Centre of the head in the head frame [m].
HEAD_CENTRE = (-0.07, 0.0, -0.01)
# Above this intersection over union of `head_boxes` two proposals are one head. Face boxes of one
# head with different rotations do not overlap enough.
SAME_HEAD_IOU = 0.4
MAX_PROPOSALS = 400  # the best ones, before suppression
STRIDES = (8, 16, 32)  # px
SIZE_MULTIPLE = 32  # of both sides of the image [px]
# The network is trained for heads of 16 to 160 px. Larger ones are found in the image at a third
# of its size, which costs a ninth.
LARGEST_HEAD_PX = 150.0
LEVEL_RATIO = 3.0


class CellPoses(NamedTuple):
    """Decoded output of M cells, each for the head whose centre is near it, in px of the image."""

    score: Array  # (M,) logit
    uv: Array  # (M, 2) px, centre of the head
    log_size: Array  # (M,) logarithm of the head's apparent size [px]
    columns: Array  # (M, 6) first two columns of R_box_head, before they are made orthonormal


class PosedFaces(NamedTuple):
    """Faces of one image, best first."""

    T_cam_head: Array  # (N, 4, 4)
    boxes_xyxy: Array  # (N, 4) px
    scores: Array  # (N,) in [0, 1]


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes (height, width) [px] to which an image is scaled for the network, finest first."""
    sizes, scale = [(height, width)], 1.0
    # A head can fill the image's shorter side.
    while min(height, width) * scale > LARGEST_HEAD_PX:
        scale /= LEVEL_RATIO
        sizes.append((max(1, round(height * scale)), max(1, round(width * scale))))
    return sizes


def cells_of_picture(network: Network, picture: NDArray[np.uint8]) -> CellPoses:
    """Decoded cells of all levels and strides (M, ...), in px of the image.

    Args:
        network: The single-shot network on any engine.
        picture: (H, W, 3) RGB image of any size.
    """
    height, width = picture.shape[:2]
    parts = []
    for size in level_sizes(height, width):
        picture = resize(picture, *size)
        cells = cell_poses([output[0] for output in network(padded(picture))])
        scale = np.array([width / size[1], height / size[0]])
        parts.append(
            cells._replace(
                uv=(cells.uv + 0.5) * scale - 0.5,
                log_size=cells.log_size + 0.5 * np.log(scale).sum(),
            )
        )
    return CellPoses(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def padded(picture: NDArray[np.uint8]) -> Pictures:
    """An image (H, W, 3) of [0, 255] as (1, 3, H, W) in [0, 1], zero-padded to multiples of 32."""
    height, width = picture.shape[:2]
    sides = height + -height % SIZE_MULTIPLE, width + -width % SIZE_MULTIPLE
    planes = np.zeros((1, 3, *sides), np.float32)
    planes[0, :, :height, :width] = picture.transpose(2, 0, 1)
    planes /= np.float32(255)
    return planes


def cell_poses(outputs: Sequence[NDArray[np.float32]]) -> CellPoses:
    """Decoded cells of all strides (M, ...) from outputs (10, H / stride, W / stride)."""
    parts = []
    for output, stride in zip(outputs, STRIDES, strict=True):
        height, width = output.shape[1:]
        values = output.reshape(len(output), -1).T.astype(np.float64)
        uv = cell_centres(height, width, stride) + stride * values[:, 1:3]
        parts.append(CellPoses(values[:, 0], uv, values[:, 3] + np.log(stride), values[:, 4:]))
    return CellPoses(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def cell_centres(height: int, width: int, stride: int) -> Array:
    """(height * width, 2) px of the image, row by row."""
    rows, columns = np.divmod(np.arange(height * width), width)
    return (np.stack([columns, rows], -1) + 0.5) * stride - 0.5


def poses_in_camera(cells: CellPoses, camera: Camera) -> tuple[Array, NDArray[np.bool_]]:
    """Poses T_cam_head (M, 4, 4) of cells, and whether the lens has rays for them.

    Args:
        cells: (M, ...), in the pixels of the camera.
        camera: Of the image.
    """
    rays, valid = camera.unproject(cells.uv)
    size_rad = np.exp(cells.log_size) / pixels_per_radian(camera, rays)
    return poses_along(rays, size_rad, cells.columns), valid


def poses_along(rays: Array, size_rad: Array, columns: Array) -> Array:
    """Poses (M, 4, 4) of heads of apparent sizes (M,) [rad] with centres on rays (M, 3).

    Args:
        rays: Unit vectors in the camera's frame.
        size_rad: HEAD_SIZE_M over the distance.
        columns: (M, 6) as in `CellPoses`.
    """
    T = np.tile(np.eye(4), (len(rays), 1, 1))
    T[:, :3, :3] = box_rotation(rays) @ rotations.from_columns(columns)
    centre = rays * (HEAD_SIZE_M / size_rad)[:, None]
    T[:, :3, 3] = centre - T[:, :3, :3] @ np.array(HEAD_CENTRE)
    return T


def middles_of_poses(T_cam_head: Array, camera: Camera) -> CellPoses:
    """Centres and sizes in the image of heads at poses (M, 4, 4); score NaN if invisible."""
    centre = T_cam_head[:, :3, :3] @ np.array(HEAD_CENTRE) + T_cam_head[:, :3, 3]
    distance = np.linalg.norm(centre, axis=-1)
    rays = centre / distance[:, None]
    uv, valid, _ = camera.project(rays)
    size = pixels_per_radian(camera, rays) * HEAD_SIZE_M / distance
    columns = (box_rotation(rays).swapaxes(1, 2) @ T_cam_head[:, :3, :3])[..., :2]
    return CellPoses(
        np.where(valid, 0.0, np.nan),
        uv,
        np.log(size),
        columns.swapaxes(1, 2).reshape(-1, 6),
    )


def head_boxes(cells: CellPoses) -> Array:
    """(M, 4) px: squares of the apparent size around heads, independent of the rotation."""
    half = 0.5 * np.exp(cells.log_size)[:, None]
    return np.concatenate([cells.uv - half, cells.uv + half], -1)


def boxes_of_poses(T_cam_head: Array, xyz_head: Array, camera: Camera) -> Array:
    """(M, 4) px: bounds of the head's points (P, 3) at poses (M, 4, 4), not clipped."""
    uv, valid, _ = camera.project(rotations.apply(T_cam_head, xyz_head))
    low = np.where(valid[..., None], uv, np.inf).min(-2)
    high = np.where(valid[..., None], uv, -np.inf).max(-2)
    return np.concatenate([low, high], -1)


def decode_faces(
    cells: CellPoses, camera: Camera, xyz_head: Array, score_threshold: float
) -> PosedFaces:
    """Faces of one image from all its cells (M, ...).

    Args:
        cells: In the pixels of the camera.
        camera: Of the image.
        xyz_head: (P, 3) m, points of the mean face, whose bounds are the box.
        score_threshold: In (0, 1).
    """
    scores = 0.5 * (1 + np.tanh(0.5 * cells.score))
    best = np.argsort(-scores, kind='stable')[:MAX_PROPOSALS]
    best = best[scores[best] > score_threshold]
    cells, scores = CellPoses(*(field[best] for field in cells)), scores[best]
    T, valid = poses_in_camera(cells, camera)
    boxes = boxes_of_poses(T, xyz_head, camera)
    usable = np.flatnonzero(valid & np.isfinite(boxes).all(-1))
    faces = usable[nms(head_boxes(cells)[usable], scores[usable], SAME_HEAD_IOU)]
    return PosedFaces(T[faces], boxes[faces], scores[faces])
