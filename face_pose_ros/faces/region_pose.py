# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Second stage of the single-shot detector: region of the image -> pose of the head in it.

img2pose (Albiero et al., CVPR 2021) pools 7x7 regions of features for the poses of its proposals,
as Faster R-CNN (Ren et al. 2015) does for boxes. Here a region is the image of a pinhole camera
that is turned towards the proposed head, rolled until the head is upright and zoomed to a constant
size of the head (`geometry.crops` renders it, through any lens). It keeps all pixels of a head of
20 px, which has two and a half cells of stride 8, and the network does not have to learn position,
size and roll.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.faces.box_camera import upright_rotation
from face_pose_ros.faces.nms import nms
from face_pose_ros.faces.single_shot import (
    HEAD_CENTRE,
    HEAD_SIZE_M,
    SAME_HEAD_IOU,
    CellPoses,
    PosedFaces,
    head_boxes,
    middles_of_poses,
    poses_along,
)
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops

Array = NDArray[np.float64]

REGION_PX = 64
REGION_SCALE = 1.5  # side of a region over the apparent size of the head
PROPOSED_FROM = 0.1  # score of the single-shot network from which a region is rendered
MOST_REGIONS = 64  # per image at most
# R_box_head of a frontal face: the network's output for zeros.
FRONTAL_COLUMNS = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0)
NUMBERS = 16  # score, u, v, log size, two columns of the rotation, six logarithms of sigma
MAX_LOG_SIGMA = 4.0
# Of the normalised errors (`faces.head_uncertainty`) for an output of 0.
SIGMA = 0.1
_CENTRED_FROM = -1.4  # uncalibrated logit from which a head is measured once more: probability 0.2
_SUPERSAMPLED = 2  # supersampling, as in training: a large head would be aliased


class Network(Protocol):
    """Crops of an image -> numbers."""

    def on_crops(
        self, image: NDArray[np.uint8], crops: Crops, camera: Camera, shrink: int = 1
    ) -> tuple[NDArray[np.float32], ...]:
        """The network's outputs for crops of an image, rendered `shrink` times as fine."""


class ReadRegions(NamedTuple):
    """Decoded output of N regions."""

    cells: CellPoses  # (N, ...) in the regions' pixels
    sigma: Array  # (N, 6) standard deviations of the normalised errors


class PosedHeads(NamedTuple):
    """Heads of one image after the second stage, highest score first."""

    T_cam_head: Array  # (N, 4, 4)
    logits: Array  # (N,) of the score, before calibration
    sigma: Array  # (N, 6) standard deviations of the normalised errors

    def of(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> PosedHeads:
        """A subset, by a (M,) index or (N,) mask."""
        return PosedHeads(*(field[index] for field in self))


def read_regions(numbers: NDArray[np.floating]) -> ReadRegions:
    """Decode the network's output (N, 16 or more).

    The first 16 are: logit; the centre's u, v from that of the region, in halves of its side;
    logarithm of the size over REGION_PX / REGION_SCALE; two columns of the rotation less those of
    a frontal head; logarithms of sigma over 0.1.
    """
    numbers = numbers[:, :NUMBERS].astype(np.float64)
    cells = CellPoses(
        numbers[:, 0],
        0.5 * (REGION_PX - 1) + 0.5 * REGION_PX * numbers[:, 1:3],
        numbers[:, 3] + math.log(REGION_PX / REGION_SCALE),
        numbers[:, 4:10] + np.array(FRONTAL_COLUMNS),
    )
    log_sigma = numbers[:, 10:].clip(-MAX_LOG_SIGMA, MAX_LOG_SIGMA)
    return ReadRegions(cells, SIGMA * np.exp(log_sigma))


def regions_of_poses(T_cam_head: Array) -> Crops:
    """Crops turned towards heads at poses (N, 4, 4), in which these are upright."""
    R = T_cam_head[:, :3, :3]
    centre = R @ np.array(HEAD_CENTRE) + T_cam_head[:, :3, 3]
    distance = np.linalg.norm(centre, axis=-1)
    R_cam_region = upright_rotation(centre / distance[:, None], R[..., 2])
    focal_px = REGION_PX / REGION_SCALE * distance / HEAD_SIZE_M
    return Crops(R_cam_region, focal_px, np.ones(len(R), dtype=bool), REGION_PX)


def poses_of_regions(cells: CellPoses, regions: Crops) -> Array:
    """T_cam_head (N, 4, 4) of the decoded output of N regions."""
    xy = (cells.uv - 0.5 * (regions.size_px - 1)) / regions.focal_px[:, None]
    z = 1 / np.sqrt(1 + (xy * xy).sum(-1))
    rays = np.concatenate([xy, np.ones_like(xy[:, :1])], -1) * z[:, None]
    # A pinhole's steradian at this ray: f^2 / z^3 px^2 (`pixels_per_radian`).
    px_per_radian = regions.focal_px * z**-1.5
    T = poses_along(rays, np.exp(cells.log_size) / px_per_radian, cells.columns)
    T[:, :3] = regions.R_cam_crop @ T[:, :3]
    return T


def pose_proposals(
    network: Network, image_rgb: NDArray[np.uint8], proposed: PosedFaces, camera: Camera
) -> PosedHeads:
    """Scores and poses of proposed heads, without duplicates, from regions around them.

    Args:
        network: The region network.
        image_rgb: (H, W, 3) uint8 RGB.
        proposed: Of the first stage, best first.
        camera: Of the image.
    """
    T_cam_head = proposed.T_cam_head[:MOST_REGIONS]
    scores = proposed.scores[:MOST_REGIONS].clip(1e-6, 1 - 1e-6)
    first = np.log(scores / (1 - scores))
    heads = _posed(network, image_rgb, T_cam_head, first, camera)
    once = _each_once(heads, camera)
    heads, first = heads.of(once), first[once]
    # A head that was proposed off-centre, too large or rolled is centred in the next region.
    sure = heads.logits > _CENTRED_FROM
    centred = _posed(network, image_rgb, heads.T_cam_head[sure], first[sure], camera)
    pairs = zip(centred, heads.of(~sure), strict=True)
    heads = PosedHeads(*(np.concatenate(pair) for pair in pairs))
    return heads.of(_each_once(heads, camera))


def _posed(
    network: Network,
    image_rgb: NDArray[np.uint8],
    T_cam_head: Array,
    first: Array,
    camera: Camera,
) -> PosedHeads:
    """Heads measured in regions around poses; `first`: logits of the first stage."""
    if len(T_cam_head) == 0:
        return PosedHeads(T_cam_head, first, np.zeros((0, 6)))
    regions = regions_of_poses(T_cam_head)
    (numbers, *_) = network.on_crops(image_rgb, regions, camera, _SUPERSAMPLED)
    cells, sigma = read_regions(numbers)
    return PosedHeads(poses_of_regions(cells, regions), first + cells.score, sigma)


def _each_once(heads: PosedHeads, camera: Camera) -> NDArray[np.intp]:
    """Indices of distinct heads with their centre in the image, highest score first."""
    in_image = middles_of_poses(heads.T_cam_head, camera)
    end = np.array([camera.width, camera.height]) - 0.5
    inside = ((in_image.uv > -0.5) & (in_image.uv < end)).all(-1)
    finite = np.isfinite(heads.T_cam_head).all((-1, -2))
    usable = np.flatnonzero(inside & finite & ~np.isnan(in_image.score))
    return usable[nms(head_boxes(in_image)[usable], heads.logits[usable], SAME_HEAD_IOU)]
