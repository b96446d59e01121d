# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People over time: ids, what is remembered of each one's shape, filtered poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import linalg, rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.face_mesh import POINTS
from face_pose_ros.options import TrackingOptions
from face_pose_ros.results import FacePose
from face_pose_ros.tracking.association import associate
from face_pose_ros.tracking.filter import PoseFilter
from face_pose_ros.tracking.identity import FaceGivenIdentity
from face_pose_ros.tracking.shape_memory import Shape, ShapeMemory

Array = NDArray[np.float64]


class KnownFaces(NamedTuple):
    """M faces seen a moment ago."""

    ids: tuple[str, ...]
    keypoints_uv: Array  # (M, 478, 2) px, where they should be by now


_MIN_INTERVAL_S = 1e-3  # between images, or stamps are wrong


@dataclass
class _Person:
    id: str
    number: int  # of the id, from 1
    filter: PoseFilter
    memory: ShapeMemory
    identity: Array  # (I,) coefficients for which the filter's pose holds
    pose_of_identity: Array  # (6, I) how the last fit's pose moves with them
    has_depth: bool  # whether a depth image said where that fit's pose is, whatever the identity
    keypoints_uv: Array  # (K, 2) px; NaN: outside of the last image's camera
    seen_s: float
    velocity_px_s: Array  # (2,) of the keypoints' middle

    def see(self, keypoints_uv: Array, stamp_s: float) -> None:
        """Note where the keypoints (K, 2) are, and how fast they have come there."""
        moved_px = _middle(keypoints_uv) - _middle(self.keypoints_uv)
        if not np.isfinite(moved_px).all():
            moved_px = np.zeros(2)
        self.velocity_px_s = moved_px / max(stamp_s - self.seen_s, _MIN_INTERVAL_S)
        self.keypoints_uv, self.seen_s = keypoints_uv, stamp_s

    def keypoints_at(self, stamp_s: float) -> Array:
        """(K, 2) px, where the keypoints should be at a later stamp [s]."""
        return self.keypoints_uv + self.velocity_px_s * (stamp_s - self.seen_s)

    def carry(self, before: Camera, after: Camera) -> None:
        """Move the keypoints to another camera's pixels; NaN where it does not see them all."""
        seconds_ahead = 0.01
        middle = _middle(self.keypoints_uv)
        ahead = middle + seconds_ahead * self.velocity_px_s
        rays, had_rays = before.unproject(np.concatenate([self.keypoints_uv, [middle, ahead]]))
        uv, seen, _ = after.project(rays)
        moved = uv if (had_rays & seen).all() else np.full_like(uv, np.nan)
        self.keypoints_uv = moved[:-2]
        self.velocity_px_s = (moved[-1] - moved[-2]) / seconds_ahead


def _middle(uv: Array) -> Array:
    """(2,) mean of points (K, 2): an eighth of the time of numpy's along the first axis."""
    return np.full(len(uv), 1 / len(uv)) @ uv


class Tracker:
    """Recognises people from image to image by where they should be by now.

    Unseen people move on in the filter's prediction and are not reported, until they are seen
    again or lost. Ids are never used twice.
    """

    def __init__(
        self, options: TrackingOptions, prior: Shape, expressions: Sequence[bool]
    ) -> None:
        """Know nobody.

        Args:
            options: See `TrackingOptions`.
            prior: Shape of anybody, C coefficients; identity and expressions independent.
            expressions: C, which coefficients are expressions.
        """
        self.options = options
        self.id_prefix = ''  # two cameras must not give two people the same id
        self.images_since_detection = 0  # how long nobody has looked for new people
        self._prior = prior
        self._expressions = np.asarray(expressions, dtype=bool)
        self._identity = np.flatnonzero(~self._expressions)
        self._people: list[_Person] = []
        self._count = 0
        self.stamp_s = -np.inf  # of the last image
        self._camera: Camera | None = None  # likewise

    def configure(self, options: TrackingOptions, prior: Shape) -> None:
        """Go on with other options; a person's shape is remembered as it was."""
        self.options, self._prior = options, prior
        for person in self._people:
            person.filter.options = options

    def forget_all(self) -> None:
        """Know nobody again; ids go on where they were."""
        self._people.clear()
        self.stamp_s = -np.inf

    @property
    def ids(self) -> list[str]:
        """Ids of all faces not yet forgotten, seen in the last image or not."""
        return [person.id for person in self._people]

    def known_faces(self, max_age_s: float) -> KnownFaces:
        """The faces seen at most max_age_s [s] before the last `advance`, where it is known."""
        recent = [
            person
            for person in self._people
            if person.seen_s >= self.stamp_s - max_age_s and np.isfinite(person.keypoints_uv).all()
        ]
        if not recent:
            return KnownFaces((), np.zeros((0, POINTS, 2)))
        return KnownFaces(
            tuple(person.id for person in recent),
            np.array([person.keypoints_at(self.stamp_s) for person in recent]),
        )

    def look_through(self, camera: Camera) -> bool:
        """Note the camera of the next image, and whether it is another one than before.

        What was seen through another lens, or in pictures of another size, is carried by its rays.

        """
        before, self._camera = self._camera, camera
        if before is None or before == camera:
            return False
        for person in self._people:
            person.carry(before, camera)
        return True

    def shape_of(self, person_id: str) -> Shape:
        """What is known of a person's shape, expressions faded up to the last `advance`.

        Args:
            person_id: One of `ids`; empty for somebody unknown.

        Raises:
            KeyError: Nobody has this id now.
        """
        if not person_id:
            return self._prior
        for person in self._people:
            if person.id == person_id:
                return person.memory.shape
        raise KeyError(person_id)

    def advance(self, stamp_s: float) -> None:
        """Forget what is lost by now [s]; a stamp before the last one is a restart."""
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
                self._expressions,
                has_depth=face.depth is not None and face.depth.agreeing > 0,
            )
            for face in faces
        ]
        # Before any of them learns from this image.
        priors = [self.shape_of(face.fit.shape_prior_of) for face in faces]
        known = self._recognised(given)
        return [
            self._followed(known.get(row), face, given[row], priors[row])
            for row, face in enumerate(faces)
        ]

    def _recognised(self, given: Sequence[FaceGivenIdentity]) -> dict[int, _Person]:
        """Row of a face -> the person whose face it is, if it is known."""
        people = self._people
        if not given or not people:
            return {}
        states = [person.filter.predict(self.stamp_s) for person in people]
        covariances = [state.covariance[:6, :6] for state in states]
        if any(face.has_depth for face in given):
            # Where somebody is seen by a depth camera for the first time, the size was a guess.
            for row, person in enumerate(people):
                if not person.has_depth:
                    G, known = person.pose_of_identity, person.memory.identity
                    covariances[row] = covariances[row] + G @ known.covariance @ G.T
        identities = np.array([person.identity for person in people])
        fitted = np.array([face.identity.mean for face in given])
        G = np.array([face.pose_of_identity for face in given])
        delta = (identities - fitted[:, None]) @ G.swapaxes(-1, -2)
        match = associate(
            np.array([state.T_cam_head for state in states]),
            np.array(covariances),
            rotations.moved(np.array([face.T_cam_head for face in given])[:, None], delta),
            np.array([face.covariance for face in given]),
            self.options.gate_m,
        )
        return {row: people[column] for row, column in match.items()}

    def _followed(
        self, person: _Person | None, face: FacePose, given: FaceGivenIdentity, prior: Shape
    ) -> FacePose:
        """The face with what was known of the person; `prior` is what its fit was given."""
        options, stamp_s = self.options, self.stamp_s
        if person:
            memory = person.memory
        else:
            memory = ShapeMemory(self._prior, self._expressions, stamp_s, options.shape)
        if options.remember_shape:
            fitted = Shape(face.shape, face.shape_covariance)
            if given.has_depth and face.depth is not None:
                # The size that takes the keypoints to the measured ranges. The fit divides what
                # they disagree on between the size and the keypoints' own errors; but most of
                # these are the same in every image of a person, and cancel when this size is
                # used without a depth image later.
                memory.measure_size(face.depth.size_coefficient)
                fitted = _without_size(fitted, prior)
            memory.update(fitted, prior)
            identity = memory.identity
            noise = given.covariance
        else:
            identity = given.identity
            noise = given.covariance + given.covariance_for(
                _scatter(identity, prior.part(self._identity))
            )
        measured = given.pose_for(identity.mean)

        if person is None:
            pose_filter = PoseFilter(measured, noise, stamp_s, options)
            self._count += 1
            person = _Person(
                f'{self.id_prefix}f{self._count:05d}',
                self._count,
                pose_filter,
                memory,
                identity.mean,
                given.pose_of_identity,
                given.has_depth,
                face.keypoints_uv.copy(),
                stamp_s,
                velocity_px_s=np.zeros(2),
            )
            self._people.append(person)
            T_cam_head, covariance = measured, noise
        else:
            if options.remember_shape:
                appears = given.has_depth and not person.has_depth
                G = person.pose_of_identity if appears else given.pose_of_identity
                person.filter.shift(G @ (identity.mean - person.identity))
            T_cam_head, covariance = person.filter.update(measured, noise, stamp_s)
            person.see(face.keypoints_uv.copy(), stamp_s)
            person.identity = identity.mean
            person.pose_of_identity, person.has_depth = given.pose_of_identity, given.has_depth

        if not options.filter_poses:
            T_cam_head, covariance = measured, given.covariance
        shape = given.shape_for(identity, self._expressions)
        # The caller's own: nothing of it is remembered here.
        return replace(
            face,
            T_cam_head=T_cam_head.copy(),
            covariance=covariance + given.covariance_for(identity.covariance),
            shape=shape.mean,
            shape_covariance=shape.covariance,
            id=person.id,
            number=person.number,
        )


def _without_size(fitted: Shape, prior: Shape) -> Shape:
    """The fitted shape, as if the fit had said nothing of the size."""
    mean, covariance = fitted.mean.copy(), fitted.covariance.copy()
    mean[0], covariance[0], covariance[:, 0] = prior.mean[0], 0, 0
    covariance[0, 0] = prior.covariance[0, 0]
    return Shape(mean, covariance)


def _scatter(fitted: Shape, prior: Shape) -> Array:
    """Covariance of what noise alone does to a fit with a prior: V - V P^-1 V."""
    V = fitted.covariance
    return np.asarray(V - V @ linalg.solve(prior.covariance, V))
