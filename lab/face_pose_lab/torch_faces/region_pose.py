"""The single-shot detector's second look: a region of the picture -> the pose of the head in it.

img2pose (Albiero et al., CVPR 2021) pools 7x7 regions of features for the poses of its proposals,
as Faster R-CNN (Ren et al. 2015) does for boxes. Here a region is a picture: that of a pinhole
camera turned towards the proposed head, rolled until the head stands upright, and zoomed to a head
of always the same size (`keypoints.crop` draws it, through any lens). A head of 20 px has all of
its pixels there, where features of stride 8 have two cells and a half; and a network that sees all
heads alike does not have to learn places, sizes and rolls.

It says what a cell of the first network says, a score and a pose, and how sure it is of the pose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_lab.torch_faces.box_camera import upright_rotation
from face_pose_lab.torch_faces.nms import nms
from face_pose_lab.torch_faces.single_shot import (
    FRONTAL_COLUMNS,
    HEAD_CENTRE,
    HEAD_SIZE_M,
    SAME_HEAD_IOU,
    CellPoses,
    PosedFaces,
    cells_of_poses,
    head_boxes,
    poses_in_camera,
)
from face_pose_lab.torch_geometry import se3
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.torch_geometry.crops import FaceCrops, render_crops

REGION_PX = 64
REGION_SCALE = 1.5  # side of a region over the apparent size of the head
PROPOSED_FROM = 0.1  # score of the single-shot network that is worth a second look
_NUMBERS = 16  # score, u, v, log size, two columns of the rotation, six logarithms of sigma
_MAX_LOG_SIGMA = 4.0
# Of the normalised errors (`faces.head_uncertainty`), where the network says 0.
_SIGMA = 0.1
_CENTRED_FROM = -1.4  # logit, as trained, of what is worth another region around it: 0.2
MOST_REGIONS = 64  # of one image, whatever it shows


class ReadRegions(NamedTuple):
    """What the numbers of N regions say."""

    cells: CellPoses  # (N, ...) in the regions' pixels
    sigma: Tensor  # (N, 6) standard deviations of the normalised errors


def read_regions(numbers: Tensor) -> ReadRegions:
    """What numbers (N, 16 or more) say of poses.

    The first 16 are: logit; the middle's u, v from that of the region, in halves of its side;
    logarithm of the size over REGION_PX / REGION_SCALE; two columns of the rotation less those of
    a head that looks into the camera; logarithms of sigma over 0.1.
    """
    numbers = numbers[..., :_NUMBERS]
    score, uv, log_size, columns, log_sigma = numbers.split([1, 2, 1, 6, 6], -1)
    uv = 0.5 * (REGION_PX - 1) + 0.5 * REGION_PX * uv
    cells = CellPoses(
        score[:, 0],
        uv,
        log_size[:, 0] + math.log(REGION_PX / REGION_SCALE),
        columns + columns.new_tensor(FRONTAL_COLUMNS),
    )
    return ReadRegions(cells, _SIGMA * log_sigma.clamp(-_MAX_LOG_SIGMA, _MAX_LOG_SIGMA).exp())


def read_keypoints(numbers: Tensor) -> Tensor:
    """Pixels (N, K, 2) of the keypoints in the regions, of numbers (N, 16 + 2 K)."""
    places = numbers[:, _NUMBERS:].unflatten(1, (-1, 2))
    return 0.5 * (REGION_PX - 1) + 0.5 * REGION_PX * places


def regions_of_poses(T_cam_head: Tensor, size_px: int = REGION_PX) -> FaceCrops:
    """Cameras turned towards heads at poses (N, 4, 4), in which these stand upright."""
    R = T_cam_head[:, :3, :3]
    centre = se3.apply(T_cam_head, R.new_tensor([HEAD_CENTRE]))[:, 0]
    distance = centre.norm(dim=-1)
    R_cam_region = upright_rotation(centre / distance[:, None], R[..., 2])
    focal_px = size_px / REGION_SCALE * distance / HEAD_SIZE_M
    seen = torch.ones_like(distance, dtype=torch.bool)
    return FaceCrops(R_cam_region, focal_px, size_px, seen)


_PINHOLE = Camera.from_K([1, 0, 0, 0, 1, 0, 0, 0, 1], REGION_PX, REGION_PX)


def region_cameras(focal_px: Tensor, centre_px: Tensor, size_px: int) -> Camera:
    """Pinhole cameras (N,) of regions, of their focal lengths (N,) and principal points (N, 2)."""
    count = len(focal_px)
    return replace(
        _PINHOLE,
        f=focal_px[:, None].expand(-1, 2),
        c=centre_px,
        dist=_PINHOLE.dist.to(focal_px).expand(count, -1),
        range_max=_PINHOLE.range_max.to(focal_px).expand(count),
        width=size_px,
        height=size_px,
    )


def poses_of_regions(cells: CellPoses, regions: FaceCrops) -> Tensor:
    """T_cam_head (N, 4, 4) float64 of what is said of N regions."""
    middle = regions.focal_px.new_full((len(regions.focal_px), 2), 0.5 * (regions.size_px - 1))
    cameras = region_cameras(regions.focal_px, middle, regions.size_px)
    # Each camera sees one head.
    T, _ = poses_in_camera(CellPoses(*(field[:, None] for field in cells)), cameras)
    R = regions.R_cam_crop
    return se3.from_rt(R, R.new_zeros(len(R), 3)) @ T[:, 0]


class SeenAgain(NamedTuple):
    """Heads of one image after the second look, surest first; float64, on the CPU."""

    T_cam_head: Tensor  # (N, 4, 4)
    logits: Tensor  # (N,) of the score, before calibration
    sigma: Tensor  # (N, 6) standard deviations of the normalised errors

    def of(self, index: Tensor) -> SeenAgain:
        """Some of them, by a (M,) index or (N,) mask."""
        return SeenAgain(*(field[index] for field in self))


def look_again(
    network: Callable[[Tensor], Tensor], image_rgb: Tensor, proposed: PosedFaces, camera: Camera
) -> SeenAgain:
    """Score and pose proposed heads, each once; what seems to be one is looked at again, centred.

    The logits of the first network and of this one are added: each sees what the other one does
    not, all around the head or all of its pixels.

    Args:
        network: Regions -> numbers for `read_regions`.
        image_rgb: (H, W, 3) uint8 RGB, on the network's device.
        proposed: Heads of the first look, best first, on the CPU; MOST_REGIONS are looked at.
        camera: Of the image, float64, on the CPU.
    """
    T_cam_head = proposed.T_cam_head[:MOST_REGIONS]
    first = proposed.scores[:MOST_REGIONS].to(camera.f).logit(eps=1e-6)
    seen = _seen(network, image_rgb, T_cam_head, first, camera)
    once = _each_once(seen, camera)
    seen, first = seen.of(once), first[once]
    # Who was proposed beside, too near or rolled is in the middle of the next region.
    sure = seen.logits > _CENTRED_FROM
    centred = _seen(network, image_rgb, seen.T_cam_head[sure], first[sure], camera)
    pairs = zip(centred, seen.of(~sure), strict=True)
    heads = SeenAgain(*(torch.cat(pair) for pair in pairs))
    return heads.of(_each_once(heads, camera))


def _seen(
    network: Callable[[Tensor], Tensor],
    image_rgb: Tensor,
    T_cam_head: Tensor,
    first: Tensor,
    camera: Camera,
) -> SeenAgain:
    """What the network says of regions around heads at poses, whose logits so far were `first`."""
    if len(T_cam_head) == 0:
        return SeenAgain(T_cam_head, first, T_cam_head.new_zeros(0, 6))
    # Drawn finer, as in training: a large head would be aliased.
    fine = render_crops(image_rgb, regions_of_poses(T_cam_head, 2 * REGION_PX), camera)
    cells, sigma = read_regions(network(F.avg_pool2d(fine, 2)).cpu().to(camera.f))
    T = poses_of_regions(cells, regions_of_poses(T_cam_head))
    return SeenAgain(T, first + cells.score, sigma)


def _each_once(heads: SeenAgain, camera: Camera) -> Tensor:
    """Indices of the heads whose middle is in the picture, each once, surest first."""
    T = heads.T_cam_head
    in_image, visible = cells_of_poses(T, camera)
    end = in_image.uv.new_tensor([camera.width, camera.height]) - 0.5
    inside = ((in_image.uv > -0.5) & (in_image.uv < end)).all(-1)
    usable = (visible & inside & T.isfinite().all(-1).all(-1)).nonzero()[:, 0]
    return usable[nms(head_boxes(in_image)[usable], heads.logits[usable], SAME_HEAD_IOU)]
