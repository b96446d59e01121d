# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random light and background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from face_pose_lab.synthetic.shading import (
    brightest_direction,
    load_panorama,
    panorama_harmonics,
)
from face_pose_lab.training.heads.assets import Assets
from face_pose_lab.training.heads.mesh import Floats
from face_pose_lab.training.heads.renderer import Renderer
from face_pose_lab.training.heads.staging import Light

Rng = np.random.Generator
_FLAT = 'flat picture'  # texture of the last made-up background
_FLAT_PX = 96
_PANORAMA_PX = 512  # height
# cos(theta) convolution of the three bands over pi (Ramamoorthi and Hanrahan 2001, eq. 8).
_BAND_GAIN = np.array([1.0] + [2 / 3] * 3 + [1 / 4] * 5)[:, None]


class Environments:
    """The environment maps of a split, scaled to a mean radiance of 1.

    Attributes:
        names: their textures in the renderer.
        harmonics: (9, 3) of each one's irradiance over pi.
    """

    def __init__(self, assets: Assets, renderer: Renderer) -> None:
        self._renderer = renderer
        self.names: list[str] = []
        self.harmonics: list[Floats] = []
        self._lamps: list[NDArray[np.float64]] = []
        for name, path in assets.pictures['hdri'].items():
            panorama = load_panorama(path, _PANORAMA_PX)
            panorama /= panorama.mean()
            renderer.add_texture(f'hdri/{name}', panorama)
            self.names.append(f'hdri/{name}')
            harmonics = panorama_harmonics(panorama).numpy() * _BAND_GAIN
            self.harmonics.append(harmonics.astype(np.float32))
            self._lamps.append(brightest_direction(panorama))

    def light(self, skin: tuple[float, float, float], sharp: float, rng: Rng) -> Light:
        """Light for a picture.

        Args:
            skin: Mean albedo, for the exposure.
            sharp: Mip level at which the panorama has about the picture's resolution.
            rng: Source of random numbers.
        """
        number = int(rng.integers(len(self.names)))
        tilt = rng.normal(0, 12) if rng.uniform() < 0.8 else rng.uniform(-60, 60)
        roll = rng.normal(0, 10)
        R = Rotation.from_euler('yxz', [rng.uniform(-180, 180), tilt, roll], degrees=True)
        R_env_cam = R.as_matrix()
        grey = rng.uniform(0, 0.7)
        harmonics = self.harmonics[number] * rng.uniform(0.4, 1.0)
        harmonics = (1 - grey) * harmonics + grey * harmonics.mean(1, keepdims=True)
        lamp = R_env_cam.T @ self._lamps[number] + 0.15 * rng.normal(size=3)
        if rng.uniform() < 0.45:  # another one: mostly above, rather before the face
            lamp = rng.normal(size=3) * (1, 0.8, 0.7) - (0, 0.5, 0.5)
        lamp /= np.linalg.norm(lamp)
        strength = rng.choice(
            [0.0, rng.uniform(0.2, 1.2), rng.uniform(1.2, 3.0)], p=[0.25, 0.5, 0.25]
        )
        warmth = np.exp(rng.normal(0, 0.12) * np.array([1, 0, -1.0]) + rng.normal(0, 0.04, 3))
        ambient = float(harmonics[0].mean()) * 0.282095
        # Cameras expose for the picture, not for the skin: dark skin stays darker.
        exposure = 1.15 * max(float(np.mean(skin)), 0.02) ** -0.55 / (ambient + 0.6 * strength)
        exposure *= np.exp(rng.normal(0, 0.3))
        is_flat = rng.uniform() < 0.3
        if is_flat:
            self._renderer.add_texture(_FLAT, made_up(rng), repeat=False)
        blur = abs(rng.normal(0, 1.5)) if rng.uniform() < 0.7 else rng.uniform(0, 4)
        return Light(
            harmonics=harmonics.astype(np.float32),
            R_env_cam=R_env_cam,
            lamp=lamp,
            lamp_colour=strength * warmth,
            shadows=bool(strength > 0 and rng.uniform() < 0.65),
            exposure=float(exposure),
            environment=_FLAT if is_flat else self.names[number],
            background_exposure=float(np.exp(rng.normal(-0.1, 0.6))),
            is_flat=bool(is_flat),
            blur=float(blur if is_flat else max(sharp, 0) + blur),
        )


def made_up(rng: Rng) -> NDArray[np.uint8]:
    """A background (S, S, 3) uint8: a plain wall, a gradient, noise, or shapes like furniture."""
    side = _FLAT_PX
    kind = rng.choice(['plain', 'gradient', 'noise', 'shapes'], p=[0.2, 0.2, 0.2, 0.4])
    base = rng.uniform(0, 255, 3)
    if kind == 'plain':
        return np.full((side, side, 3), base, np.uint8)
    line = np.linspace(0, 1, side)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = 0.5 + 0.5 * ((line - 0.5) * np.cos(angle) + (line[:, None] - 0.5) * np.sin(angle))
    picture = base + ramp[..., None] * (rng.uniform(0, 255, 3) - base)
    if kind == 'noise':
        cells = int(rng.integers(3, 40))
        noise = rng.normal(0, rng.uniform(5, 60), (cells, cells, 3)).astype(np.float32)
        picture = picture + cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    picture = np.ascontiguousarray(picture.clip(0, 255), np.uint8)
    if kind == 'shapes':
        for _ in range(rng.integers(3, 18)):
            a, b = (tuple(int(x) for x in rng.integers(-10, side + 10, 2)) for _ in 'ab')
            colour = tuple(float(x) for x in rng.uniform(0, 255, 3))
            width = int(rng.choice([-1, 1, 2, 5]))
            if rng.uniform() < 0.5:
                cv2.rectangle(picture, a, b, colour, width)
            else:
                cv2.circle(picture, a, int(rng.integers(2, side // 3)), colour, width)
    return picture


def panorama_level(focal_px: float) -> float:
    """Mip level of the panoramas whose texels are as wide as pixels of a camera."""
    texel = np.pi / _PANORAMA_PX
    return float(np.log2(max(1 / (focal_px * texel), 1e-3)))
