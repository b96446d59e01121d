"""Windows of scenes: parts of a picture around its heads, so that a step sees more of them.

A head of the usual 50 px covers one hundredth of a picture of 640 x 480; most of a step on whole
pictures goes into empty walls. A window is a zoomed and shifted picture: its camera stays exact.
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
    """Which parts of the pictures are shown."""

    side_px: int = 0  # of the window; 0: the whole picture
    min_head_px: float = 18.0  # apparent sizes of the head aimed at, log-uniform between these two
    max_head_px: float = 150.0
    aimed: float = 0.85  # share of the windows with a head in them, the others lie anywhere
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
    """Mirrored, zoomed and shifted pictures, or windows of them, that look different.

    Args:
        batch: B pictures.
        augment: How strong. Of whole pictures `log_scale` counts four times, for heads come in
            all sizes; of windows neither it nor `shift` counts. `roll_deg` never does: heads are
            rolled in the data, and the lens's coefficients would have to turn with the picture.
        windows: Which parts of the pictures.
        wanted: Which heads the windows are to show.
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
        wanted: Which heads to aim at.
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
    # Nothing beyond the picture where that can be.
    room = scaled - options.side_px
    corner = corner.clamp(room.clamp_max(0), room.clamp_min(0))
    return zoom, (0.5 * room - corner) / options.side_px
