"""Detection by the single-shot network and its second look: faces with coarse 6-DoF poses."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_ros.faces.detector import (
    SMALLEST_FACE_INPUT_PX,
    DetectorOptions,
    check_image,
)
from face_pose_ros.faces.head_uncertainty import HeadUncertainty
from face_pose_ros.faces.region_pose import PROPOSED_FROM, look_again
from face_pose_ros.faces.single_shot import (
    CellPoses,
    boxes_of_poses,
    decode_faces,
)
from face_pose_ros.faces.single_shot_levels import Network, cells_of_picture
from face_pose_ros.geometry import se3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.types import CoarsePoses, Faces

_SMALLER = 0.8
# Points of the Face Mesh whose means are the anchors of `Faces`, in their order.
_ANCHORS = ((33, 133), (263, 362), (1, 1), (13, 14), (234, 234), (454, 454))


class SingleShotDetector:
    """Finds every face of an image that is large enough, and roughly its pose."""

    def __init__(
        self,
        network: Network,
        region_network: Callable[[Tensor], Tensor],
        xyz_head: Tensor,
        uncertainty: HeadUncertainty,
        options: DetectorOptions | None = None,
    ) -> None:
        """Take the networks and what to look for.

        Args:
            network: packaged_single_shot(device), or the same network run by another engine: any
                picture whose sides are multiples of 32 px.
            region_network: packaged_region_pose(device), or the same run by another engine.
            xyz_head: (468, 3) m, the mean face in the order of the Face Mesh, on the CPU.
            uncertainty: Of both networks together.
            options: What to look for.
        """
        self.network = network
        self.region_network = region_network
        self.options = options or DetectorOptions()
        self._uncertainty = uncertainty
        self._xyz_head = xyz_head.double()
        self._anchors = torch.stack([self._xyz_head[list(i)].mean(0) for i in _ANCHORS])

    @torch.inference_mode()
    def detect(self, image_rgb: Tensor, camera: Camera) -> Faces:
        """Find faces.

        The picture is scaled down to what the options allow, never up.

        Args:
            image_rgb: (H, W, 3) uint8 RGB in [0, 255], H and W at least 64, on the network's
                device.
            camera: The camera that took it, float64, on the CPU.

        Returns:
            N >= 0 faces with coarse poses, best first, on the CPU, in full-image pixels, boxes as
            those of `FaceDetector`.

        Raises:
            ValueError: The image is not as above, or its size is not the camera's.
        """
        check_image(image_rgb)
        height, width = image_rgb.shape[:2]
        if (camera.width, camera.height) != (width, height):
            raise ValueError(
                f'the image is {width} x {height} but the camera is calibrated for '
                f'{camera.width} x {camera.height}'
            )
        size = input_size(height, width, self.options)
        cells = cells_of_picture(self.network, scaled_picture(image_rgb, size))
        # From here on a CPU is faster than kernels for a few numbers each.
        proposed = decode_faces(
            CellPoses(*(field[0].cpu() for field in cells)),
            camera.resize(size[1], size[0]),
            self._xyz_head,
            PROPOSED_FROM,
        )
        heads = look_again(self.region_network, image_rgb, proposed, camera)
        scores = (heads.logits + self._uncertainty.score_offset).sigmoid()
        boxes = self._square_boxes(heads.T_cam_head, camera)
        # A face of the smallest size looked for may be said to be a little smaller.
        least_px = _SMALLER * self.options.min_face_px
        large = (boxes[:, 2:] - boxes[:, :2]).amin(-1) > least_px
        kept = (scores > self.options.score_threshold) & large & boxes.isfinite().all(-1)
        T, _, sigma = heads.of(kept)
        anchors, valid, _ = camera.project(se3.apply(T, self._anchors))
        return Faces(
            boxes[kept].float(),
            scores[kept].float(),
            torch.where(valid[..., None], anchors, torch.nan).float(),
            CoarsePoses(T, self._uncertainty.of_poses(T, sigma, camera)),
        )

    def _square_boxes(self, T_cam_head: Tensor, camera: Camera) -> Tensor:
        """(N, 4) px, as those of `FaceDetector`."""
        bounds = boxes_of_poses(T_cam_head, self._xyz_head, camera)
        middle = 0.5 * (bounds[:, :2] + bounds[:, 2:])
        half = 0.5 * (bounds[:, 2:] - bounds[:, :2]).amax(-1, keepdim=True)
        return torch.cat([middle - half, middle + half], -1)


def input_size(height: int, width: int, options: DetectorOptions) -> tuple[int, int]:
    """Size (height, width) in px to which an image is scaled."""
    scale = min(
        SMALLEST_FACE_INPUT_PX / options.min_face_px, options.max_input_px / max(height, width)
    )
    return max(1, round(height * scale)), max(1, round(width * scale))


def scaled_picture(image_rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """An image (H, W, 3) uint8 in another size, (1, 3, height, width) in [0, 1]."""
    picture = image_rgb.permute(2, 0, 1)[None]
    if picture.is_cuda:
        picture = picture.float()  # CUDA has no antialiased resize of bytes
    return F.interpolate(picture, size, mode='bilinear', antialias=True).float() / 255
