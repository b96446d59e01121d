# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A head in front of a camera: the picture, and the truth behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from face_pose_lab.synthetic.appearance import Appearance, People
from face_pose_lab.synthetic.body import Body, HairStyle, Material, lit_from, vertex_normals
from face_pose_lab.synthetic.ict_facekit import IctFaceKit
from face_pose_lab.synthetic.rasterizer import rasterize
from face_pose_lab.synthetic.shading import (
    Light,
    Surface,
    brightest_direction,
    load_panorama,
    look_up,
    panorama_harmonics,
    shade,
    smooth_panorama,
    to_srgb,
)
from face_pose_lab.torch_geometry import se3
from face_pose_lab.torch_geometry.camera import Camera
from face_pose_lab.torch_geometry.warp import NODE_SPACING_PX, cell_nodes, interpolate_nodes

_SAMPLES = 2  # per pixel and axis
# Gloss and Blinn-Phong exponent of each Material, in its order; the skin's gloss is the person's.
_GLOSS = (1.0, 0.8, 1.0, 1.5, 1.5, 0.0)
_SHININESS = (18.0, 40.0, 60.0, 400.0, 14.0, 10.0)


@dataclass(frozen=True)
class Head:
    """The truth of one rendered head."""

    identity: NDArray[np.float64]  # (100,) coefficients of ICT-FaceKit
    expression: NDArray[np.float64]  # (57,)
    T_cam_head: NDArray[np.float64]  # (4, 4) m
    camera: Camera


class HeadRenderer:
    """Draws heads of ICT-FaceKit through any lens."""

    def __init__(
        self,
        facekit: IctFaceKit,
        hdri_folder: Path | str | None = None,
        device: torch.device | str = 'cpu',
    ) -> None:
        """Prepare the mesh.

        Args:
            facekit: The morphable head.
            hdri_folder: Folder of equirectangular .hdr files for light and background; without
                one they are made up.
            device: Where the pixels are computed.

        Raises:
            FileNotFoundError: The folder holds no .hdr file.
        """
        self._panoramas = None if hdri_folder is None else _load_panoramas(Path(hdri_folder))
        self.facekit = facekit
        self._body = Body(facekit, device)
        self._people = People(facekit, device)

    def render(self, head: Head, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Picture (H, W, 3) uint8 RGB of a head with random appearance, light and background."""
        return self._drawn(head, rng)[0]

    def render_with_depth(
        self, head: Head, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The same picture, and the z (H, W) [m] of what it shows; 0: background."""
        picture, xyz_cam, style = self._drawn(head, rng)
        z = np.zeros(picture.shape[:2], np.float32)
        window = _window(xyz_cam, head.camera)
        if window is not None:
            left, top, width, height = window
            triangles = self._body.triangles[self._body.drawn(style)]
            cropped = head.camera.crop(left, top, width, height).to(xyz_cam.device)
            seen = rasterize(xyz_cam[None], triangles, cropped)
            part = np.zeros(width * height, np.float32)
            z_seen = seen.interpolate(xyz_cam[:, 2:], triangles)[:, 0]
            part[seen.pixel.cpu().numpy()] = z_seen.cpu().numpy()
            z[top : top + height, left : left + width] = part.reshape(height, width)
        return picture, z

    def _drawn(
        self, head: Head, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Tensor, HairStyle]:
        """Picture, vertices of the body (V, 3) in the camera frame, its hair."""
        style, appearance = _random_hair(rng), self._people.person(rng)
        panorama = self._panorama(rng)
        light = _light(panorama, rng)
        picture = _background(panorama, head.camera, rng)
        xyz_cam = self._place(head, style)
        window = _window(xyz_cam, head.camera)
        if window is not None:
            layer, face = self._layer(xyz_cam, style, appearance, light, head.camera, window)
            left, top, width, height = window
            part = picture[top : top + height, left : left + width]
            part *= 1 - layer[..., 3:]
            part += layer[..., :3]
            # Cameras expose for the picture, not for the skin: dark skin stays darker.
            brightness = float(appearance.skin.mean()) ** 0.6 * rng.uniform(0.3, 0.75)
            picture *= brightness / max(face, 1e-6)
        return _develop(picture, rng), xyz_cam, style

    def _place(self, head: Head, style: HairStyle) -> Tensor:
        """The body's vertices (V, 3) in the camera frame [m]."""
        bare = self.facekit.vertices(head.identity[None], head.expression[None])[0]
        T = torch.from_numpy(head.T_cam_head).to(self._body.xyz)
        xyz_head = self._body.assemble(torch.from_numpy(bare).to(T), style)
        return se3.apply(T, xyz_head)

    def _layer(
        self,
        xyz_cam: Tensor,
        style: HairStyle,
        appearance: Appearance,
        light: Light,
        camera: Camera,
        window: tuple[int, int, int, int],
    ) -> tuple[NDArray[np.float32], float]:
        """Radiance and coverage (height, width, 4) of a window, and the skin's mean radiance."""
        body = self._body
        left, top, width, height = window
        fine = camera.crop(left, top, width, height).resize(width * _SAMPLES, height * _SAMPLES)
        drawn = body.drawn(style)
        triangles, material = body.triangles[drawn], body.material[drawn]
        normals = vertex_normals(xyz_cam, triangles)
        lit = lit_from(light.direction.to(xyz_cam), xyz_cam, triangles, xyz_cam + 0.002 * normals)
        seen = rasterize(xyz_cam[None], triangles, fine.to(xyz_cam.device))
        scalars = torch.stack([body.above_hairline, body.openness, lit], -1)
        attributes = torch.cat([xyz_cam, normals, body.xyz, scalars], -1)
        attributes = seen.interpolate(attributes, triangles)
        point, normal, place, scalars = attributes.split_with_sizes((3, 3, 3, 3), -1)
        above_hairline, openness, lit = scalars.unbind(-1)
        view, normal = F.normalize(-point, dim=-1), F.normalize(normal, dim=-1)
        # Hair is seen from both sides.
        away = (normal * view).sum(-1, keepdim=True).clamp_max(0)
        kind = material[seen.triangle]
        gloss = place.new_tensor(_GLOSS)[kind]
        surface = Surface(
            albedo=self._people.albedo(appearance, kind, place, above_hairline),
            normal=normal - 2 * away * view,
            view=view,
            openness=(0.15 + 1.1 * openness).clamp_max(1),
            lit=lit,
            gloss=torch.where(kind == Material.SKIN, appearance.gloss * gloss, gloss),
            shininess=place.new_tensor(_SHININESS)[kind],
        )
        radiance = shade(surface, light)
        skin = radiance[kind == Material.SKIN]
        layer = radiance.new_zeros(fine.height * fine.width, 4)
        layer[seen.pixel] = F.pad(radiance, (0, 1), value=1.0)
        layer = layer.view(1, fine.height, fine.width, 4).permute(0, 3, 1, 2)
        layer = F.avg_pool2d(layer, _SAMPLES)[0].permute(1, 2, 0)
        return layer.cpu().numpy(), float(skin.mean()) if len(skin) else float(radiance.mean())

    def _panorama(self, rng: np.random.Generator) -> NDArray[np.float32]:
        if self._panoramas is None:
            return smooth_panorama(rng)
        panorama = self._panoramas[rng.integers(len(self._panoramas))]
        return np.roll(panorama, rng.integers(panorama.shape[1]), axis=1)


def _load_panoramas(folder: Path) -> list[NDArray[np.float32]]:
    files = sorted(folder.glob('*.hdr'))
    if not files:
        raise FileNotFoundError(f'{folder}: no .hdr file in this folder')
    return [load_panorama(file) for file in files]


def _random_hair(rng: np.random.Generator) -> HairStyle:
    kind = rng.choice(['bald', 'short', 'full', 'long'], p=[0.15, 0.4, 0.2, 0.25])
    fringe = rng.choice([0.0, rng.uniform(0, 0.02)], p=[0.7, 0.3])
    if kind == 'bald':
        return HairStyle(0.0, 0.0, 0.0)
    if kind == 'short':
        return HairStyle(rng.uniform(0.003, 0.015), fringe, 0.0)
    if kind == 'full':
        return HairStyle(rng.uniform(0.015, 0.045), fringe, 0.0)
    return HairStyle(
        rng.uniform(0.008, 0.025), fringe, rng.uniform(0.05, 0.3), rng.uniform(60, 95)
    )


def _light(panorama: NDArray[np.float32], rng: np.random.Generator) -> Light:
    environment = panorama_harmonics(panorama)
    mean = float(environment[0].mean()) * 0.282095
    lamp = brightest_direction(panorama) + 0.2 * rng.normal(size=3)
    if rng.uniform() < 0.4:  # another one, anywhere above the ground, rather before the face
        lamp = rng.normal(size=3) - (0, 0, 0.5)
        lamp[1] = -abs(lamp[1])
    direction = torch.from_numpy(lamp / np.linalg.norm(lamp)).float()
    strength = mean * rng.choice([0.0, 1.0], p=[0.2, 0.8]) * rng.uniform(0.1, 1.5)
    warmth = torch.from_numpy(np.exp(rng.normal(0, 0.12) * np.array([1.0, 0.0, -1.0]))).float()
    return Light(environment, direction, strength * warmth)


def _background(
    panorama: NDArray[np.float32], camera: Camera, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The environment as the camera sees it, out of focus, (H, W, 3) linear."""
    padded = [
        NODE_SPACING_PX * math.ceil(s / NODE_SPACING_PX) for s in (camera.height, camera.width)
    ]
    nodes = cell_nodes(*padded)
    at_nodes = camera.unproject(nodes.flatten(0, 1)).rays.view(1, *nodes.shape[:2], 3)
    rays = interpolate_nodes(at_nodes)[0, : camera.height, : camera.width].numpy()
    picture = look_up(panorama, rays)
    blur = math.exp(rng.uniform(0, 3.2)) if len(panorama) > 64 else 1.0
    return np.ascontiguousarray(cv2.GaussianBlur(picture, (0, 0), blur))


def _window(xyz_cam: Tensor, camera: Camera) -> tuple[int, int, int, int] | None:
    """Part of the image that the head can touch: left, top, width, height [px]."""
    uv, valid, _ = camera.to(xyz_cam.device).project(xyz_cam.double())
    if not valid.any():
        return None
    low, high = uv[valid].aminmax(dim=0)
    left, top = (max(int(x), 0) for x in low.floor())
    right, bottom = int(high[0].ceil()) + 1, int(high[1].ceil()) + 1
    right, bottom = min(right, camera.width), min(bottom, camera.height)
    if right <= left or bottom <= top:
        return None
    return left, top, right - left, bottom - top


def _develop(linear: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Camera response to linear light: blur, tone curve, sRGB, noise."""
    blurred = cv2.GaussianBlur(linear, (0, 0), rng.uniform(0.3, 0.9))
    shouldered = 1 - np.exp(-1.2 * np.maximum(blurred, 0))
    encoded = to_srgb(torch.from_numpy(shouldered)).numpy()
    noisy = encoded + rng.normal(0, rng.uniform(0, 0.015), encoded.shape).astype(np.float32)
    return (255 * noisy + 0.5).clip(0, 255).astype(np.uint8)
