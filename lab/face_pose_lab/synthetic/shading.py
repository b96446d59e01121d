# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Light on skin: a distant environment as spherical harmonics, and one directional light.

Irradiance of a distant environment is a quadratic in the normal to within 1 % (Ramamoorthi and
Hanrahan 2001, "An Efficient Representation for Irradiance Environment Maps"): nine coefficients
per colour stand for a whole panorama. All light is linear RGB; directions are in the camera frame
(x right, y down, z forward).
"""

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

# How far red, green and blue light creeps round the edge of the light, in units of the cosine:
# skin scatters red the most. By eye.
_WRAP = (0.25, 0.10, 0.05)
_SUN_LIMIT = 12.0  # brightest radiance that a panorama keeps, of its mean
_F0 = 0.04  # reflectance of skin, hair and the eye's surface at normal incidence
# cos(theta) convolution of the three bands over pi (Ramamoorthi and Hanrahan, eq. 8).
_BAND_GAIN = (1.0, 2 / 3, 1 / 4)


@dataclass(frozen=True)
class Light:
    """Light of one picture."""

    environment: Tensor  # (9, 3) coefficients of the radiance, linear RGB
    direction: Tensor  # (3,) unit, towards the directional light
    colour: Tensor  # (3,) its irradiance over pi: radiance of a white surface that faces it


@dataclass(frozen=True)
class Surface:
    """P surface points to shade."""

    albedo: Tensor  # (P, 3) in [0, 1], linear RGB
    normal: Tensor  # (P, 3) unit, towards the camera's side
    view: Tensor  # (P, 3) unit, towards the camera
    openness: Tensor  # (P,) share of the environment that the point sees, in [0, 1]
    lit: Tensor  # (P,) share of the directional light that reaches it, in [0, 1]
    gloss: Tensor  # (P,) strength of the highlight; 1 is a clean dielectric
    shininess: Tensor  # (P,) Blinn-Phong exponent


def harmonics(direction: Tensor) -> Tensor:
    """The nine real spherical harmonics up to degree 2, (..., 9), of unit vectors (..., 3).

    Order and signs as in Ramamoorthi and Hanrahan 2001, eq. 3.
    """
    x, y, z = direction.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, 0.282095),
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        -1,
    )


def diffuse(environment: Tensor, normal: Tensor) -> Tensor:
    """Radiance (P, 3) of a white Lambertian surface with normals (P, 3): irradiance over pi."""
    bands = normal.new_tensor([_BAND_GAIN[0]] + [_BAND_GAIN[1]] * 3 + [_BAND_GAIN[2]] * 5)
    return (harmonics(normal) @ (bands[:, None] * environment.to(normal))).clamp_min(0)


def shade(surface: Surface, light: Light) -> Tensor:
    """Radiance (P, 3) that the points send to the camera, linear RGB."""
    colour, towards = light.colour.to(surface.normal), light.direction.to(surface.normal)
    ambient = diffuse(light.environment, surface.normal) * surface.openness[:, None]
    cosine = surface.normal @ towards
    wrap = cosine.new_tensor(_WRAP)
    direct = ((cosine[:, None] + wrap) / (1 + wrap)).clamp_min(0) * surface.lit[:, None]
    matt = surface.albedo * (ambient + colour * direct)

    half = F.normalize(surface.view + towards, dim=-1)
    # Normalised Blinn-Phong with Schlick's Fresnel term (1994).
    fresnel = _F0 + (1 - _F0) * (1 - (half * surface.view).sum(-1).clamp(0, 1)) ** 5
    lobe = (surface.normal * half).sum(-1).clamp_min(0) ** surface.shininess
    highlight = fresnel * lobe * (surface.shininess + 8) / 8 * surface.lit
    highlight = surface.gloss * highlight * cosine.clamp_min(0)
    rim = 0.5 * _F0 * (1 - (surface.normal * surface.view).sum(-1).clamp(0, 1)) ** 3
    return matt + highlight[:, None] * colour + (surface.gloss * rim)[:, None] * ambient


def to_srgb(linear: Tensor) -> Tensor:
    """Linear RGB to sRGB (IEC 61966-2-1), both in [0, 1]."""
    linear = linear.clamp(0, 1)
    bright = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, bright)


def from_srgb(encoded: Tensor) -> Tensor:
    """SRGB to linear RGB, both in [0, 1]."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def load_panorama(path: Path | str, height: int = 512) -> NDArray[np.float32]:
    """Equirectangular environment, (height, 2 height, 3) float32 linear RGB, top row is up.

    Raises:
        FileNotFoundError: There is no such file, or OpenCV can't read it as a picture.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if bgr is None:
        raise FileNotFoundError(f'{path}: no environment map that OpenCV can read')
    small = cv2.resize(bgr, (2 * height, height), interpolation=cv2.INTER_AREA)
    # A naked sun makes nine harmonics ring; it is left to the directional light.
    small = np.minimum(small, _SUN_LIMIT * small.mean())
    return np.ascontiguousarray(small[..., ::-1], dtype=np.float32)


def smooth_panorama(rng: np.random.Generator, height: int = 64) -> NDArray[np.float32]:
    """A made-up environment: sky, ground, and a few soft lamps or windows.

    Returns:
        (height, 2 height, 3) float32 linear RGB, top row is up.
    """
    rays = panorama_rays(height)
    up = -rays[..., 1:2]
    sky, ground = rng.uniform(0.2, 1.0, 3), rng.uniform(0.05, 0.5, 3)
    share = 1 / (1 + np.exp(-up / rng.uniform(0.05, 0.5)))
    picture = share * _tinted(sky, 0.4) + (1 - share) * _tinted(ground, 0.5)
    for _ in range(rng.integers(1, 5)):
        centre = rng.normal(size=3) * (1, 0.6, 1)
        centre /= np.linalg.norm(centre)
        sharpness = math.exp(rng.uniform(0.5, 4))
        lobe = np.exp(sharpness * (rays @ centre - 1))[..., None]
        picture = picture + lobe * _tinted(rng.uniform(0.3, 1.0, 3), 0.6) * rng.exponential(3)
    return picture.astype(np.float32)


def _tinted(colour: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """A colour, pulled towards the grey of its mean."""
    return share * colour + (1 - share) * colour.mean()


def panorama_rays(height: int) -> NDArray[np.float64]:
    """Unit directions (height, 2 height, 3) of a panorama's pixel centres, camera frame."""
    elevation = (0.5 - (np.arange(height) + 0.5) / height)[:, None] * math.pi
    azimuth = ((np.arange(2 * height) + 0.5) / height - 1)[None] * math.pi
    level = np.cos(elevation)
    down = np.broadcast_to(-np.sin(elevation), (height, 2 * height))
    return np.stack([level * np.sin(azimuth), down, level * np.cos(azimuth)], -1)


def look_up(panorama: NDArray[np.float32], rays: NDArray[np.float64]) -> NDArray[np.float32]:
    """Radiance (H, W, 3) that comes from directions (H, W, 3), bilinear."""
    height = len(panorama)
    azimuth = np.arctan2(rays[..., 0], rays[..., 2])
    elevation = np.arcsin(np.clip(-rays[..., 1] / np.linalg.norm(rays, axis=-1), -1, 1))
    u = (azimuth / math.pi + 1) * height - 0.5
    v = (0.5 - elevation / math.pi) * height - 0.5
    picture = cv2.remap(
        panorama,
        u.astype(np.float32),
        np.clip(v, 0, height - 1).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    return picture.astype(np.float32, copy=False)


def panorama_harmonics(panorama: NDArray[np.float32]) -> Tensor:
    """Coefficients (9, 3) of a panorama: the integral of radiance times harmonics."""
    height = 64
    small = cv2.resize(panorama, (2 * height, height), interpolation=cv2.INTER_AREA)
    rays = panorama_rays(height)
    solid_angle = np.sqrt(1 - rays[..., 1] ** 2)
    solid_angle *= 4 * math.pi / solid_angle.sum()
    basis = harmonics(torch.from_numpy(rays)).numpy()
    return torch.from_numpy(np.einsum('hwi,hwc,hw->ic', basis, small, solid_angle)).float()


def brightest_direction(panorama: NDArray[np.float32]) -> NDArray[np.float64]:
    """Unit direction (3,) from which most light comes within about 10 deg."""
    height = 64
    luminance = cv2.resize(panorama, (2 * height, height), interpolation=cv2.INTER_AREA).mean(-1)
    rays = panorama_rays(height)
    luminance = luminance * np.sqrt(1 - rays[..., 1] ** 2)
    soft = cv2.GaussianBlur(np.tile(luminance, (1, 3)), (0, 0), 3)[:, 2 * height : 4 * height]
    best = np.unravel_index(soft.argmax(), soft.shape)
    return np.asarray(rays[best])
