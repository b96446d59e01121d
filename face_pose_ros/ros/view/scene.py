# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The scene of the rerun SDK: camera, image, heads and their trajectories; no node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from numpy.typing import NDArray
from rclpy.duration import Duration
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.ros import conversions
from face_pose_ros.virtual_camera import View, render_view

TIMELINE = 'stamp'  # of the images
CAMERA = 'camera'

_JPEG_QUALITY = 85
_IMAGE_AT_M = 0.25  # distance of the image plane from the camera
_TRAJECTORY_S = 5.0  # length of a trajectory
_THIN_M = 0.002  # radius of lines and points
# Viewpoint of the 3-D view in the camera's frame [m]: from the left, above and behind.
_EYE_AT, _EYE_LOOKS_AT, _EYE_UP = (-1.2, -1.1, -0.5), (0.05, 0.1, 0.75), (0.0, -1.0, 0.0)


@dataclass
class _Face:
    """State of a face in the scene."""

    end_ns: int = 0  # stamp at which its markers expire
    trajectory: dict[int, tuple[float, float, float]] = field(default_factory=dict)  # by stamp


class Scene:
    """Camera, image, heads and their trajectories in a recording; no node."""

    def __init__(self, recording: rr.RecordingStream) -> None:
        """Set the recording to log to."""
        self._recording = recording
        self._faces: defaultdict[str, _Face] = defaultdict(_Face)  # by entity
        recording.log('/', rr.ViewCoordinates.RDF, static=True)

    def log_image(self, rgb: NDArray[np.uint8], camera: Camera, stamp_ns: int) -> None:
        """Log an image with its camera; remove faces whose markers have expired.

        The SDK has pinhole cameras only: an image with distortion is warped to a pinhole camera
        with the same K, so that the heads match it.

        Args:
            rgb: (H, W, 3).
            camera: Its camera.
            stamp_ns: Of both.
        """
        for entity in [name for name, face in self._faces.items() if face.end_ns < stamp_ns]:
            self._clear(entity, self._faces[entity].end_ns)
        if camera.dist.any():
            pinhole = Camera.from_K(camera.K, camera.width, camera.height)
            rgb = render_view(rgb, camera, View(np.eye(3), pinhole), supersampling=1)
        self._set_time(stamp_ns)
        self._recording.log(
            CAMERA,
            rr.Pinhole(
                image_from_camera=camera.K,
                resolution=[camera.width, camera.height],
                camera_xyz=rr.ViewCoordinates.RDF,
                image_plane_distance=_IMAGE_AT_M,
            ),
            rr.Image(np.ascontiguousarray(rgb)).compress(_JPEG_QUALITY),
        )

    def log_markers(self, markers: MarkerArray) -> None:
        """Log the markers of one image, from `face_markers`."""
        for marker in markers.markers:
            entity = f'faces/{marker.id}'
            stamp_ns = conversions.stamp_ns(marker.header.stamp)
            if marker.action == Marker.DELETE:
                self._clear(entity, stamp_ns)
                continue
            face = self._faces[entity]
            face.end_ns = stamp_ns + Duration.from_msg(marker.lifetime).nanoseconds
            self._set_time(stamp_ns)
            self._recording.log(f'{entity}/{marker.ns}', _transform(marker), _shape(marker))
            if marker.ns == 'axes':
                self._log_trajectory(f'{entity}/trajectory', face, marker, stamp_ns)

    def _log_trajectory(self, entity: str, face: _Face, marker: Marker, stamp_ns: int) -> None:
        p = marker.pose.position
        begin_ns = stamp_ns - round(1e9 * _TRAJECTORY_S)
        # Drop later stamps too: time may have gone back.
        known = {ns: at for ns, at in face.trajectory.items() if begin_ns < ns < stamp_ns}
        face.trajectory = known | {stamp_ns: (p.x, p.y, p.z)}
        strip = list(face.trajectory.values())
        colour = _rgba([marker.color])
        self._recording.log(entity, rr.LineStrips3D([strip], colors=colour, radii=_THIN_M))

    def _clear(self, entity: str, stamp_ns: int) -> None:
        if self._faces.pop(entity, None):
            self._set_time(stamp_ns)
            self._recording.log(entity, rr.Clear(recursive=True))

    def _set_time(self, stamp_ns: int) -> None:
        self._recording.set_time(TIMELINE, timestamp=np.datetime64(stamp_ns, 'ns'))


def _transform(marker: Marker) -> rr.Transform3D:
    p, q = marker.pose.position, marker.pose.orientation
    rotation = rr.Quaternion(xyzw=[q.x, q.y, q.z, q.w])
    return rr.Transform3D(translation=[p.x, p.y, p.z], rotation=rotation)


def _shape(marker: Marker) -> rr.AsComponents:
    """The shape of a marker, in its own frame."""
    scale, colours = marker.scale, _rgba([marker.color])
    points = np.array([(p.x, p.y, p.z) for p in marker.points], np.float32).reshape(-1, 3)
    if marker.type == Marker.TRIANGLE_LIST:
        return rr.Mesh3D(
            vertex_positions=points,
            vertex_normals=_normals(points),
            albedo_factor=colours[0],
        )
    if marker.type == Marker.LINE_LIST:
        colours = _rgba(marker.colors[::2])  # of the first end of each line
        return rr.LineStrips3D(points.reshape(-1, 2, 3), colors=colours, radii=0.5 * scale.x)
    if marker.type == Marker.ARROW:
        start, end = points
        # A width in pixels: an arrow of realistic width would hide the image near the camera.
        thin = rr.components.Radius.ui_points(1.5)
        return rr.Arrows3D(origins=[start], vectors=[end - start], colors=colours, radii=thin)
    if marker.type == Marker.SPHERE:
        return rr.Ellipsoids3D(
            half_sizes=[[0.5 * scale.x, 0.5 * scale.y, 0.5 * scale.z]],
            colors=colours,
            line_radii=rr.components.Radius.ui_points(1.0),
            fill_mode=rr.components.FillMode.TransparentFillMajorWireframe,
        )
    assert marker.type == Marker.TEXT_VIEW_FACING
    return rr.Points3D(
        [[0, 0, 0]], labels=[marker.text], colors=colours, radii=_THIN_M, show_labels=True
    )


def _normals(triangles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normals (3 T, 3) of the triangles, repeated for their corners, for shading."""
    a, b, c = triangles.reshape(-1, 3, 3).transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    return np.repeat(normals / np.linalg.norm(normals, axis=1, keepdims=True), 3, axis=0)


def _rgba(colours: Iterable[ColorRGBA]) -> NDArray[np.uint8]:
    values = np.array([(c.r, c.g, c.b, c.a) for c in colours])
    return np.round(255 * values).astype(np.uint8)


def blueprint() -> rrb.Blueprint:
    """Scene and image side by side."""
    eye = rrb.EyeControls3D(position=_EYE_AT, look_target=_EYE_LOOKS_AT, eye_up=_EYE_UP)
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Spatial3DView(origin='/', name='scene', eye_controls=eye),
            rrb.Spatial2DView(origin=CAMERA, contents='/**', name='image, heads projected'),
        ),
        rrb.TimePanel(timeline=TIMELINE, state='collapsed'),
        collapse_panels=True,
    )
