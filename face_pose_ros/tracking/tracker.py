# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People over time: ids, what is remembered of each one's shape, filtered poses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import linalg
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.face_mesh import POINTS
from face_pose_ros.options import TrackingOptions
from face_pose_ros.results import FacePose
from face_pose_ros.tracking.association import associate
from face_pose_ros.tracking.filter import PoseFilter
from face_pose_ros.tracking.identity import FaceGivenIdentity
from face_pose_ros.tracking.shape_memory import Kinds, Shape, ShapeMemory

Array = NDArray[np.float64]


_MIN_INTERVAL_S = 1e-3  # between images, or stamps are wrong


class KnownFaces(NamedTuple):
    """M faces that were measured recently."""

    ids: tuple[str, ...]
    keypoints_uv: Array  # (M, 478, 2) px, predicted


@dataclass
class _Person:
    id: str
    number: int  # of the id, from 1
    filter: PoseFilter
    memory: ShapeMemory
    identity: Array  # (I,) coefficients for which the filter's pose holds
    pose_of_identity: Array  # (6, I) how the last fit's pose moves with them
    has_depth: bool  # whether that fit had ranges of a depth image
    keypoints_uv: Array  # (K, 2) px; all NaN: some are outside of the last image's camera
    seen_s: float
    velocity_px_s: Array  # (2,) of the keypoints' mean

    @property
    def has_keypoints(self) -> bool:
        """Whether the last image's camera sees all keypoints."""
        return math.isfinite(self.keypoints_uv[0, 0])

    def set_keypoints(self, keypoints_uv: Array, stamp_s: float) -> None:
        """Take measured keypoints (K, 2), and their velocity since the last ones."""
        if self.has_keypoints:
            moved_px = _mean(keypoints_uv - self.keypoints_uv)
            self.velocity_px_s = moved_px / max(stamp_s - self.seen_s, _MIN_INTERVAL_S)
        else:
            self.velocity_px_s = np.zeros(2)
        self.keypoints_uv, self.seen_s = keypoints_uv, stamp_s

    def change_camera(self, before: Camera, after: Camera) -> None:
        """Move the keypoints to another camera's pixels; NaN where it does not see them all."""
        seconds_ahead = 0.01
        middle = _mean(self.keypoints_uv)
        ahead = middle + seconds_ahead * self.velocity_px_s
        rays, had_rays = before.unproject(np.concatenate([self.keypoints_uv, [middle, ahead]]))
        uv, seen, _ = after.project(rays)
        moved = uv if (had_rays & seen).all() else np.full_like(uv, np.nan)
        self.keypoints_uv = moved[:-2]
        self.velocity_px_s = (moved[-1] - moved[-2]) / seconds_ahead


def _mean(uv: Array) -> Array:
    """(2,) mean of points (K, 2): an eighth of the time of numpy's along the first axis."""
    return _mean_weights(len(uv)) @ uv


@cache
def _mean_weights(count: int) -> Array:
    return np.full(count, 1 / count)


class Tracker:
    """Associates the faces of each image with known people, by their predicted poses.

    A person without a measurement keeps the filter's prediction and is not reported, until it is
    measured again or lost. Ids are never used twice.
    """

    def __init__(
        self, options: TrackingOptions, prior: Shape, expressions: Sequence[bool]
    ) -> None:
        """Start without people.

        Args:
            options: See `TrackingOptions`.
            prior: Shape of an unknown person, C coefficients; identity and expressions
                independent.
            expressions: C, which coefficients are expressions.
        """
        self.options = options
        self.id_prefix = ''  # two cameras must not give two people the same id
        self.images_since_detection = 0
        self._prior = prior
        self._kinds = Kinds.of(expressions)
        self._people: list[_Person] = []
        self._count = 0
        self.stamp_s = -np.inf  # of the last image
        self._camera: Camera | None = None  # likewise

    def configure(self, options: TrackingOptions, prior: Shape) -> None:
        """Set other options. The shapes of known people are kept, unless the prior is another."""
        is_other = not all(map(np.array_equal, prior, self._prior))
        self.options, self._prior = options, prior
        for person in self._people:
            person.filter.options = options
            if is_other:
                person.memory = ShapeMemory(prior, self._kinds, self.stamp_s, options.shape)

    def reset(self) -> None:
        """Forget all people; the numbering of ids goes on."""
        self._people.clear()
        self.stamp_s = -np.inf

    @property
    def ids(self) -> list[str]:
        """Ids of all people that are not lost, measured in the last image or not."""
        return [person.id for person in self._people]

    def known_faces(self, max_age_s: float) -> KnownFaces:
        """The faces measured at most max_age_s [s] before the last `advance`, as predicted."""
        recent = [
            person
            for person in self._people
            if person.seen_s >= self.stamp_s - max_age_s and person.has_keypoints
        ]
        uv = np.empty((len(recent), POINTS, 2))
        for row, person in enumerate(recent):
            moved_px = person.velocity_px_s * (self.stamp_s - person.seen_s)
            np.add(person.keypoints_uv, moved_px, out=uv[row])
        return KnownFaces(tuple([person.id for person in recent]), uv)

    def set_camera(self, camera: Camera) -> bool:
        """Set the camera of the next image; returns whether it differs from the one before.

        Known keypoints are projected into the new camera along their rays.
        """
        before, self._camera = self._camera, camera
        if before is None or before == camera:
            return False
        for person in self._people:
            person.change_camera(before, camera)
        return True

    def shape_of(self, person_id: str) -> Shape:
        """The estimated shape of a person, expressions faded up to the last `advance`.

        Args:
            person_id: One of `ids`; empty: the prior of an unknown person.

        Raises:
            KeyError: No known person has this id.
        """
        if not person_id:
            return self._prior
        for person in self._people:
            if person.id == person_id:
                return person.memory.shape
        raise KeyError(person_id)

    def advance(self, stamp_s: float) -> None:
        """Go on to a stamp [s] and forget lost people; an earlier stamp forgets all."""
        if stamp_s == self.stamp_s:
            return
        if stamp_s < self.stamp_s:
            self._people.clear()
        self.stamp_s = stamp_s
        oldest_s = stamp_s - self.options.lost_after_s
        self._people = [person for person in self._people if person.seen_s >= oldest_s]
        for person in self._people:
            person.memory.advance(stamp_s)

    def update(self, faces: Sequence[FacePose], stamp_s: float) -> list[FacePose]:
        """The same faces, in the same order, with ids, filtered poses and remembered shapes.

        The pose of a fit holds for the shape of that fit. It is compared with a person's, and
        filtered, as it would be for the shape remembered of that person. What is not known of the
        shape is added to the covariance at the end, because no number of images averages it out.

        Args:
            faces: Faces of one image; the fit of each was given `shape_of(shape_prior_of)`, as it
                was after `advance` to the same stamp.
            stamp_s: When it was taken [s].
        """
        self.advance(stamp_s)
        given = [
            FaceGivenIdentity.of(
                face.T_cam_head,
                face.fit.covariance_given_shape,
                face.fit.pose_of_shape,
                Shape(face.shape, face.shape_covariance),
                self._kinds,
            )
            for face in faces
        ]
        # Before any of them learns from this image.
        priors = [self.shape_of(face.fit.shape_prior_of) for face in faces]
        known = self._associated(given, any(map(_has_depth, faces)))
        return [
            self._updated(known.get(row), face, given[row], priors[row])
            for row, face in enumerate(faces)
        ]

    def _associated(
        self, given: Sequence[FaceGivenIdentity], have_depth: bool
    ) -> dict[int, _Person]:
        """Row of a face -> its person, if it is a known one."""
        people = self._people
        if not given or not people:
            return {}
        states = [person.filter.predict(self.stamp_s) for person in people]
        covariances = [state.covariance[:6, :6] for state in states]
        if have_depth:
            # The first depth image of a person replaces the size that the prior expected.
            for row, person in enumerate(people):
                if not person.has_depth:
                    G, known = person.pose_of_identity, person.memory.identity
                    covariances[row] = covariances[row] + G @ known.covariance @ G.T
        match = associate(
            [state.T_cam_head for state in states],
            covariances,
            [person.identity for person in people],
            [face.T_cam_head for face in given],
            [face.covariance for face in given],
            [face.identity.mean for face in given],
            [face.pose_of_identity for face in given],
            self.options.gate_m,
        )
        return {row: people[column] for row, column in match.items()}

    def _updated(
        self, person: _Person | None, face: FacePose, given: FaceGivenIdentity, prior: Shape
    ) -> FacePose:
        """The filtered face of a person, or of a new one; `prior` is what its fit was given."""
        options, stamp_s, has_depth = self.options, self.stamp_s, _has_depth(face)
        if person:
            memory = person.memory
        else:
            memory = ShapeMemory(self._prior, self._kinds, stamp_s, options.shape)
        if options.remember_shape:
            fitted = Shape(face.shape, face.shape_covariance)
            if has_depth and face.depth is not None:
                # The size that takes the keypoints to the measured ranges. The fit divides what
                # they disagree on between the size and the keypoints' own errors; but most of
                # these are the same in every image of a person, and cancel when this size is
                # used without a depth image later.
                memory.measure_size(face.depth.size_coefficient)
                fitted = _without_size(fitted, prior)
            memory.update(fitted, prior)
            identity, noise = memory.identity, given.covariance
        else:
            identity, G = given.identity, given.pose_of_identity
            scatter = _scatter(identity, prior.part(self._kinds.identity))
            noise = given.covariance + G @ scatter @ G.T
        known = given.for_identity(identity, self._kinds)

        if person is None:
            pose_filter = PoseFilter(known.T_cam_head, noise, stamp_s, options)
            self._count += 1
            person = _Person(
                f'{self.id_prefix}f{self._count:05d}',
                self._count,
                pose_filter,
                memory,
                identity.mean,
                given.pose_of_identity,
                has_depth,
                face.keypoints_uv.copy(),
                stamp_s,
                velocity_px_s=np.zeros(2),
            )
            self._people.append(person)
            T_cam_head, covariance = known.T_cam_head, noise
        else:
            if options.remember_shape:
                appears = has_depth and not person.has_depth
                G = person.pose_of_identity if appears else given.pose_of_identity
                person.filter.shift(G @ (identity.mean - person.identity))
            T_cam_head, covariance = person.filter.update(known.T_cam_head, noise, stamp_s)
            person.set_keypoints(face.keypoints_uv.copy(), stamp_s)
            person.identity = identity.mean
            person.pose_of_identity, person.has_depth = given.pose_of_identity, has_depth

        if not options.filter_poses:
            T_cam_head, covariance = known.T_cam_head, given.covariance
        # The caller's own: nothing of it is kept here. (dataclasses.replace takes much longer.)
        return FacePose(
            T_cam_head.copy(),
            covariance + known.covariance,
            face.keypoints_uv,
            face.keypoints_sigma_px,
            face.box_xyxy,
            face.score,
            known.shape.mean,
            known.shape.covariance,
            face.fit,
            person.id,
            person.number,
            face.depth,
        )


def _has_depth(face: FacePose) -> bool:
    return face.depth is not None and face.depth.agreeing > 0


def _without_size(fitted: Shape, prior: Shape) -> Shape:
    """The fitted shape with the prior's size: as if the fit had no information about it."""
    mean, covariance = fitted.mean.copy(), fitted.covariance.copy()
    mean[0], covariance[0], covariance[:, 0] = prior.mean[0], 0, 0
    covariance[0, 0] = prior.covariance[0, 0]
    return Shape(mean, covariance)


def _scatter(fitted: Shape, prior: Shape) -> Array:
    """Covariance of a fit with a prior over repeated noise: V - V P^-1 V."""
    V = fitted.covariance
    return np.asarray(V - V @ linalg.solve(prior.covariance, V))
