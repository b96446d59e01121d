# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Mirror partners of Face Mesh's points, and the size of its crop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.weights import load_weights

CROP_SIZE_PX = 256
# Mirror partners of points 468 to 477: centre of the right iris and its four sides, then the left.
_IRIS_PARTNERS = (473, 476, 475, 474, 477, 468, 471, 470, 469, 472)


def mirror_partners() -> NDArray[np.int64]:
    """(478,) which point of a face in a mirror is which of the face itself."""
    surface = load_weights('face_model')['mirror'].astype(np.int64)
    return np.concatenate([surface, _IRIS_PARTNERS])
