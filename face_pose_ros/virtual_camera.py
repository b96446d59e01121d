# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Virtual cameras at the centre of a photograph's camera, with other rotations and lenses.

Cameras with the same centre see the same rays, so their images follow exactly from the photograph:
by the homography K1 R K0^-1, or with lens distortion by projecting each pixel's ray. The relative
pose is then known without labels. The photograph's intrinsics are a guess; a wrong guess shears
the face slightly, equally in all views.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import NODE_SPACING_PX

# Typical lenses of robots: barrel distortion of a webcam, and a fisheye.
LENSES: dict[str, tuple[str, tuple[float, ...]]] = {
    'none': ('plumb_bob', ()),
    'plumb_bob': ('plumb_bob', (-0.28, 0.09, 0.0011, -0.0007, -0.012)),
    'equidistant': ('equidistant', (-0.012, 0.021, -0.013, 0.0021)),
}


@dataclass(frozen=True)
class View:
    """Orientation and lens of the virtual camera."""

    R_photo_cam: NDArray[np.float64]  # (3, 3), axes of the virtual camera in the photo's camera
    camera: Camera


def photo_camera(width: int, height: int) -> Camera:
    """Guessed intrinsics of a photograph: f = width + height (as img2pose does)."""
    f = float(width + height)
    K = [f, 0.0, 0.5 * (width - 1), 0.0, f, 0.5 * (height - 1), 0.0, 0.0, 1.0]
    return Camera.from_K(K, width, height)


def look_at(ray: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axes (3, 3) of a camera with its z axis along the ray (3,) and a horizontal x axis."""
    z = ray / np.linalg.norm(ray)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def lens_camera(K: ArrayLike, width: int, height: int, lens: str) -> Camera:
    """Camera with a lens of LENSES."""
    model, dist = LENSES[lens]
    return Camera.from_K(K, width, height, dist, model)


def render_view(
    photo: NDArray[np.uint8], photo_cam: Camera, view: View, supersampling: int = 2
) -> NDArray[np.uint8]:
    """Image of the virtual camera, (H, W, 3) uint8; grey outside the photograph.

    Args:
        photo: (H0, W0, 3) uint8.
        photo_cam: The photograph's camera.
        view: The virtual camera.
        supersampling: Samples per pixel and axis; views reduce the portraits by up to 2.
    """
    camera = view.camera
    # The map is exact at the centres of cells that tile the image and a border, and linear in
    # between: over this distance a lens is linear to 0.01 px.
    us, vs = (
        (np.arange(-1, side // NODE_SPACING_PX + 1) + 0.5) * NODE_SPACING_PX - 0.5
        for side in (camera.width, camera.height)
    )
    rays, valid = camera.unproject(np.stack(np.meshgrid(us, vs), -1))
    uv, in_front, _ = photo_cam.project(rays @ view.R_photo_cam.T)
    uv = np.where((valid & in_front)[..., None], uv, -1e4).astype(np.float32)
    margin = NODE_SPACING_PX * supersampling
    maps = cv2.resize(uv, None, fx=margin, fy=margin, interpolation=cv2.INTER_LINEAR)
    fine = cv2.remap(
        photo,
        maps[margin:-margin, margin:-margin],
        np.empty(0),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(96,) * 3,
    )
    size = camera.width, camera.height
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def spread(T_photo_head: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Deviation of each pose from the mean pose.

    Args:
        T_photo_head: (V, 4, 4) poses of one head in one frame, m.

    Returns:
        Angles (V,) [deg] and offsets (V,) [% of the head's mean distance].
    """
    rotations = Rotation.from_matrix(T_photo_head[:, :3, :3])
    angle = (rotations.mean().inv() * rotations).magnitude()
    t = T_photo_head[:, :3, 3]
    offset = np.linalg.norm(t - t.mean(axis=0), axis=1) / np.linalg.norm(t, axis=1).mean()
    return np.rad2deg(angle), 100 * offset
