# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Associates measured heads with tracks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core

Array = NDArray[np.float64]


def associate(
    T_known: Sequence[Array],
    covariance_known: Sequence[Array],
    identity_known: Sequence[Array],
    T_measured: Sequence[Array],
    covariance: Sequence[Array],
    identity: Sequence[Array],
    pose_of_identity: Sequence[Array],
    gate_m: float,
) -> dict[int, int]:
    """The most likely pairs of measured heads and tracks, in a joint assignment.

    The likelihood of a pair is that of the measured pose under the predicted one, N(y; 0, S); that
    of an unpaired head is the one of a new head. The sum of the logarithms is maximal over all
    assignments (Kuhn-Munkres). The determinant of S counts for the position: the uncertain
    prediction of a lost head must not win against a certain one. It does not count for the
    rotation, which is unknown for new heads too.

    Args:
        T_known: M predicted poses (4, 4).
        covariance_known: (6, 6) each.
        identity_known: (I,) each, identity coefficients for which they hold.
        T_measured: N measured poses (4, 4).
        covariance: (6, 6) each.
        identity: (I,) each, identity coefficients for which these hold.
        pose_of_identity: (6, I) each, their derivatives: poses are compared for the known
            identity.
        gate_m: Largest distance from the prediction across the line of sight.

    Returns:
        Row of each associated measured head -> row of its track.
    """
    return _core.associate(
        T_known,
        covariance_known,
        identity_known,
        T_measured,
        covariance,
        identity,
        pose_of_identity,
        gate_m,
    )
