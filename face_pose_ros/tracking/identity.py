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

from face_pose_ros.geometry.jit import compiled
from face_pose_ros.geometry.linalg import congruent, eliminate, multiply
from face_pose_ros.geometry.rotations import moved_kernel
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
        of_person, of_moment = len(kinds.identity), len(kinds.expression)
        face = cls(
            np.ascontiguousarray(T_cam_head),
            np.empty((6, 6)),
            np.empty((6, of_person)),
            Shape(np.empty(of_person), np.empty((of_person, of_person))),
            np.empty(of_moment),
            np.empty((of_moment, of_person)),
            np.empty((of_moment, of_moment)),
        )
        _factor(
            np.ascontiguousarray(covariance_given_shape),
            np.ascontiguousarray(pose_of_shape),
            shape.mean,
            np.ascontiguousarray(shape.covariance),
            kinds,
            face,
        )
        return face

    def for_identity(self, identity: Shape, kinds: Kinds) -> ForIdentity:
        """Pose and shape for another distribution of the identity (I,)."""
        C = len(kinds.identity) + len(kinds.expression)
        shape = Shape(np.empty(C), np.empty((C, C)))
        known = ForIdentity(np.empty((4, 4)), np.empty((6, 6)), shape)
        _condition(self, identity, kinds, known)
        return known


@compiled
def _factor(given_shape, G, mean, V, kinds, face):
    """`FaceGivenIdentity.of`, into the last one."""
    who, how = kinds
    G_who, covariance = face.pose_of_identity, face.covariance
    K, V_who, V_how = (
        face.expression_of_identity,
        face.identity.covariance,
        face.expression_covariance,
    )
    of_who = np.empty((len(who), len(who)))
    solved = np.empty((len(who), len(how)))
    for a in range(len(who)):
        face.identity.mean[a] = mean[who[a]]
        for b in range(len(who)):
            V_who[a, b] = of_who[a, b] = V[who[a], who[b]]
        for e in range(len(how)):
            solved[a, e] = V[who[a], how[e]]
    eliminate(of_who, solved)
    G_how = np.empty((6, len(how)))
    for e in range(len(how)):
        face.expression[e] = mean[how[e]]
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
def _condition(face, identity, kinds, known):
    """`FaceGivenIdentity.for_identity`, into the last one."""
    who, how = kinds
    K, G = face.expression_of_identity, face.pose_of_identity
    mean, V, V_who = known.shape.mean, known.shape.covariance, identity.covariance
    delta, cross = np.zeros(6), multiply(K, V_who)
    for a in range(len(who)):
        change = identity.mean[a] - face.identity.mean[a]
        mean[who[a]] = identity.mean[a]
        for i in range(6):
            delta[i] += G[i, a] * change
        for b in range(len(who)):
            V[who[a], who[b]] = V_who[a, b]
        for e in range(len(how)):
            V[how[e], who[a]] = V[who[a], how[e]] = cross[e, a]
    for e in range(len(how)):
        mean[how[e]] = face.expression[e]
        for a in range(len(who)):
            mean[how[e]] += K[e, a] * (identity.mean[a] - face.identity.mean[a])
        for f in range(len(how)):
            V[how[e], how[f]] = face.expression_covariance[e, f]
            for a in range(len(who)):
                V[how[e], how[f]] += cross[e, a] * K[f, a]
    moved_kernel(face.T_cam_head, delta, known.T_cam_head)
    congruent(G, V_who, known.covariance)
