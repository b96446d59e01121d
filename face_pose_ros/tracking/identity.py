"""A fitted face, conditional on who it is.

The pose of a fit depends on the shape it assumes: size, above all, moves the head along its ray.
That error is the same in every image of a person. So it stays outside the filter and the
association: poses are compared, and averaged, as they would be for one and the same identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import linalg, rotations
from face_pose_ros.tracking.shape_memory import Shape

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FaceGivenIdentity:
    """The joint normal distribution of pose and shape of a fit, factored by identity."""

    T_cam_head: Array  # (4, 4) for the fitted identity
    covariance: Array  # (6, 6) of the pose, were the identity known; expressions marginalised
    pose_of_identity: Array  # (6, I) how the best pose moves with the identity's coefficients
    identity: Shape  # fitted, (I,)
    expression: Array  # (E,) for the fitted identity
    expression_of_identity: Array  # (E, I)
    expression_covariance: Array  # (E, E) were the identity known

    @classmethod
    def of(
        cls,
        T_cam_head: Array,
        covariance_given_shape: Array,
        pose_of_shape: Array,
        shape: Shape,
        expressions: NDArray[np.bool_],
    ) -> FaceGivenIdentity:
        """Factor a fit.

        Args:
            T_cam_head: (4, 4).
            covariance_given_shape: (6, 6).
            pose_of_shape: (6, C).
            shape: (C,).
            expressions: (C,) the coefficients that are expressions.
        """
        identity = shape.part(np.flatnonzero(~expressions))
        expression = shape.part(np.flatnonzero(expressions))
        cross = shape.covariance[np.ix_(expressions, ~expressions)]
        K = linalg.solve(identity.covariance, cross.T).T
        expression_covariance = expression.covariance - K @ cross.T
        G = pose_of_shape[:, expressions]
        return cls(
            T_cam_head=T_cam_head,
            covariance=covariance_given_shape + G @ expression_covariance @ G.T,
            pose_of_identity=pose_of_shape[:, ~expressions] + G @ K,
            identity=identity,
            expression=expression.mean,
            expression_of_identity=K,
            expression_covariance=expression_covariance,
        )

    def pose_for(self, identity: Array) -> Array:
        """The best pose (4, 4), were the identity's coefficients these (I,)."""
        return rotations.moved(
            self.T_cam_head, self.pose_of_identity @ (identity - self.identity.mean)
        )

    def shape_for(self, identity: Shape, expressions: NDArray[np.bool_]) -> Shape:
        """The whole shape (C,), were the identity's distribution this one."""
        K = self.expression_of_identity
        mean, covariance = np.empty(len(expressions)), np.empty([len(expressions)] * 2)
        mean[~expressions] = identity.mean
        mean[expressions] = self.expression + K @ (identity.mean - self.identity.mean)
        cross = K @ identity.covariance
        covariance[np.ix_(~expressions, ~expressions)] = identity.covariance
        covariance[np.ix_(expressions, ~expressions)] = cross
        covariance[np.ix_(~expressions, expressions)] = cross.T
        covariance[np.ix_(expressions, expressions)] = self.expression_covariance + cross @ K.T
        return Shape(mean, covariance)

    def covariance_for(self, identity_covariance: Array) -> Array:
        """What an uncertain identity (I, I) adds to the covariance of the pose (6, 6)."""
        G = self.pose_of_identity
        return np.asarray(G @ identity_covariance @ G.T)
