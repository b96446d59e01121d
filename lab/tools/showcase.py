# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""README's moving picture: four rendered people, measured, drawn, and seen from above.

    python lab/tools/showcase.py --assets ASSETS --out docs/images/people.webp
    python lab/tools/showcase.py --assets ASSETS --out people.rrd    # for docs/view.md

The people are MakeHuman's (CC0) before a panorama (CC0); assets and packages as for
lab/docs/rendering.md. Drawn is what `FacePoseEstimator.track` measures; of what the renderer knows
there are only the crosses in the plan.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from face_pose_lab.synthetic.sampling import attitude
from face_pose_lab.training.heads.assets import Assets, MissingAssetError
from face_pose_lab.training.heads.light import panorama_level
from face_pose_lab.training.heads.renderer import Loaded
from face_pose_lab.training.heads.staging import Lens, Light, Pose
from face_pose_lab.training.heads.studio import Models, Studio
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from face_pose_ros import Camera, FacePose, FacePoseEstimator
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.ros.drawing.overlay import draw_overlay
from face_pose_ros.ros.drawing.style import (
    DOUBT_RGB,
    SIGMAS,
    TEXT_RGB,
    Rgb,
    face_colour_rgb,
)

Array = NDArray[np.float64]
Picture = NDArray[np.uint8]

SEED, _PLACE = 7, 'lobby'
_LOOKS_AT_DEG = 36.0  # direction in the panorama
_FPS, _PERIOD_S = 10.0, 5.0  # everybody's motion repeats, so that the picture has no seam
_BEFORE = 20  # frames in which the tracker meets everybody
_FOCAL_PER_WIDTH = 1.1
_PLAN_FAR_M, _PLAN_WIDE_M = 2.0, 1.7  # what the plan shows
_PLAN_WIDTH = 0.4  # of the picture's
_GAZE_IN_PLAN_M = 0.35
_QUALITY, _JPEG_QUALITY = 72, 85


@dataclass(frozen=True)
class Actor:
    """A person: place and head motion.

    Attributes:
        identity: Of the studio's people.
        xyz: (3,) m, the sellion in the camera's frame at rest.
        yaw_deg, pitch_deg, roll_deg: Middle and amplitude; yaw as in `attitude`.
        beats: Periods of yaw and pitch in a period of the picture.
        phase: Of the motion, in periods.
        torso_deg: Yaw of the torso, which stands still.
    """

    identity: int
    xyz: tuple[float, float, float]
    yaw_deg: tuple[float, float]
    pitch_deg: tuple[float, float]
    roll_deg: tuple[float, float]
    beats: tuple[int, int]
    phase: float
    torso_deg: float

    def pose(self, loaded: Loaded, stamp_s: float) -> Pose:
        """The head turns about the neck; the torso stays."""
        turns = 2 * np.pi * (stamp_s / _PERIOD_S + self.phase)
        wave = np.sin(turns * np.array([self.beats[0], self.beats[1], 1]))
        yaw, pitch, roll = (
            middle + amplitude * w
            for (middle, amplitude), w in zip(
                (self.yaw_deg, self.pitch_deg, self.roll_deg), wave, strict=True
            )
        )
        R_cam_head = attitude(roll, yaw, pitch)
        R_cam_torso = attitude(0, self.torso_deg, 0)
        neck = loaded.person.neck
        T = np.eye(4)
        T[:3, :3] = R_cam_head
        T[:3, 3] = self.xyz + (R_cam_torso - R_cam_head) @ neck
        return Pose(T, Rotation.from_matrix(R_cam_head.T @ R_cam_torso).as_rotvec())


ACTORS = (
    Actor(75, (-0.35, 0.02, 1.25), (-22, 24), (2, 7), (0, 5), (1, 2), 0.0, -12),
    Actor(54, (-0.06, 0.05, 1.46), (8, 14), (-3, 8), (4, 8), (1, 1), 0.3, 5),
    Actor(53, (0.18, 0.0, 1.05), (14, 30), (0, 9), (0, 6), (1, 2), 0.55, 12),
    Actor(55, (0.46, 0.03, 1.36), (60, 26), (2, 5), (-3, 4), (1, 1), 0.1, 50),
)


def render(
    studio: Studio, placed: Sequence[tuple[Loaded, Pose]], lens: Lens, R_roll: Array | None = None
) -> Picture:
    """(H, W, 3) uint8 RGB: people in the lobby, for a camera turned about its axis by R_roll^T."""
    number = studio.environments.names.index(f'hdri/{_PLACE}')
    R_env_cam = Rotation.from_euler('y', _LOOKS_AT_DEG, degrees=True).as_matrix()
    lamp = np.array([-0.5, -0.6, -0.6]) / np.linalg.norm([0.5, 0.6, 0.6])
    if R_roll is not None:
        R_env_cam, lamp = R_env_cam @ R_roll.T, R_roll @ lamp
    light = Light(
        harmonics=0.8 * studio.environments.harmonics[number],
        R_env_cam=R_env_cam,
        lamp=lamp,
        lamp_colour=np.full(3, 0.5),
        shadows=True,
        exposure=1.0,
        environment=f'hdri/{_PLACE}',
        background_exposure=0.9,
        is_flat=False,
        blur=max(panorama_level(lens.K[0, 0]), 0) + 0.5,
    )
    return studio.renderer.picture(placed, lens, light)


@dataclass(frozen=True)
class Frame:
    """One picture, what was measured in it, and what is true."""

    rgb: Picture  # (H, W, 3)
    faces: list[FacePose]
    truth: Array  # (P, 3) m, positions in the camera's frame


@dataclass(frozen=True)
class Film:
    """One period of the scene, as rendered."""

    pictures: Picture  # (N, H, W, 3)
    truth: Array  # (N, P, 3) m, positions in the camera's frame

    @property
    def K(self) -> Array:
        """(3, 3) px, of a camera without distortion."""
        height, width = self.pictures.shape[1:3]
        focal = _FOCAL_PER_WIDTH * width
        return np.array([[focal, 0, 0.5 * (width - 1)], [0, focal, 0.5 * height], [0, 0, 1]])

    @property
    def camera(self) -> Camera:
        """The camera that took it."""
        height, width = self.pictures.shape[1:3]
        return Camera.from_K(self.K, width, height)

    @classmethod
    def render(cls, assets: Path, width: int, height: int) -> Film:
        """Render it; needs EGL."""
        count = round(_PERIOD_S * _FPS)
        film = cls(
            np.empty((count, height, width, 3), np.uint8), np.empty((count, len(ACTORS), 3))
        )
        lens = Lens(film.K, width, height)
        studio = Studio(Models.load(Assets(assets)), SEED, ('makehuman',))
        with contextlib.ExitStack() as stack:
            people = [
                stack.enter_context(studio.renderer.load(studio.person(actor.identity)))
                for actor in ACTORS
            ]
            for i in range(count):
                placed = [(p, a.pose(p, i / _FPS)) for p, a in zip(people, ACTORS, strict=True)]
                film.pictures[i] = render(studio, placed, lens)
                film.truth[i] = [pose.T_cam_head[:3, 3] for _, pose in placed]
        return film

    @classmethod
    def load(cls, path: Path) -> Film:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(file['pictures'], file['truth'])

    def save(self, path: Path) -> None:
        """Write it to a file, to be measured again without assets and EGL."""
        np.savez_compressed(path, pictures=self.pictures, truth=self.truth)


def measure(film: Film) -> list[Frame]:
    """Track everybody through the period, after _BEFORE frames of the one before it."""
    estimator, count, frames = FacePoseEstimator('cpu'), len(film.pictures), []
    for i in range(-_BEFORE, count):
        rgb = film.pictures[i % count]
        frames.append(
            Frame(rgb, estimator.track(rgb, film.camera, i / _FPS), film.truth[i % count])
        )
    return frames[_BEFORE:]


class Plan:
    """The scene from above, the camera below, to scale."""

    def __init__(self, height: int, camera: Camera) -> None:
        """Draw what does not move.

        Args:
            height: Of the plan [px].
            camera: Its field of view is drawn.
        """
        self._per_m = 0.86 * height / _PLAN_FAR_M
        self._origin = np.array([0.5 * _PLAN_WIDE_M * self._per_m, 0.95 * height])
        self._empty = np.empty((height, round(2 * self._origin[0]), 3), np.uint8)
        self._empty[:] = (34, 30, 28)
        for radius in np.arange(0.5, _PLAN_FAR_M + 0.01, 0.5):
            angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 64)
            ring = radius * np.stack([np.sin(angle), np.cos(angle)], 1)
            self._line(self._empty, ring, (70, 72, 78), 1)
            at = self._uv(np.array([0.01, radius])) - (0, 4)
            self._write(self._empty, f'{radius:.1f} m', at, (140, 144, 150))
        for u in (0, camera.width - 1):
            ray = camera.unproject((u, camera.cy)).rays[[0, 2]]
            self._line(self._empty, np.stack([0 * ray, 3 * ray]), (110, 114, 120), 1)

    def draw(self, frame: Frame) -> Picture:
        """(H, W', 3) uint8 RGB."""
        bgr = self._empty.copy()
        for face in sorted(frame.faces, key=lambda f: -f.distance):
            colour = face_colour_rgb(face.number)
            x_z = [0, 2]
            at, forward = face.position[x_z], face.forward[x_z]
            self._line(bgr, np.stack([at, at + _GAZE_IN_PLAN_M * forward]), colour, 2)
            centre = tuple(self._fine(at).tolist())
            cv2.circle(bgr, centre, 16 * 6, colour[::-1], -1, cv2.LINE_AA, 4)
            variances, axes = np.linalg.eigh(face.covariance[np.ix_(x_z, x_z)])
            angle = np.linspace(0, 2 * np.pi, 48)
            circle = np.stack([np.cos(angle), np.sin(angle)], 1)
            ellipse = at + circle * SIGMAS * np.sqrt(variances) @ axes.T
            cv2.fillPoly(bgr, [self._fine(ellipse)], DOUBT_RGB, cv2.LINE_AA, 4)
        for x, _, z in frame.truth:
            for d in (0.025, -0.025):
                self._line(bgr, np.array([[x - 0.025, z - d], [x + 0.025, z + d]]), DOUBT_RGB, 1)
        for row, text in enumerate(('from above', 'white: 2 sigma', 'x: true place')):
            at = np.array([10.0, len(bgr) - 46 + 18 * row])
            self._write(bgr, text, at, TEXT_RGB)
        return np.asarray(bgr[..., ::-1])

    def _uv(self, x_z: Array) -> Array:
        return self._origin + self._per_m * x_z * (1, -1)

    def _fine(self, x_z: Array) -> NDArray[np.int32]:
        return np.round(16 * self._uv(x_z)).astype(np.int32)

    def _line(self, bgr: Picture, x_z: Array, colour: Rgb, width: int) -> None:
        cv2.polylines(bgr, [self._fine(x_z)], False, colour[::-1], width, cv2.LINE_AA, 4)

    def _write(self, bgr: Picture, text: str, at: Array, colour: Rgb) -> None:
        u, v = np.round(at).astype(int).tolist()
        cv2.putText(bgr, text, (u, v), cv2.FONT_HERSHEY_DUPLEX, 0.42, colour[::-1], 1, cv2.LINE_AA)


def compose(frames: Sequence[Frame], camera: Camera) -> list[Picture]:
    """The overlay that the node publishes, and the plan beside it."""
    plan, model = Plan(camera.height, camera), deformable_face()
    return [
        np.hstack([draw_overlay(f.rgb, f.faces, camera, model, ''), plan.draw(f)]) for f in frames
    ]


def save(pictures: Sequence[Picture], path: Path) -> None:
    """Write a moving picture, or the first one."""
    first, *others = [Image.fromarray(picture) for picture in pictures]
    if path.suffix != '.webp':
        first.save(path, optimize=True, quality=_JPEG_QUALITY)
        return
    moving: dict[str, Any] = {'save_all': True, 'append_images': others, 'loop': 0}
    first.save(path, duration=round(1000 / _FPS), quality=_QUALITY, method=4, **moving)


def record(frames: Sequence[Frame], camera: Camera, path: Path) -> None:
    """Write what `face_pose_view` records of the scene; needs ROS messages and the rerun SDK."""
    import rerun as rr
    from rclpy.time import Time
    from std_msgs.msg import Header

    from face_pose_ros.ros.drawing.markers import face_markers
    from face_pose_ros.ros.view.scene import Scene, blueprint

    recording, model = rr.RecordingStream('face_pose'), deformable_face()
    recording.save(path, default_blueprint=blueprint())
    scene = Scene(recording)
    for i, frame in enumerate(frames):
        stamp = Time(nanoseconds=round(1e9 * i / _FPS))
        header = Header(stamp=stamp.to_msg(), frame_id='camera')
        scene.log_markers(face_markers(frame.faces, [], header, model))
        scene.log_image(frame.rgb, camera, stamp.nanoseconds)
    recording.disconnect()


def main(args: Sequence[str] | None = None) -> None:
    """Render, measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--assets', type=Path, help='of lab/docs/rendering.md')
    parser.add_argument('--film', type=Path, help='.npz of the rendered pictures; made if missing')
    parser.add_argument(
        '--out', type=Path, required=True, help='.webp; .png for a still; .rrd for rerun'
    )
    parser.add_argument('--size', type=int, nargs=2, default=(720, 400), metavar=('W', 'H'))
    options = parser.parse_args(args)
    if options.film and options.film.exists():
        film = Film.load(options.film)
    elif options.assets:
        try:
            film = Film.render(options.assets, *options.size)
        except (MissingAssetError, RuntimeError) as error:
            parser.error(str(error))
        if options.film:
            film.save(options.film)
    else:
        parser.error('needs --assets, or --film with a file that is there')
    frames, camera = measure(film), film.camera
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out.suffix == '.rrd':
        record(frames, camera, options.out)
    else:
        save(compose(frames, camera), options.out)
    errors = [
        np.linalg.norm(face.position - frame.truth, axis=1).min()
        for frame in frames
        for face in frame.faces
    ]
    print(
        f'{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, {len(frames)} frames, '
        f'{len(errors)} of {len(frames) * len(ACTORS)} heads found, '
        f'mean error of position {1000 * np.mean(errors):.0f} mm'
    )


if __name__ == '__main__':
    main()
