# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People over time: ids, what is remembered of each one's shape, filtered poses."""

from __future__ import annotations

from collections.abc import Sequence

from face_pose_ros import _core
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import TrackingOptions
from face_pose_ros.results import FacePose, Shape


class Tracker(_core.People):
    """Associates the faces of each image with known people, by their predicted poses.

    A person without a measurement keeps the filter's prediction and is not reported, until it is
    measured again or lost. Ids are never used twice. src/people.hpp has the parts.
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
        super().__init__(*prior, expressions, options)
        self.options = options
        self.images_since_detection = 0
        self.camera: Camera | None = None  # of the last image
        self._expressions = expressions

    def configure(self, options: TrackingOptions, prior: Shape) -> None:
        """Set other options. The shapes of known people are kept, unless the prior is another."""
        self.options = options
        self.set_options(options, *prior, self._expressions)

    def set_camera(self, camera: Camera) -> bool:
        """Set the camera of the next image; returns whether it differs from the one before.

        Known keypoints are projected into the new camera along their rays.
        """
        before, self.camera = self.camera, camera
        if before is None or before is camera or before == camera:
            return False
        self.change_camera(before.lens, camera.lens)
        return True

    def update(self, faces: Sequence[FacePose], stamp_s: float) -> list[FacePose]:
        """The same faces, in the same order, with ids, filtered poses and remembered shapes.

        Args:
            faces: Faces of one image; the fit of each was given the shape of the person
                `shape_prior_of`, as it was after `advance` to the same stamp.
            stamp_s: When it was taken [s].
        """
        return [
            FacePose(
                T_cam_head,
                covariance,
                face.keypoints_uv,
                face.keypoints_sigma_px,
                face.box_xyxy,
                face.score,
                shape,
                shape_covariance,
                face.fit,
                face_id,
                number,
                face.depth,
            )
            for face, (T_cam_head, covariance, shape, shape_covariance, face_id, number) in zip(
                faces, self.track(faces, stamp_s), strict=True
            )
        ]
