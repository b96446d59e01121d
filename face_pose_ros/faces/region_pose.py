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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_pose_ros.faces.box_camera import box_rotation
from face_pose_ros.faces.nms import nms
from face_pose_ros.faces.single_shot import (
    FRONTAL_COLUMNS,
    HEAD_CENTRE,
    HEAD_SIZE_M,
    CellPoses,
    Residual,
    cells_of_poses,
    head_boxes,
    poses_in_camera,
    strided,
)
from face_pose_ros.geometry import se3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.crop import FaceCrops, render_crops
from face_pose_ros.weights import load_weights

REGION_PX = 64
REGION_SCALE = 1.5  # side of a region over the apparent size of the head
PROPOSED_FROM = 0.1  # score of the single-shot network that is worth a second look
_NUMBERS = 16  # score, u, v, log size, two columns of the rotation, six logarithms of sigma
_MAX_LOG_SIGMA = 4.0
# Of the normalised errors (`faces.head_uncertainty`), where the network says 0.
_SIGMA = 0.1


@dataclass(frozen=True)
class RegionPoseOptions:
    """Sizes of the network."""

    channels: Sequence[int] = (32, 64, 112, 176)  # at strides 2, 4, 8, 16
    blocks: Sequence[int] = (1, 1, 2, 1)  # residual blocks at each
    hidden: int = 256  # width of the layer that sees all cells at once

    def __post_init__(self) -> None:
        for name in ('channels', 'blocks'):
            values = getattr(self, name)
            if len(values) != 4 or min(values) < 1:
                raise ValueError(f'{name} must be 4 positive numbers, got {values}')
        if self.hidden < 1:
            raise ValueError(f'hidden must be at least 1, got {self.hidden}')


class RegionPose(nn.Module):
    """Pictures of regions -> numbers that `read_regions` reads."""

    def __init__(self, options: RegionPoseOptions | None = None) -> None:
        super().__init__()
        self.options = options = options or RegionPoseOptions()
        widths = (3, *options.channels)
        layers: list[nn.Module] = []
        for i, ((a, b), blocks) in enumerate(zip(pairwise(widths), options.blocks, strict=True)):
            # Even windows are centred on the cells of the next grid.
            layers += strided(a, b, 6 if i == 0 else 4)
            layers += [Residual(b) for _ in range(blocks)]
        self.features = nn.Sequential(*layers)
        cells = (REGION_PX // 2 ** len(options.channels)) ** 2
        self.all_cells = nn.Sequential(
            nn.Linear(cells * widths[-1], options.hidden, bias=False),
            nn.BatchNorm1d(options.hidden),
            nn.ReLU(),
        )
        self.last = nn.Linear(options.hidden, _NUMBERS)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, regions: Tensor) -> Tensor:
        """Look at regions.

        Args:
            regions: (N, 3, REGION_PX, REGION_PX) float RGB in [0, 1].

        Returns:
            (N, 16), see `read_regions`.

        Raises:
            ValueError: The shape is not as above.
        """
        if regions.ndim != 4 or regions.shape[1:] != (3, REGION_PX, REGION_PX):
            raise ValueError(
                f'expected regions of shape (N, 3, {REGION_PX}, {REGION_PX}), '
                f'got {tuple(regions.shape)}'
            )
        hidden = self.all_cells(self.features(4 * regions - 2).flatten(1))
        with torch.autocast(regions.device.type, enabled=False):
            return self.last(hidden.float())


class MirrorAveraged(nn.Module):
    """The mean of what the network says of regions and of their mirror images."""

    def __init__(self, network: RegionPose) -> None:
        super().__init__()
        self.network = network

    def forward(self, regions: Tensor) -> Tensor:
        """As `RegionPose`."""
        own, mirrored = self.network(torch.cat([regions, regions.flip(-1)])).chunk(2)
        return 0.5 * (own + of_mirrored(mirrored))


class ReadRegions(NamedTuple):
    """What the numbers of N regions say."""

    cells: CellPoses  # (N, ...) in the regions' pixels
    sigma: Tensor  # (N, 6) standard deviations of the normalised errors


def read_regions(numbers: Tensor) -> ReadRegions:
    """What numbers (N, 16) say."""
    score, uv, log_size, columns, log_sigma = numbers.split([1, 2, 1, 6, 6], -1)
    uv = 0.5 * (REGION_PX - 1) + 0.5 * REGION_PX * uv
    cells = CellPoses(
        score[:, 0],
        uv,
        log_size[:, 0] + math.log(REGION_PX / REGION_SCALE),
        columns + columns.new_tensor(FRONTAL_COLUMNS),
    )
    return ReadRegions(cells, _SIGMA * log_sigma.clamp(-_MAX_LOG_SIGMA, _MAX_LOG_SIGMA).exp())


def of_mirrored(numbers: Tensor) -> Tensor:
    """What numbers (N, 16) of mirrored regions say of the regions."""
    # The camera's x and the head's y change sign: of the second column all but the camera's x.
    sign = [1, -1, 1, 1, -1, 1, 1, 1, -1, -1, *[1] * 6]
    return numbers * numbers.new_tensor(sign)


def regions_of_poses(T_cam_head: Tensor, size_px: int = REGION_PX) -> FaceCrops:
    """Cameras turned towards heads at poses (N, 4, 4), in which these stand upright."""
    R = T_cam_head[:, :3, :3]
    centre = se3.apply(T_cam_head, R.new_tensor([HEAD_CENTRE]))[:, 0]
    distance = centre.norm(dim=-1)
    R_cam_box = box_rotation(centre / distance[:, None])
    # The head's z axis is to point up. A head seen from above has no up: any roll will do.
    down = -(R_cam_box.mT @ R[..., 2:]).squeeze(-1)[:, :2]
    down = F.normalize(torch.where(down.norm(dim=-1, keepdim=True) > 1e-6, down, 1.0), dim=-1)
    x, y = down.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    roll = torch.stack([y, x, zero, -x, y, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
    focal_px = size_px / REGION_SCALE * distance / HEAD_SIZE_M
    seen = torch.ones_like(distance, dtype=torch.bool)
    return FaceCrops(R_cam_box @ roll, focal_px, size_px, seen)


def region_cameras(focal_px: Tensor, centre_px: Tensor, size_px: int) -> Camera:
    """Pinhole cameras (N,) of regions, of their focal lengths (N,) and principal points (N, 2)."""
    one = Camera.from_K([1, 0, 0, 0, 1, 0, 0, 0, 1], size_px, size_px)
    count = len(focal_px)
    return replace(
        one,
        f=focal_px[:, None].expand(-1, 2),
        c=centre_px,
        dist=one.dist.to(focal_px).expand(count, -1),
        range_max=one.range_max.to(focal_px).expand(count),
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
    """Heads of one image after the second look, surest first; on the CPU."""

    T_cam_head: Tensor  # (N, 4, 4) float64
    scores: Tensor  # (N,) in [0, 1]
    sigma: Tensor  # (N, 6) float64, standard deviations of the normalised errors


def look_again(
    network: Callable[[Tensor], Tensor],
    image_rgb: Tensor,
    T_cam_head: Tensor,
    camera: Camera,
    score_offset: Tensor | float = 0.0,
    max_iou: float = 0.4,
) -> SeenAgain:
    """Score and pose proposed heads, each head once.

    Args:
        network: Regions -> numbers for `read_regions`.
        image_rgb: (H, W, 3) uint8 RGB, on the network's device.
        T_cam_head: (N, 4, 4) float64 proposals, on the CPU.
        camera: Of the image, float64, on the CPU.
        score_offset: Added to the logits.
        max_iou: More intersection over union with a surer one's `head_boxes` means the same head.
    """
    if len(T_cam_head) == 0:
        return SeenAgain(T_cam_head, torch.zeros(0), T_cam_head.new_zeros(0, 6))
    regions = regions_of_poses(T_cam_head)
    numbers = network(render_crops(image_rgb, regions, camera))
    cells, sigma = read_regions(numbers.cpu().to(camera.f))
    T = poses_of_regions(cells, regions)
    scores = (cells.score + score_offset).sigmoid()
    in_image, visible = cells_of_poses(T, camera)
    usable = (visible & T.isfinite().all(-1).all(-1)).nonzero()[:, 0]
    heads = usable[nms(head_boxes(in_image)[usable], scores[usable], max_iou)]
    return SeenAgain(T[heads], scores[heads].float(), sigma[heads])


def packaged_region_pose(device: torch.device | str = 'cpu') -> MirrorAveraged:
    """Build the network with the packaged weights, for inference only.

    Raises:
        WeightsError: the weights file is missing or damaged.
    """
    network, weights = MirrorAveraged(RegionPose()), load_weights('region_pose')
    state = {name: value for name, value in weights.items() if name.startswith('network.')}
    counters = {n: c for n, c in network.state_dict().items() if n.endswith('_tracked')}
    network.load_state_dict(state | counters)
    network.requires_grad_(False).eval()
    # torch's stubs lack this argument.
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
