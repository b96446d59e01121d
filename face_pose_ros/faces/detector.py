"""Face detection: one image -> Faces.

BlazeFace full range is fully convolutional, so every level of an image pyramid is one picture:
no tiles, no seams through faces. It sees faces of 16 to 130 input pixels well; the levels are a
factor of 4 apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_ros.faces import compiled
from face_pose_ros.faces.blazeface import (
    SIZE_MULTIPLE,
    STRIDE,
    decode_proposals,
)
from face_pose_ros.faces.nms import merge_proposals
from face_pose_ros.types import Faces

SMALLEST_FACE_INPUT_PX = 16.0  # face height that the network needs
LARGEST_FACE_INPUT_PX = 130.0  # face height that it still sees as one
LEVEL_RATIO = 4.0  # below LARGEST / SMALLEST, so neighbouring levels overlap
# A proposal with this part of its area inside a better one is a part of that face: a level that
# is too fine for a face sees a second one around the nose or the mouth.
CONTAINED = 0.7
MIN_IMAGE_PX = 64
_MAX_LIKELY = 1024  # cells of one level: a hundred faces, a dozen cells each

# single_shot: also poses, and faces too small for keypoints; see faces/single_shot_detector.py.
DETECTORS = ('blazeface', 'single_shot')

# (N, 3, H, W) float RGB in [-1, 1] -> logits (N, C), regressions (N, C, 16)
Network = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class DetectorOptions:
    """What to look for.

    Face height is measured from the chin to the hairline (Face Mesh points 152 and 10), which is
    also the height of the boxes found.
    """

    score_threshold: float = 0.5  # in (0, 1); lower finds more faces and more of what is none
    min_face_px: float = 40.0  # smallest face height looked for, in image px, at least 16
    network: str = 'blazeface'  # one of DETECTORS
    # Longer side of the finest picture given to the network: bounds the time. It also bounds the
    # smallest face: in an image of W px, 16 * W / max_input_px px.
    max_input_px: int = 512
    nms_iou: float = 0.3  # in (0, 1); proposals that overlap more are the same face

    def __post_init__(self) -> None:
        if self.network not in DETECTORS:
            raise ValueError(f"detector '{self.network}' is not one of {', '.join(DETECTORS)}")
        if not 0 < self.score_threshold < 1:
            raise ValueError(f'score_threshold must be in (0, 1), got {self.score_threshold}')
        if not self.min_face_px >= SMALLEST_FACE_INPUT_PX:
            raise ValueError(
                f'min_face_px must be at least {SMALLEST_FACE_INPUT_PX}, got {self.min_face_px}'
            )
        if not self.max_input_px >= MIN_IMAGE_PX:
            raise ValueError(
                f'max_input_px must be at least {MIN_IMAGE_PX}, got {self.max_input_px}'
            )
        if not 0 < self.nms_iou < 1:
            raise ValueError(f'nms_iou must be in (0, 1), got {self.nms_iou}')


def level_sizes(height: int, width: int, options: DetectorOptions) -> list[tuple[int, int]]:
    """Sizes (height, width) in px to which an image is scaled, finest first."""
    scale = min(
        SMALLEST_FACE_INPUT_PX / options.min_face_px, options.max_input_px / max(height, width)
    )
    sizes = [(round(height * scale), round(width * scale))]
    # A face can fill the picture's shorter side.
    while min(height, width) * scale > LARGEST_FACE_INPUT_PX:
        scale /= LEVEL_RATIO
        sizes.append((max(1, round(height * scale)), max(1, round(width * scale))))
    return sizes


class FaceDetector:
    """Finds every face of an image that is large enough, whatever the image's size."""

    def __init__(self, network: Network, options: DetectorOptions | None = None) -> None:
        """Take a network and what to look for.

        Args:
            network: blazeface_full_range(device), or the same network run by another engine: any
                picture whose sides are multiples of 32 px.
            options: what to look for.
        """
        self.network = network
        self.options = options or DetectorOptions()

    @torch.inference_mode()
    def detect(self, image_rgb: Tensor) -> Faces:
        """Find faces.

        Fails on faces smaller than the options say, turned in the picture by more than about 90
        deg, seen far from the side, or covered. One in thirty faces at the smallest size is
        missed; from 1.25 times that size on, upright frontal ones are found.

        Args:
            image_rgb: (H, W, 3) uint8 RGB in [0, 255], H and W at least 64, on the network's
                device.

        Returns:
            N >= 0 faces, best first, on the CPU, float32, in full-image pixels.
            Boxes reach from the hairline to the chin and are about square.

        Raises:
            ValueError: the image is not as above.
        """
        check_image(image_rgb)
        height, width = image_rgb.shape[:2]
        picture = image_rgb.permute(2, 0, 1)[None]  # (1, 3, H, W)
        if picture.device.type != 'cpu':
            picture = picture.float()  # only CPUs resize bytes with antialiasing
        proposals = []
        for size in level_sizes(height, width, self.options):
            picture = F.interpolate(picture, size, mode='bilinear', antialias=True)
            proposals.append(self._propose(picture, (height, width)))
        every = Faces(
            torch.cat([p.boxes_xyxy for p in proposals]),
            torch.cat([p.scores for p in proposals]),
            torch.cat([p.anchors_uv for p in proposals]),
        )
        return merge_proposals(every, self.options.nms_iou, CONTAINED)

    def _propose(self, picture: Tensor, image_size: tuple[int, int]) -> Faces:
        """All proposals above the threshold on one level, in full-image pixels, unmerged."""
        height, width = picture.shape[-2:]
        padded = network_input(picture)
        logits, regressions = self.network(padded)
        least = math.log(self.options.score_threshold / (1 - self.options.score_threshold))
        cells, logits, regressions = _likely(logits[0], regressions[0], least)
        boxes, points = decode_proposals(regressions, cells, grid_width=padded.shape[-1] // STRIDE)
        scale = boxes.new_tensor([image_size[1] / width, image_size[0] / height])  # x, y
        boxes_xyxy = (boxes + 0.5) * scale.repeat(2) - 0.5
        points_uv = (points + 0.5) * scale - 0.5
        return Faces(boxes_xyxy, logits.sigmoid(), points_uv)


def _likely(logits: Tensor, regressions: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """On the CPU: the cells above a logit, and their logits and regressions.

    A GPU gives all that there may be in one download; it would be asked for their number first.
    """
    if logits.device.type != 'cpu':
        best, cells = logits.topk(min(_MAX_LIKELY, len(logits)))
        rows = torch.cat([cells[:, None].float(), best[:, None], regressions[cells]], 1).cpu()
        rows = rows[rows[:, 1] > least]
        return rows[:, 0].long(), rows[:, 1], rows[:, 2:]
    cells = (logits > least).nonzero()[:, 0]
    return cells, logits[cells], regressions[cells]


def network_input(picture: Tensor) -> Tensor:
    """A picture (1, 3, H, W) of [0, 255] in [-1, 1], mid-grey up to multiples of 32 px."""
    height, width = picture.shape[-2:]
    pad_bottom, pad_right = -height % SIZE_MULTIPLE, -width % SIZE_MULTIPLE
    if picture.dtype == torch.uint8:
        planes = torch.zeros(1, 3, height + pad_bottom, width + pad_right)
        compiled.normalise(picture[0].permute(1, 2, 0).contiguous().numpy(), planes[0].numpy())
        return planes
    normalised = picture.mul(2 / 255).sub(1)
    padded = F.pad(normalised, (0, pad_right, 0, pad_bottom))
    return padded.to(memory_format=torch.channels_last)


def check_image(image_rgb: Tensor) -> None:
    """Refuse what is no image for a detector, see `FaceDetector.detect`."""
    shape = tuple(image_rgb.shape)
    if (
        image_rgb.dtype != torch.uint8
        or len(shape) != 3
        or shape[2] != 3
        or min(shape[:2]) < MIN_IMAGE_PX
    ):
        raise ValueError(
            f'expected an RGB image of shape (H, W, 3), H and W at least {MIN_IMAGE_PX}, uint8; '
            f'got shape {shape}, {image_rgb.dtype}'
        )
