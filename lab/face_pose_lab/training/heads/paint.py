# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Hair density on the skin, in [0, 1], as a function of the place on the mean head."""

from __future__ import annotations

import numpy as np
import torch

from face_pose_lab.synthetic.body import hairline
from face_pose_lab.training.heads.mesh import Floats

_EAR_X, _EAR_Y, _EAR_Z = (-0.135, -0.06), 0.0735, (-0.06, 0.008)  # m, |y| from here on


def beard(xyz: Floats) -> Floats:
    """Moustache, cheeks and jaw (V,) of places (V, 3) [m] in the head frame."""
    x, y, z = xyz.T
    side = np.abs(y)
    cheek = -0.062 - 0.35 * side + 0.9 * np.maximum(side - 0.042, 0)
    jaw = _step((cheek - z) / 0.008) * _step((z + 0.135) / 0.012) * _step((x + 0.095) / 0.01)
    moustache = np.exp(-((y / 0.03) ** 4) - ((z + 0.062) / 0.0065) ** 4) * (x > -0.03)
    lips = np.exp(-((y / 0.025) ** 4) - ((z + 0.0765) / 0.0105) ** 4)
    return (np.maximum(jaw, moustache) * (1 - lips)).astype(np.float32)


def scalp(xyz: Floats) -> Floats:
    """Skin under the hair (V,) of places (V, 3) [m] in the head frame."""
    above = hairline(torch.from_numpy(np.ascontiguousarray(xyz, np.float32))).numpy()
    return (_step((above + 0.004) / 0.012) * ~on_ear(xyz)).astype(np.float32)


def on_ear(xyz: Floats) -> Floats:
    """Mask (V,) of the places (V, 3) [m] on an ear."""
    x, y, z = xyz.T
    inside = (x > _EAR_X[0]) & (x < _EAR_X[1]) & (z > _EAR_Z[0]) & (z < _EAR_Z[1])
    return inside & (np.abs(y) > _EAR_Y)


def _step(t: Floats) -> Floats:
    """0 up to t = 0, 1 from t = 1 on, smooth between."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)
