"""One pass over the whole image -> every face with its 6-DoF pose.

The idea of img2pose (Albiero et al., CVPR 2021): a face is proposed as a pose, and its box is
where the pose puts the head's points, not a second regression that could disagree with it.

What differs from the paper, and why:

- No anchors. Every cell of three grids says whether it holds the middle of a head and which pose
  that head has (as FCOS, Tian et al. 2019, does with boxes). A head's cells follow from its size.
- These poses are the proposals. The second stage is in `faces.region_pose`.
- A cell's pose is that of the *box camera*, the camera turned towards the head's middle, and goes
  to the full camera by that exact rotation (`faces.box_camera`), through any lens. The paper's
  rotation is a shear made orthogonal again; its focal length is a guess, so its metres are units.
- Instead of six numbers normalised by the data's mean and deviation: where the head's middle is,
  from the cell; the logarithm of the head's apparent size; and the rotation as two columns, which
  has no jump (Zhou et al., "On the Continuity of Rotation Representations", CVPR 2019).
- Scores by a focal loss on a Gaussian around the middle (Law and Deng, "CornerNet", 2018): the
  best cell of a face has the best score, which is what suppression needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from face_pose_lab.torch_faces.box_camera import box_rotation, pixels_per_radian
from face_pose_lab.torch_faces.nms import nms
from face_pose_lab.torch_geometry import se3, so3
from face_pose_lab.torch_geometry.camera import Camera

HEAD_SIZE_M = 0.24  # the mean head's height: the apparent size is in this unit
# Middle of the head in the head frame [m]: near it from wherever a head is seen.
HEAD_CENTRE = (-0.07, 0.0, -0.01)
# More intersection over union of two `head_boxes` means the same head: the boxes of one face that
# is turned wrongly lie apart.
SAME_HEAD_IOU = 0.4
_MAX_PROPOSALS = 400  # the best ones, before suppression

# R_box_head of a face that looks into the camera: an untrained network's answer.
FRONTAL_COLUMNS = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0)


STRIDES = (8, 16, 32)  # px
SIZE_MULTIPLE = 32  # of both sides of the picture [px]
# A stride looks for heads of 2 to 5 of its cells; the last one for all that are larger.
_SIZE_LIMITS_PX = (0.0, 48.0, 112.0, float('inf'))


class CellPoses(NamedTuple):
    """What M cells say, each of the head whose middle is near to it; the picture's pixels."""

    score: Tensor  # (M,) logit
    uv: Tensor  # (M, 2) px, middle of the head
    log_size: Tensor  # (M,) logarithm of the head's apparent size [px]
    columns: Tensor  # (M, 6) first two columns of R_box_head, before they are made orthonormal


def cell_poses(outputs: Sequence[Tensor]) -> CellPoses:
    """What the cells of all strides say, (N, M, ...) with M the cells of one picture."""
    parts = []
    for output, stride in zip(outputs, STRIDES, strict=True):
        height, width = output.shape[-2:]
        values = output.float().flatten(2).mT
        cells = cell_centres(height, width, stride).to(values)
        size = values[..., 3] + torch.log(values.new_tensor(float(stride)))
        uv = cells + stride * values[..., 1:3]
        parts.append(CellPoses(values[..., 0], uv, size, values[..., 4:]))
    return CellPoses(*(torch.cat(field, 1) for field in zip(*parts, strict=True)))


def cell_centres(height: int, width: int, stride: int) -> Tensor:
    """(height * width, 2) px of the picture, row by row."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return (torch.stack([columns, rows], -1).flatten(0, 1) + 0.5) * stride - 0.5


def poses_in_camera(cells: CellPoses, camera: Camera) -> tuple[Tensor, Tensor]:
    """Poses T_cam_head (..., M, 4, 4) of what cells say, and whether the lens has rays for them.

    Args:
        cells: (..., M), in the pixels of the camera.
        camera: Of the picture, float64; `...` is the cameras' batch.
    """
    rays, valid = camera.unproject(cells.uv.to(camera.f))
    size_rad = cells.log_size.to(camera.f).exp() / pixels_per_radian(camera, rays)
    R = box_rotation(rays) @ so3.from_columns(cells.columns.to(camera.f))
    centre = rays * (HEAD_SIZE_M / size_rad)[..., None]
    to_sellion = (R @ R.new_tensor(HEAD_CENTRE)[:, None]).squeeze(-1)
    return se3.from_rt(R, centre - to_sellion), valid


def cells_of_poses(T_cam_head: Tensor, camera: Camera) -> tuple[CellPoses, Tensor]:
    """What cells should say of heads at poses (..., M, 4, 4): the inverse of `poses_in_camera`.

    The score is 0. Also whether the lens sees the head's middle. `...` is the cameras' batch.
    """
    R = T_cam_head[..., :3, :3]
    centre = se3.apply(T_cam_head, R.new_tensor(HEAD_CENTRE)[None])[..., 0, :]
    distance = centre.norm(dim=-1)
    rays = centre / distance[..., None]
    uv, valid, _ = camera.project(rays)
    size = pixels_per_radian(camera, rays) * HEAD_SIZE_M / distance
    columns = (box_rotation(rays).mT @ R)[..., :2].mT.flatten(-2)
    return CellPoses(torch.zeros_like(distance), uv, size.log(), columns), valid


def head_boxes(cells: CellPoses) -> Tensor:
    """(M, 4) px: squares around heads, of their apparent size, whatever the rotation."""
    half = 0.5 * cells.log_size.exp()[:, None]
    return torch.cat([cells.uv - half, cells.uv + half], -1)


def boxes_of_poses(T_cam_head: Tensor, xyz_head: Tensor, camera: Camera) -> Tensor:
    """(M, 4) px: bounds of the head's points (P, 3) at poses (M, 4, 4), not clipped."""
    uv, valid, _ = camera.project(se3.apply(T_cam_head, xyz_head))
    inf = torch.inf
    low = torch.where(valid[..., None], uv, inf).amin(-2)
    high = torch.where(valid[..., None], uv, -inf).amax(-2)
    return torch.cat([low, high], -1)


class PosedFaces(NamedTuple):
    """Faces of one image, best first."""

    T_cam_head: Tensor  # (N, 4, 4) float64
    boxes_xyxy: Tensor  # (N, 4) px
    scores: Tensor  # (N,) in [0, 1]


def decode_faces(
    cells: CellPoses,
    camera: Camera,
    xyz_head: Tensor,
    score_threshold: float,
) -> PosedFaces:
    """Faces of one image, of all its cells (M, ...).

    Args:
        cells: In the pixels of the camera.
        camera: Of the picture, float64.
        xyz_head: (P, 3) m, points of the mean face, whose bounds are the box.
        score_threshold: In (0, 1).
    """
    best = cells.score.sigmoid().topk(min(_MAX_PROPOSALS, len(cells.score)))
    kept = best.indices[best.values > score_threshold]
    cells = CellPoses(*(field[kept] for field in cells))
    T, valid = poses_in_camera(cells, camera)
    boxes = boxes_of_poses(T, xyz_head.to(T), camera)
    usable = (valid & boxes.isfinite().all(-1)).nonzero()[:, 0]
    scores = cells.score.sigmoid()[usable]
    faces = usable[nms(head_boxes(cells)[usable], scores, SAME_HEAD_IOU)]
    return PosedFaces(T[faces], boxes[faces], cells.score.sigmoid()[faces])


def stride_of_size(size_px: Tensor) -> Tensor:
    """Index among STRIDES of the grid that answers for heads of these sizes [px]."""
    limits = size_px.new_tensor(_SIZE_LIMITS_PX[1:-1])
    return torch.bucketize(size_px.contiguous(), limits)
