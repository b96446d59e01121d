"""What the stages hand to each other: image -> Faces -> Readings -> HeadPoses.

Frozen dataclasses of tensors. N is the number of faces (0 is an ordinary answer), K the number
of keypoints, C the number of shape coefficients. Pixel (0, 0) is the centre of the top-left pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CoarsePoses:
    """What a detector says of the poses of N faces."""

    T_cam_head: Tensor  # (N, 4, 4) float64, camera optical frame, m
    covariance: Tensor  # (N, 6, 6) float64, as in `HeadPoses`

    def __getitem__(self, index: Tensor) -> CoarsePoses:
        """Select faces by a (M,) index or (N,) mask tensor."""
        return CoarsePoses(self.T_cam_head[index], self.covariance[index])


@dataclass(frozen=True)
class Faces:
    """Face proposals in one image."""

    boxes_xyxy: Tensor  # (N, 4) px, in the full image
    scores: Tensor  # (N,) in [0, 1]
    # (N, 6, 2) px, full image: right eye, left eye, nose tip, mouth centre, right ear, left ear;
    # right and left are the person's own.
    anchors_uv: Tensor
    coarse: CoarsePoses | None = None  # where the detector gives poses

    def __len__(self) -> int:
        return self.scores.shape[0]

    def __getitem__(self, index: Tensor) -> Faces:
        """Select faces by a (M,) index or (N,) mask tensor."""
        return Faces(
            self.boxes_xyxy[index],
            self.scores[index],
            self.anchors_uv[index],
            self.coarse and self.coarse[index],
        )


@dataclass(frozen=True)
class Keypoints:
    """Measured 2-D keypoints of N faces in the full image."""

    uv: Tensor  # (N, K, 2) px, in the full image
    cov_uv: Tensor  # (N, K, 2, 2) px^2; infinite on the diagonal: not measured
    presence: Tensor  # (N,) in [0, 1], how sure the network is that the crop shows a face

    def __len__(self) -> int:
        return self.presence.shape[0]

    def __getitem__(self, index: Tensor) -> Keypoints:
        """Select faces by a (M,) index or (N,) mask tensor."""
        return Keypoints(self.uv[index], self.cov_uv[index], self.presence[index])

    @property
    def sigma_px(self) -> Tensor:
        """(N, K) px, root mean square of the standard deviations of the two coordinates."""
        return (0.5 * self.cov_uv.diagonal(dim1=-2, dim2=-1).sum(-1)).sqrt()

    def replaced(self, index: Tensor, other: Keypoints) -> Keypoints:
        """These with the faces of a (M,) index replaced by M others."""
        return Keypoints(
            self.uv.index_copy(0, index, other.uv),
            self.cov_uv.index_copy(0, index, other.cov_uv),
            self.presence.index_copy(0, index, other.presence),
        )

    def join(self, other: Keypoints) -> Keypoints:
        """The faces of both."""
        return Keypoints(
            torch.cat([self.uv, other.uv]),
            torch.cat([self.cov_uv, other.cov_uv]),
            torch.cat([self.presence, other.presence]),
        )


@dataclass(frozen=True)
class Readings:
    """What the keypoint networks measured of the same N faces.

    Where a network was not asked, its presence is 0 and its covariances are infinite.
    """

    mesh: Keypoints  # Face Mesh's 478 points
    head: Keypoints  # the hourglass's 86 semantic keypoints

    def __len__(self) -> int:
        return len(self.mesh)

    def __getitem__(self, index: Tensor) -> Readings:
        """Select faces by a (M,) index or (N,) mask tensor."""
        return Readings(self.mesh[index], self.head[index])

    def join(self, other: Readings) -> Readings:
        """The faces of both."""
        return Readings(self.mesh.join(other.mesh), self.head.join(other.head))

    @property
    def presence(self) -> Tensor:
        """(N,) in [0, 1], how sure the surer network is that there is a face."""
        return torch.maximum(self.mesh.presence, self.head.presence)


@dataclass(frozen=True)
class HeadPoses:
    """6-DoF poses of N heads in the camera's optical frame."""

    T_cam_head: Tensor  # (N, 4, 4) float64, metres
    # (N, 6, 6) float64: x, y, z [m], rotation about the camera's x, y, z [rad]; of all shapes:
    # covariance = covariance_given_shape + pose_of_shape @ shape_covariance @ pose_of_shape.mT
    covariance: Tensor
    covariance_given_shape: Tensor  # (N, 6, 6) were the shape known to be as estimated
    pose_of_shape: Tensor  # (N, 6, C) how the best pose moves with each shape coefficient
    shape: Tensor  # (N, C) coefficients of the face model's modes, in prior standard deviations
    shape_covariance: Tensor  # (N, C, C)
    failed: Tensor  # (N,) bool: no usable pose for this face

    def __len__(self) -> int:
        return self.failed.shape[0]

    def __getitem__(self, index: Tensor) -> HeadPoses:
        """Select faces by a (M,) index or (N,) mask tensor."""
        return HeadPoses(**{name: value[index] for name, value in vars(self).items()})

    def replaced(self, index: Tensor, other: HeadPoses) -> HeadPoses:
        """These with the faces of a (M,) index replaced by M others."""
        return HeadPoses(
            **{n: v.index_copy(0, index, vars(other)[n]) for n, v in vars(self).items()}
        )
