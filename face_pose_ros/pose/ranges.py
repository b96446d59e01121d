# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a depth image measures of one face: ranges to points of its surface; compiled.

The points are read where the fitted head shows them, each as the median of a few pixels, with the
standard deviation

    sigma^2 = (noise z^2)^2 + SURFACE_M^2 + (SIDEWAYS_M tan(angle))^2:

stereo's noise grows with the square of the depth; the model's surface is not the person's own; and
a point that lies beside the measured one differs in range by the surface's angle to the ray.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from face_pose_ros.geometry.jit import inner
from face_pose_ros.geometry.lens import project, unproject
from face_pose_ros.options import KERNELS
from face_pose_ros.pose.face_model import FaceModel, deformable_face
from face_pose_ros.pose.lm import Ranges, lower_median
from face_pose_ros.pose.robust import robust_kernel

SURFACE_POINTS = 96  # spread evenly over the skin
MIN_COS = 0.35  # a surface at more than 70 deg to the ray is too uncertain to be read
MIN_RANGES = 12  # fewer points that agree say too little of where the face is
MIN_AGREEING = 0.4  # of the points with a depth: below it, something else than the face is seen
# Of a head by its keypoints, babies included, relative to the mean adult's: beyond them, the depth
# is not that of this face.
MIN_SIZE, MAX_SIZE = 0.5, 1.35
SURFACE_M = 0.003
SIDEWAYS_M = 0.002
# All ranges of a face are off together: by what its surface differs from the model's on the whole;
# by hair or a hand in front, some of which agrees with the face where much of it does not; and by
# the depth camera's own bias, which grows with the square of the depth.
COMMON_M = 0.001
COVERED_M = 0.02  # times the ratio of the points that do not agree to those that do
AGREEING_SIGMAS = 3.0
_GEMAN_MCCLURE = KERNELS.index('geman_mcclure')

# Of Face Mesh's points: eyes and lips move, and eyeballs and teeth are no skin.
_EYES_AND_LIPS = (
    *(33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    *(263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
)


class RangeNoise(NamedTuple):
    """How a depth camera errs."""

    noise_per_m: float  # standard deviation of a pixel's depth z: this times z^2 [m]
    bias_per_m: float  # likewise of all pixels of a face together


def surface_of(model: FaceModel) -> FaceModel:
    """The skin's surface, with the modes of a model whose coefficients mean the same."""
    face = _surface()
    modes = np.zeros((len(model.mode_names), *face.xyz_head.shape))
    for m, name in enumerate(model.mode_names):
        if name in face.mode_names:
            modes[m] = face.modes[face.mode_names.index(name)]
    return replace(face, modes=modes, mode_names=model.mode_names)


@lru_cache(maxsize=1)
def _surface() -> FaceModel:
    """The deformable face at SURFACE_POINTS points of its skin, each far from all before it."""
    face = deformable_face()
    xyz = face.xyz_head
    nearest = np.linalg.norm(xyz - xyz.mean(0), axis=1).max() * np.ones(len(xyz))
    nearest[list(_EYES_AND_LIPS)] = 0
    chosen = [4]  # the tip of the nose
    for _ in range(SURFACE_POINTS - 1):
        nearest = np.minimum(nearest, np.linalg.norm(xyz - xyz[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    return face.at(chosen)


@inner
def read_ranges(T, c, size, size_sigma, surface, depth, noise, evidence):
    """The measured ranges of one face, and which size of it they agree on.

    Args:
        T: (3, 4) pose of the head of mean size.
        c: (C,) shape.
        size: What is expected of its size, relative.
        size_sigma: See `Ranges`.
        surface: `Points` of its skin.
        depth: `DepthView`.
        noise: `RangeNoise`.
        evidence: (4,) see `HeadPoses.depth`, written.

    Returns:
        `Ranges`, and the size; that is 0 where the ranges are not those of this face.
    """
    modes, count = surface.modes, surface.xyz_head.shape[1]
    xyz, a, sigma = np.empty((3, count)), np.zeros((3, count)), np.zeros(count)
    for i in range(3):
        for k in range(count):
            xyz[i, k] = surface.xyz_head[i, k]
    for m in range(len(modes)):
        for i in range(3):
            for k in range(count):
                xyz[i, k] += c[1 + m] * modes[m, i, k]
    rho = np.zeros(count)
    # A depth camera beside the picture's sees the face elsewhere if its size is not as expected.
    beside = (
        depth.t_depth_cam[0] ** 2 + depth.t_depth_cam[1] ** 2 + depth.t_depth_cam[2] ** 2 > 1e-8
    )
    found, visible, measured, agreeing = size, 0, 0, 0
    for _ in range(3 if beside else 1):
        visible = _read(T, xyz, found, surface.normals, depth, noise, a, rho, sigma)
        last, (found, measured, agreeing) = found, _agreed_size(T, xyz, a, rho, sigma)
        if abs(found - last) < 0.01 * last:
            break
    used, precision, z = 0, 0.0, 0.0
    for k in range(count):
        if sigma[k] > 0:
            used += 1
            precision += 1 / (sigma[k] * sigma[k])
            z += rho[k]
            for i in range(3):
                a[i, k] /= sigma[k]
            rho[k] /= sigma[k]
        else:
            a[0, k] = a[1, k] = a[2, k] = rho[k] = 0.0
    z /= max(used, 1)
    evidence[0], evidence[1], evidence[2], evidence[3] = visible, measured, agreeing, found / size
    if agreeing < max(MIN_RANGES, MIN_AGREEING * measured) or not MIN_SIZE < found < MAX_SIZE:
        found = evidence[2] = 0.0
    covered = COVERED_M * (measured - agreeing) / max(agreeing, 1)
    common = COMMON_M * COMMON_M + covered * covered + (noise.bias_per_m * z * z) ** 2
    return Ranges(surface, a, rho, size_sigma, 1 / (1 + common * precision)), found


@inner
def _read(T, xyz, size, normals, depth, noise, a, rho, sigma):
    """Planes a . p = rho of the points [m], sigma 0 where not measured; how many are visible."""
    R, t, lens, count = depth.R_depth_cam, depth.t_depth_cam, depth.lens, len(rho)
    in_mm = depth.z_mm.shape[0] > 0
    height, width = depth.z_mm.shape if in_mm else depth.z_m.shape
    p, n, uv = np.empty((3, count)), np.empty((3, count)), np.empty((2, count))
    for k in range(count):
        for i in range(3):
            p[i, k], n[i, k] = t[i], 0.0
        for j in range(3):
            point, normal = T[j, 3], 0.0
            for m in range(3):
                point += T[j, m] * xyz[m, k]
                normal += T[j, m] * normals[m, k]
            for i in range(3):
                p[i, k] += R[i, j] * size * point
                n[i, k] += R[i, j] * normal
    image = p.copy()
    project(lens, image)
    usable, visible = np.zeros(count, dtype=np.bool_), 0
    for k in range(count):
        away = n[0, k] * p[0, k] + n[1, k] * p[1, k] + n[2, k] * p[2, k]
        distance = math.sqrt(p[0, k] * p[0, k] + p[1, k] * p[1, k] + p[2, k] * p[2, k])
        uv[0, k], uv[1, k] = math.floor(image[0, k] + 0.5), math.floor(image[1, k] + 0.5)
        if -away > MIN_COS * distance and image[2, k] > 0:
            usable[k] = 1 <= uv[0, k] < width - 1 and 1 <= uv[1, k] < height - 1
            visible += 1 if usable[k] else 0
    rays = np.empty((3, count))
    unproject(lens, uv, rays, np.empty((2, 3, count)), usable)
    window = np.empty(9)
    for k in range(count):
        sigma[k] = rho[k] = 0.0
        for i in range(3):
            a[i, k] = 0.0
        cos = -(n[0, k] * rays[0, k] + n[1, k] * rays[1, k] + n[2, k] * rays[2, k])
        if not (usable[k] and cos > 0.5 * MIN_COS and rays[2, k] > 0.05):
            continue
        column, row, valid = int(uv[0, k]), int(uv[1, k]), 0
        for v in range(row - 1, row + 2):
            for u in range(column - 1, column + 2):
                z = 1e-3 * depth.z_mm[v, u] if in_mm else float(depth.z_m[v, u])
                if 0 < z < np.inf:
                    window[valid] = z
                    valid += 1
        if valid < 5:
            continue
        z = lower_median(window, valid)
        spread = noise.noise_per_m * z * z
        tan_sq = (1 - cos * cos) / (cos * cos)
        sigma[k] = math.sqrt(
            spread * spread + SURFACE_M * SURFACE_M + SIDEWAYS_M * SIDEWAYS_M * tan_sq
        )
        # Back in the picture's camera: a . (R p + t) = rho is (R^T a) . p = rho - a . t.
        rho[k] = z / rays[2, k]
        for i in range(3):
            of_depth = -n[i, k] / cos
            rho[k] -= of_depth * t[i]
            for j in range(3):
                a[j, k] += R[i, j] * of_depth
    return visible


@inner
def _agreed_size(T, xyz, a, rho, sigma):
    """The size on which most of the ranges agree, how many there are, and how many agree.

    Each range proposes a size; a possible one is preferred. Ranges that do not agree with the best
    one are dropped: sigma 0.
    """
    count = len(rho)
    along = np.zeros(count)
    for k in range(count):
        for i in range(3):
            p = T[i, 3]
            for j in range(3):
                p += T[i, j] * xyz[j, k]
            along[k] += a[i, k] * p
    best, least = 0.0, np.inf
    for k in range(count):
        if not (sigma[k] > 0 and along[k] > 0):
            continue
        size = rho[k] / along[k]
        cost = 0.0 if MIN_SIZE < size < MAX_SIZE else count * AGREEING_SIGMAS * AGREEING_SIGMAS
        for i in range(count):
            if sigma[i] > 0:
                r = (size * along[i] - rho[i]) / sigma[i]
                value, _, _ = robust_kernel(_GEMAN_MCCLURE, AGREEING_SIGMAS, r * r)
                cost += value
        if cost < least:
            best, least = size, cost
    measured, agreeing = 0, 0
    for i in range(count):
        if sigma[i] > 0:
            measured += 1
            if abs(best * along[i] - rho[i]) < AGREEING_SIGMAS * sigma[i]:
                agreeing += 1
            else:
                sigma[i] = 0.0
    return best, measured, agreeing
