"""Square face crops seen by a virtual camera, and the exact map of their pixels.

A crop is the picture of a small pinhole camera that shares the real camera's centre, looks at the
face and is rolled so that the face stands upright. Whatever the real camera does - turn, zoom,
bend straight lines - the network is shown the same picture of the same head, and each of its
pixels has an exact ray. On a CPU `compiled` does what takes time, with the same results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from face_pose_ros.geometry import so3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.lens import lens_of
from face_pose_ros.geometry.warp import NODE_SPACING_PX, cell_nodes, interpolate_nodes
from face_pose_ros.keypoints import compiled
from face_pose_ros.types import Faces

# Samples per crop pixel grow with the picture's scale, so that a close face is not aliased.
_MAX_STEP_PX = 1.5
_MAX_SUPERSAMPLING = 4

# A jittered crop differs from the one that the keypoints ask for by at most so much.
_JITTER_SCALE = math.log(1.08)
_JITTER_ROLL = math.radians(10)
_JITTER_SHIFT = 0.04  # of the crop's side


@dataclass(frozen=True)
class FaceCrops:
    """Virtual cameras of N square crops."""

    R_cam_crop: Tensor  # (N, 3, 3) float64
    focal_px: Tensor  # (N,) float64, of the crop camera; its principal point is the crop's centre
    size_px: int  # side of the crop
    valid: Tensor  # (N,) bool: every ray that the crop was made from exists

    @classmethod
    def of(cls, aim: compiled.Aim, size_px: int) -> FaceCrops:
        """From compiled code, without a copy."""
        R, focal_px, valid = (torch.from_numpy(array) for array in aim)
        return cls(R, focal_px, size_px, valid)

    @property
    def aim(self) -> compiled.Aim:
        """For compiled code, without a copy."""
        return compiled.Aim(
            self.R_cam_crop.contiguous().numpy(), self.focal_px.numpy(), self.valid.numpy()
        )

    def rays(self, uv_crop: Tensor) -> Tensor:
        """Directions (N, P, 3) in the camera frame of crop pixels (N, P, 2); not unit vectors."""
        xy = (uv_crop - 0.5 * (self.size_px - 1)) / self.focal_px[:, None, None]
        rays_crop = torch.cat([xy, torch.ones_like(xy[..., :1])], -1)
        return rays_crop @ self.R_cam_crop.mT

    def to_image(self, uv_crop: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
        """Image pixels (N, P, 2) of crop pixels (N, P, 2), and whether the camera sees them."""
        uv, valid, _ = camera.project(self.rays(uv_crop))
        return uv, valid & self.valid[:, None]

    def jacobian(self, camera: Camera) -> Tensor:
        """(N, 2, 2) derivative of the image pixel by the crop pixel, at the centre of the crop."""
        middle = 0.5 * (self.size_px - 1)
        cross = self.focal_px.new_tensor([[1, 0], [0, 1], [-1, 0], [0, -1]])
        uv, _ = self.to_image((middle + cross).expand(len(self.focal_px), -1, -1), camera)
        return 0.5 * (uv[:, :2] - uv[:, 2:]).mT

    def repeat(self, count: int) -> FaceCrops:
        """Each crop `count` times in a row."""
        return FaceCrops(
            self.R_cam_crop.repeat_interleave(count, 0),
            self.focal_px.repeat_interleave(count),
            self.size_px,
            self.valid.repeat_interleave(count),
        )


def crops_around_faces(faces: Faces, camera: Camera, size_px: int, margin: float) -> FaceCrops:
    """`crops_around_boxes` of proposals; if any lacks its anchors (NaN), all are upright."""
    upright = bool(faces.anchors_uv.isnan().any())
    anchors_uv = None if upright else faces.anchors_uv
    return crops_around_boxes(faces.boxes_xyxy, anchors_uv, camera, size_px, margin)


def crops_around_boxes(
    boxes_xyxy: Tensor, anchors_uv: Tensor | None, camera: Camera, size_px: int, margin: float
) -> FaceCrops:
    """Crops around face boxes.

    Args:
        boxes_xyxy: (N, 4) px.
        anchors_uv: (N, 6, 2) px as in `Faces`, for the roll; None takes the faces as upright.
        camera: The camera of the image, float64.
        size_px: Side of the crops.
        margin: Side of the crop over the longer side of the box.
    """
    boxes_xyxy = boxes_xyxy.to(camera.f)
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    centre, side = 0.5 * (low + high), (high - low).amax(-1)
    cross = centre.new_tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    # A quarter of the box: its border may lie outside the lens's range, its middle does not.
    uv = centre[:, None] + 0.25 * side[:, None, None] * cross
    rays, seen = camera.unproject(uv)
    if anchors_uv is None:
        R, upright = _look_at(rays[:, 0]), seen
    else:
        anchor_rays, anchor_seen = camera.unproject(anchors_uv[:, :4].to(uv))
        eye_right, eye_left, _, mouth = anchor_rays.unbind(1)
        R = _roll(_look_at(rays[:, 0]), eye_left - eye_right, mouth - 0.5 * (eye_left + eye_right))
        upright = seen & anchor_seen.all(-1, keepdim=True)
    xy = _in_plane(R, rays[:, 1:])
    # Twice the mean length of the two quarter-box crosses is the side of the box.
    tangent_side = (xy[:, 0] - xy[:, 1]).norm(dim=-1) + (xy[:, 2] - xy[:, 3]).norm(dim=-1)
    return FaceCrops(R, size_px / (margin * tangent_side), size_px, upright.all(-1))


def crops_around_keypoints(
    uv: Tensor,
    eye_right: Tensor,
    eye_left: Tensor,
    forehead: Tensor,
    chin: Tensor,
    camera: Camera,
    size_px: int,
    margin: float,
) -> FaceCrops:
    """Crops around measured keypoints, for a second look or the next frame.

    Args:
        uv: (N, K, 2) px, on the CPU; their bounding square, in the crop's own plane, is enlarged
            by margin.
        eye_right: Indices of keypoints whose mean is the person's right eye; likewise eye_left.
        eye_left: See eye_right.
        forehead: Index tensor of keypoints at the top of the face's midline.
        chin: Index tensor of keypoints at its bottom.
        camera: The camera of the image, float64.
        size_px: Side of the crops.
        margin: Side of the crop over the longer side of the bounding box.
    """
    upright = tuple(index.numpy() for index in (eye_right, eye_left, forehead, chin))
    # Of one face a slice is contiguous, of two it is not: numba would compile again.
    points = uv.to(camera.f).contiguous().numpy()
    aim = compiled.aim_at_keypoints(points, upright, lens_of(camera), size_px, margin)
    return FaceCrops.of(aim, size_px)


def jittered(crops: FaceCrops, jitters: int) -> tuple[FaceCrops, Tensor]:
    """Crops scaled, rolled and shifted a little, every second one seen in a mirror.

    The draws are the same in every call. A crop and the next one differ from the original by
    opposite amounts, so that no side is preferred.

    Args:
        crops: N crops.
        jitters: J, how many to make of each.

    Returns:
        The N * J crops, those of a face in a row, and which of the J are mirrored (J,).
    """
    generator = torch.Generator().manual_seed(0)
    half = 2 * torch.rand((jitters + 1) // 2, 4, generator=generator, dtype=torch.float64) - 1
    draws = torch.stack([half, -half], 1).flatten(0, 1)[:jitters].to(crops.focal_px)
    draws = draws.repeat(len(crops.focal_px), 1)
    crops = crops.repeat(jitters)
    focal_px = crops.focal_px * (_JITTER_SCALE * draws[:, 0]).exp()
    # Turning the crop's camera by this angle moves its picture by the shift.
    angle = (_JITTER_SHIFT * crops.size_px * draws[:, 1:3] / focal_px[:, None]).atan()
    none = torch.zeros_like(focal_px)
    R = crops.R_cam_crop @ so3.exp(torch.stack([-angle[:, 1], angle[:, 0], none], -1))
    R = R @ so3.exp(torch.stack([none, none, _JITTER_ROLL * draws[:, 3]], -1))
    is_mirrored = torch.arange(jitters, device=R.device) % 2 == 1
    # In a mirror the x axis points the other way.
    x_sign = torch.where(is_mirrored, -1.0, 1.0).to(R).repeat(len(R) // jitters)
    R = torch.cat([x_sign[:, None, None] * R[..., :1], R[..., 1:]], -1)
    return replace(crops, R_cam_crop=R, focal_px=focal_px), is_mirrored


def render_crops(
    image: Tensor, crops: FaceCrops, camera: Camera, device: torch.device | None = None
) -> Tensor:
    """The pictures of the virtual cameras.

    Args:
        image: (H, W, 3) uint8 RGB, on the CPU or on the device.
        crops: N crops, on the CPU.
        camera: The camera of the image, float64, on the CPU.
        device: Of the pictures, None is the image's; it gets only the part of it that they show.

    Returns:
        (N, 3, size, size) float32 RGB in [0, 1]; beyond the image its border is repeated.
    """
    device = device or image.device
    if device.type == 'cpu':
        limits = _MAX_STEP_PX, _MAX_SUPERSAMPLING, NODE_SPACING_PX
        pictures = compiled.render(
            image.numpy(), crops.aim, lens_of(camera), crops.size_px, limits
        )
        return torch.from_numpy(pictures)
    return render_crops_torch(image, crops, camera, device)


def render_crops_torch(
    image: Tensor, crops: FaceCrops, camera: Camera, device: torch.device | None = None
) -> Tensor:
    """`render_crops` on any device; the samples per pixel are those of the largest crop."""
    size, count = crops.size_px, len(crops.focal_px)
    height, width = image.shape[:2]
    nodes = cell_nodes(size, size).to(camera.f)
    nodes_per_side = len(nodes)
    uv, _ = crops.to_image(nodes.view(1, -1, 2).expand(count, -1, -1), camera)
    uv = uv.view(count, nodes_per_side, nodes_per_side, 2)

    step = (uv[:, 1:, 1:] - uv[:, :-1, :-1]).norm(dim=-1).amax() if count else uv.new_zeros(())
    step_px = float(step) / math.sqrt(2) / NODE_SPACING_PX
    samples = min(max(math.ceil(step_px / _MAX_STEP_PX), 1), _MAX_SUPERSAMPLING)

    left, top, right, bottom = _bounds(uv, width, height)
    part = image[top:bottom, left:right].contiguous().to(device or image.device)
    part = part.permute(2, 0, 1).to(torch.float32)[None] / 255
    scale = uv.new_tensor([2 / (right - left), 2 / (bottom - top)])
    grid = (uv - uv.new_tensor([left, top]) + 0.5) * scale - 1
    grid = interpolate_nodes(grid.to(part), samples)
    crop = F.grid_sample(
        part.expand(count, -1, -1, -1),
        grid,
        padding_mode='border',
        align_corners=False,
    )
    return crop if samples == 1 else F.avg_pool2d(crop, samples)


def _bounds(uv: Tensor, width: int, height: int) -> tuple[int, int, int, int]:
    """Part of the image that the crops need: left, top, right, bottom, at least one pixel."""
    if uv.numel() == 0:
        return 0, 0, 1, 1
    low = uv.amin((0, 1, 2)).floor() - 1
    high = uv.amax((0, 1, 2)).ceil() + 2
    left, top = (int(x) for x in low)
    right, bottom = (int(x) for x in high)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, max(min(right, width), left + 1), max(min(bottom, height), top + 1)


def _look_at(ray: Tensor) -> Tensor:
    """Rotations (N, 3, 3) whose z axis is the ray (N, 3) and whose x axis lies level."""
    z = F.normalize(ray, dim=-1)
    # A fisheye may look straight up or down, where any x axis is as level as another.
    steep = z[:, 1:2].abs() > 0.999
    down = torch.where(steep, z.new_tensor([0.0, 0.0, 1.0]), z.new_tensor([0.0, 1.0, 0.0]))
    x = F.normalize(torch.linalg.cross(down, z), dim=-1)
    return torch.stack([x, torch.linalg.cross(z, x), z], -1)


def _roll(R: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """R turned about its z axis until the face stands upright.

    Eyes and midline vote together: in profile the eye line vanishes and the midline decides.

    Args:
        R: (N, 3, 3).
        across: (N, 3) from the person's right eye to the left one, camera frame.
        down: (N, 3) from the top of the face to its bottom, camera frame.
    """
    across_xy = (across[:, None] @ R)[:, 0, :2]
    down_xy = (down[:, None] @ R)[:, 0, :2]
    vote = across_xy + torch.stack([down_xy[:, 1], -down_xy[:, 0]], -1)
    cos, sin = F.normalize(vote, dim=-1).unbind(-1)
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1)
    return R @ turn.unflatten(-1, (3, 3))


def _in_plane(R: Tensor, rays: Tensor) -> Tensor:
    """Rays (N, P, 3) of the camera frame in the plane z = 1 of R's frame, (N, P, 2)."""
    rays_crop = rays @ R
    return rays_crop[..., :2] / rays_crop[..., 2:].clamp_min(1e-3)
