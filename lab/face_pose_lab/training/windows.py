# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windows of scenes: parts of an image around its heads, so that a step has more of them.

A head of 50 px covers one hundredth of an image of 640 x 480. A window is a zoomed and shifted
image, whose camera is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from face_pose_lab.torch_faces.single_shot import cells_of_poses
from face_pose_lab.training.augment import AugmentOptions, photometric
from face_pose_lab.training.scenes import SceneBatch, moved_scenes
from face_pose_lab.training.single_shot_losses import SingleShotLossOptions, is_wanted
from face_pose_ros.faces.single_shot import SIZE_MULTIPLE


@dataclass(frozen=True)
class WindowOptions:
    """Size and position of windows."""

    side_px: int = 0  # of the window; 0: the whole picture
    min_head_px: float = 18.0  # apparent sizes of the head aimed at, log-uniform between these two
    max_head_px: float = 150.0
    aimed: float = 0.85  # share of windows around a head; the others are anywhere
    # Limits of the zoom: an enlarged picture is blurred, a window beyond the picture is black.
    max_zoom: float = 1.8
    min_filled: float = 0.8  # shorter side of the zoomed picture, over the window's

    def __post_init__(self) -> None:
        if self.side_px < 0 or self.side_px % SIZE_MULTIPLE:
            raise ValueError(
                f'side_px must be a multiple of {SIZE_MULTIPLE} or 0, got {self.side_px}'
            )


def augment_scenes(
    batch: SceneBatch,
    augment: AugmentOptions,
    windows: WindowOptions,
    wanted: SingleShotLossOptions,
    generator: torch.Generator,
) -> SceneBatch:
    """Images, or windows of them, mirrored, zoomed, shifted, with another appearance.

    Args:
        batch: B pictures.
        augment: Strength. `log_scale` counts four times for whole images, and neither it nor
            `shift` for windows. `roll_deg` is not used: heads are rolled in the data, and the
            distortion coefficients would have to be rotated.
        windows: Size and position of windows.
        wanted: Heads that windows may show.
        generator: On the batch's device.
    """
    count, device = len(batch.pictures), batch.f.device
    flip = torch.rand(count, generator=generator, device=device) < augment.flip
    size = None
    if windows.side_px:
        scale, shift = draw_windows(batch, flip, windows, wanted, generator)
        size = (windows.side_px, windows.side_px)
    else:
        draw = torch.randn(count, 3, generator=generator, device=device)
        scale, shift = (4 * augment.log_scale * draw[:, 0]).exp(), augment.shift * draw[:, 1:]
    batch = moved_scenes(batch, flip, scale, shift, size)
    return batch.with_pictures(photometric(batch.pictures, augment, generator))


def draw_windows(
    batch: SceneBatch,
    flip: Tensor,
    options: WindowOptions,
    wanted: SingleShotLossOptions,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Zoom (B,) and shift (B, 2) for `moved_scenes`, for windows of `side_px`.

    Args:
        batch: B pictures.
        flip: (B,) bool, which of them will be mirrored.
        options: Sizes and shares.
        wanted: Heads to aim at.
        generator: On the batch's device.
    """
    count, device = len(batch.pictures), batch.f.device
    height, width = batch.pictures.shape[-2:]
    size = batch.f.new_tensor([width, height])

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device, dtype=torch.float64)

    cells, visible = cells_of_poses(batch.T_cam_head[:, None], batch.cameras_of_heads())
    uv, head_px = cells.uv[:, 0], cells.log_size[:, 0].exp()
    aims = visible[:, 0] & is_wanted(
        batch.T_cam_head,
        cells._replace(uv=uv, log_size=cells.log_size[:, 0]),
        batch.visible_fraction,
        (height, width),
        wanted,
    )
    lottery = torch.where(aims, uniform(len(uv)), -1.0)
    middle = uniform(count, 2) * size
    log_head = uniform(count) * (torch.tensor(options.max_head_px / options.min_head_px)).log()
    min_zoom = options.min_filled * options.side_px / min(height, width)
    zoom = min_zoom * (options.max_zoom / min_zoom) ** uniform(count)
    for picture in (uniform(count) < options.aimed).nonzero()[:, 0].tolist():
        mine = torch.where(batch.image_index == picture, lottery, -1.0)
        if len(mine) and mine.max() >= 0:
            head = int(mine.argmax())
            middle[picture] = uv[head] + 0.5
            zoom[picture] = options.min_head_px * log_head[picture].exp() / head_px[head]
    zoom = zoom.clamp(min_zoom, options.max_zoom)
    mirrored = torch.where(flip, size[0] - middle[:, 0], middle[:, 0])
    middle = torch.stack([mirrored, middle[:, 1]], -1)
    scaled = zoom[:, None] * size
    corner = zoom[:, None] * middle - options.side_px * (0.2 + 0.6 * uniform(count, 2))
    # Inside the image where possible.
    room = scaled - options.side_px
    corner = corner.clamp(room.clamp_max(0), room.clamp_min(0))
    return zoom, (0.5 * room - corner) / options.side_px
