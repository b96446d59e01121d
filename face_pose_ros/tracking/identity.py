# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A fitted face, conditional on the identity of the person.

The pose of a fit depends on its shape: above all, the size moves the head along its ray. That
error is the same in every image of a person. So it stays outside the filter and the association:
poses are compared and averaged for one and the same identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.jit import compiled
from face_pose_ros.geometry.linalg import congruent, eliminate, multiply
from face_pose_ros.tracking.shape_memory import Shape

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FaceGivenIdentity:
    """The joint normal distribution of pose and shape of a fit, factored by identity."""

    T_cam_head: Array  # (4, 4) for the fitted identity
    covariance: Array  # (6, 6) of the pose for a known identity; expressions marginalised
    pose_of_identity: Array  # (6, I) derivative of the best pose by the identity's coefficients
    identity: Shape  # fitted, (I,)
    expression: Array  # (E,) for the fitted identity
    expression_of_identity: Array  # (E, I)
    expression_covariance: Array  # (E, E) for a known identity
    has_depth: bool  # whether a depth image was part of the fit

    @classmethod
    def of(
        cls,
        T_cam_head: Array,
        covariance_given_shape: Array,
        pose_of_shape: Array,
        shape: Shape,
        expressions: NDArray[np.bool_],
        has_depth: bool = False,
    ) -> FaceGivenIdentity:
        """Factor a fit.

        Args:
            T_cam_head: (4, 4).
            covariance_given_shape: (6, 6).
            pose_of_shape: (6, C).
            shape: (C,).
            expressions: (C,) the coefficients that are expressions.
            has_depth: Whether a depth image was part of the fit.
        """
        who, how = np.flatnonzero(~expressions), np.flatnonzero(expressions)
        identity = Shape(shape.mean[who], np.empty((len(who), len(who))))
        face = cls(
            T_cam_head=T_cam_head,
            covariance=np.empty((6, 6)),
            pose_of_identity=np.empty((6, len(who))),
            identity=identity,
            expression=shape.mean[how],
            expression_of_identity=np.empty((len(how), len(who))),
            expression_covariance=np.empty((len(how), len(how))),
            has_depth=has_depth,
        )
        _factor(
            np.ascontiguousarray(covariance_given_shape),
            np.ascontiguousarray(pose_of_shape),
            np.ascontiguousarray(shape.covariance),
            who,
            how,
            face.covariance,
            face.pose_of_identity,
            identity.covariance,
            face.expression_of_identity,
            face.expression_covariance,
        )
        return face

    def pose_for(self, identity: Array) -> Array:
        """The best pose (4, 4) for identity coefficients (I,)."""
        return rotations.moved(
            self.T_cam_head, self.pose_of_identity @ (identity - self.identity.mean)
        )

    def shape_for(self, identity: Shape, expressions: NDArray[np.bool_]) -> Shape:
        """The whole shape (C,) for a distribution of the identity."""
        who, how = np.flatnonzero(~expressions), np.flatnonzero(expressions)
        K, C = self.expression_of_identity, len(expressions)
        shape = Shape(np.empty(C), np.empty((C, C)))
        shape.mean[who] = identity.mean
        shape.mean[how] = self.expression + K @ (identity.mean - self.identity.mean)
        _join(identity.covariance, K, self.expression_covariance, who, how, shape.covariance)
        return shape

    def covariance_for(self, identity_covariance: Array) -> Array:
        """Contribution of an uncertain identity (I, I) to the covariance of the pose (6, 6)."""
        G = self.pose_of_identity
        return np.asarray(G @ identity_covariance @ G.T)


@compiled
def _factor(given_shape, G, V, who, how, covariance, G_who, V_who, K, V_how):
    """The fields of `FaceGivenIdentity`, into the last five.

    From a fit's covariance of the pose for a known shape, `pose_of_shape` G, the shape's
    covariance V, and the indices of identity and expressions.
    """
    of_who = np.empty((len(who), len(who)))
    solved = np.empty((len(who), len(how)))
    for a in range(len(who)):
        for b in range(len(who)):
            V_who[a, b] = of_who[a, b] = V[who[a], who[b]]
        for e in range(len(how)):
            solved[a, e] = V[who[a], how[e]]
    eliminate(of_who, solved)
    G_how = np.empty((6, len(how)))
    for e in range(len(how)):
        for a in range(len(who)):
            K[e, a] = solved[a, e]
        for f in range(len(how)):
            V_how[e, f] = V[how[e], how[f]]
            for a in range(len(who)):
                V_how[e, f] -= K[e, a] * V[who[a], how[f]]
        for i in range(6):
            G_how[i, e] = G[i, how[e]]
    congruent(G_how, V_how, covariance)
    for i in range(6):
        for j in range(6):
            covariance[i, j] += given_shape[i, j]
        for a in range(len(who)):
            G_who[i, a] = G[i, who[a]]
            for e in range(len(how)):
                G_who[i, a] += G_how[i, e] * K[e, a]


@compiled
def _join(V_who, K, V_how, who, how, V):
    """Covariance V (C, C) of the whole shape: the inverse of `_factor`."""
    cross = multiply(K, V_who)
    for a in range(len(who)):
        for b in range(len(who)):
            V[who[a], who[b]] = V_who[a, b]
        for e in range(len(how)):
            V[how[e], who[a]] = V[who[a], how[e]] = cross[e, a]
    for e in range(len(how)):
        for f in range(len(how)):
            V[how[e], how[f]] = V_how[e, f]
            for a in range(len(who)):
                V[how[e], how[f]] += cross[e, a] * K[f, a]
