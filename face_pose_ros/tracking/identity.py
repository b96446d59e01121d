# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A fitted face, conditional on the identity of the person.

The pose of a fit depends on its shape: above all, the size moves the head along its ray. That
error is the same in every image of a person. So it stays outside the filter and the association:
poses are compared and averaged for one and the same identity.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.tracking.shape_memory import Kinds, Shape

Array = NDArray[np.float64]


class ForIdentity(NamedTuple):
    """A fitted face for a known distribution of the identity."""

    T_cam_head: Array  # (4, 4) best pose
    covariance: Array  # (6, 6) what the uncertainty of the identity adds to that of the pose
    shape: Shape  # (C,)


class FaceGivenIdentity(NamedTuple):
    """The joint normal distribution of pose and shape of a fit, factored by identity."""

    T_cam_head: Array  # (4, 4) for the fitted identity
    covariance: Array  # (6, 6) of the pose for a known identity; expressions marginalised
    pose_of_identity: Array  # (6, I) derivative of the best pose by the identity's coefficients
    identity: Shape  # fitted, (I,)
    expression: Array  # (E,) for the fitted identity
    expression_of_identity: Array  # (E, I)
    expression_covariance: Array  # (E, E) for a known identity

    @classmethod
    def of(
        cls,
        T_cam_head: Array,
        covariance_given_shape: Array,
        pose_of_shape: Array,
        shape: Shape,
        kinds: Kinds,
    ) -> FaceGivenIdentity:
        """Factor a fit.

        Args:
            T_cam_head: (4, 4).
            covariance_given_shape: (6, 6).
            pose_of_shape: (6, C).
            shape: (C,).
            kinds: Which of the coefficients are expressions.
        """
        covariance, pose_of_identity, mean, V, expression, of_identity, of_expression = (
            _core.factor_by_identity(
                covariance_given_shape, pose_of_shape, shape.mean, shape.covariance, *kinds
            )
        )
        return cls(
            T_cam_head,
            covariance,
            pose_of_identity,
            Shape(mean, V),
            expression,
            of_identity,
            of_expression,
        )

    def for_identity(self, identity: Shape, kinds: Kinds) -> ForIdentity:
        """Pose and shape for another distribution of the identity (I,)."""
        T_cam_head, covariance, mean, V = _core.condition_on_identity(
            self.T_cam_head,
            self.pose_of_identity,
            self.identity.mean,
            self.expression,
            self.expression_of_identity,
            self.expression_covariance,
            identity.mean,
            identity.covariance,
            *kinds,
        )
        return ForIdentity(T_cam_head, covariance, Shape(mean, V))
