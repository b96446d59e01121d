# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints as tensors, for losses and for fits that gradients pass through."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from face_pose_ros import results


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

    def runtime(self) -> results.Keypoints:
        """The same as the runtime has them, without a graph."""
        uv, cov_uv, presence = (
            values.detach().double().cpu().numpy()
            for values in (self.uv, self.cov_uv, self.presence)
        )
        return results.Keypoints(uv, cov_uv, presence)

    @property
    def sigma_px(self) -> Tensor:
        """(N, K) px, root mean square of the standard deviations of the two coordinates."""
        return (0.5 * self.cov_uv.diagonal(dim1=-2, dim2=-1).sum(-1)).sqrt()
