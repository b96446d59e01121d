# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated people, and fits of their faces that are exactly as good as they say."""

from dataclasses import dataclass

import numpy as np

from face_pose_ros.geometry import rotations
from face_pose_ros.options import TrackingOptions
from face_pose_ros.results import FacePose, Fit, Shape
from face_pose_ros.tracking.tracker import Tracker

FACING = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])  # R_cam_head of a head that looks at us
EXPRESSIONS = np.array([False, False, True])  # size, one identity mode, jaw
UNKNOWN = Shape(np.zeros(3), np.eye(3))
NOISE = np.diag(np.r_[0.002, 0.003, 0.008, np.deg2rad([1.2, 1, 0.7])]) ** 2  # at one metre


def pose(x, y=0.1, z=1.0, turn=(0.0, 0.0, 0.0)):
    """(4, 4) of a head at (x, y, z) [m] turned from facing us about the camera's axes [rad]."""
    T = np.eye(4)
    T[:3, :3] = rotations.exp(np.asarray(turn, dtype=float)) @ FACING
    T[:3, 3] = x, y, z
    return T


def chi_sq(error, covariance):
    return float(error @ np.linalg.solve(covariance, error))


@dataclass
class Camera:
    """Fits faces with noise; a share of it stays the same for a person."""

    rng: np.random.Generator
    # Information of one image about the shape: little about size, much about the jaw.
    shape_information: np.ndarray
    noise: np.ndarray

    def bias(self, share):
        """(6,) an error of the pose with that share of the noise's covariance."""
        return np.sqrt(share) * self.normal(self.noise)

    def normal(self, covariance):
        return np.linalg.cholesky(covariance) @ self.rng.standard_normal(len(covariance))

    def see(
        self, T, shape=(0, 0, 0), prior=UNKNOWN, prior_of='', pose_error=None, shape_error=None
    ):
        """The fit of a face with that pose and shape.

        The image says c = shape + shape_error with shape_information, and where the head were if
        that were right; both together with the prior give the fit.
        """
        S, shape = self.shape_information, np.asarray(shape, dtype=float)
        if pose_error is None:
            pose_error = self.normal(self.noise)
        if shape_error is None:
            shape_error = self.normal(np.linalg.inv(S))
        V = np.linalg.inv(np.linalg.inv(prior.covariance) + S)
        fitted = V @ (np.linalg.solve(prior.covariance, prior.mean) + S @ (shape + shape_error))
        # A face of one more sigma in size is 5.5 % further away; an open jaw looks like a nod.
        G = np.zeros((6, 3))
        G[:3, 0] = 0.055 * T[:3, 3]
        G[2, 1], G[3, 2] = 0.01, 0.03
        return FacePose(
            T_cam_head=rotations.moved(T, pose_error + G @ (fitted - shape)),
            covariance=self.noise + G @ V @ G.T,
            keypoints_uv=np.full((478, 2), T[:2, 3]),
            keypoints_sigma_px=np.ones(478),
            box_xyxy=np.zeros(4),
            score=1.0,
            shape=fitted,
            shape_covariance=V,
            fit=Fit(self.noise, G, prior_of),
        )


def camera(rng, noise=NOISE, information=(0.2, 1.0, 30.0)):
    """Rays couple size and the identity mode a little, so nothing is diagonal by luck."""
    S = np.diag(information) + 0.1 * np.outer([1, -1, 2], [1, -1, 2])
    return Camera(rng, S, noise)


def new_tracker(options=None):
    return Tracker(options or TrackingOptions(), UNKNOWN, EXPRESSIONS)


def shape_of(tracker, person_id):
    """The shape that a tracker gives to the fit of a person; of '', a stranger's."""
    means, covariances = tracker.shapes_of([person_id])
    return Shape(means[0], covariances[0])


def known_faces(tracker, max_age_s):
    """Ids and all keypoints (M, 478, 2)."""
    return tracker.known_faces(max_age_s, np.arange(478))


def watch(tracker, sensor, stamps, people, seen=lambda name, stamp_s: True, follow_s=0.15):
    """Show people to a tracker as the estimator does.

    Args:
        tracker: The tracker.
        sensor: The camera.
        stamps: [s] of the images.
        people: name -> (function of the stamp -> pose, shape).
        seen: Whether a person is found in an image.
        follow_s: A face seen this recently is fitted with what is known of its shape.

    Yields:
        stamp, {name -> face}.
    """
    known_as = {}
    for stamp_s in stamps:
        tracker.advance(stamp_s)
        known, _ = known_faces(tracker, follow_s)
        names, faces = [], []
        for name, (motion, shape) in people.items():
            if not seen(name, stamp_s):
                continue
            prior_of = known_as.get(name, '')
            if prior_of not in known:
                prior_of = ''
            names.append(name)
            prior = shape_of(tracker, prior_of)
            faces.append(sensor.see(motion(stamp_s), shape, prior, prior_of))
        order = sensor.rng.permutation(len(faces))
        found = tracker.update([faces[i] for i in order], stamp_s)
        found = {names[i]: face for i, face in zip(order, found, strict=True)}
        known_as |= {name: face.id for name, face in found.items()}
        yield stamp_s, found


def ids_seen(run):
    """Name -> the ids it has had."""
    had = {}
    for _, found in run:
        for name, face in found.items():
            had.setdefault(name, set()).add(face.id)
    return had
