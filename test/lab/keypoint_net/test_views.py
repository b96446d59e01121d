# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints and rotations follow the pixels through every move of a crop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from face_pose_lab.keypoint_net.views import Move, moved, upright_square
from scipy.spatial.transform import Rotation

from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.network_output import INPUT_PX, MARGIN
from face_pose_ros.pose.face_model import semantic_head

SIDE_PX, FOCAL_PX = 160, 410.0
MOVES = {
    'none': Move(),
    'flip': Move(flip=True),
    'roll': Move(roll=0.4),
    'zoom': Move(log_scale=0.2),
    'shift': Move(shift=(0.07, -0.05)),
    'all': Move(True, -0.3, -0.15, (-0.04, 0.06)),
}


def head(yaw_deg: float = 25.0, roll_deg: float = 14.0) -> tuple[np.ndarray, np.ndarray]:
    """Pose (4, 4) of a head beside the middle of the picture, and its keypoints (86, 2) px."""
    T = np.eye(4)
    facing = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
    turned = Rotation.from_euler('yz', [yaw_deg, roll_deg], degrees=True).as_matrix()
    T[:3, :3], T[:3, 3] = turned @ facing, (0.03, -0.02, 0.9)
    return T, projected(T, FOCAL_PX, 0.5 * (SIDE_PX - 1))


def projected(T: np.ndarray, focal_px: float, middle: float) -> np.ndarray:
    xyz = semantic_head().xyz_head @ T[:3, :3].T + T[:3, 3]
    return focal_px * xyz[:, :2] / xyz[:, 2:] + middle


def dotted(uv: np.ndarray) -> np.ndarray:
    """A picture with a soft dot at a point (2,)."""
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    away = (columns - uv[0]) ** 2 + (rows - uv[1]) ** 2
    return np.rint(255 * np.exp(-0.5 * away / 2.5**2)).astype(np.uint8)[..., None].repeat(3, 2)


def centroid(picture: np.ndarray) -> np.ndarray:
    weight = picture[..., 0].astype(float)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@pytest.mark.parametrize('move', MOVES.values(), ids=MOVES)
@pytest.mark.parametrize('name', ['eye_outer_right', 'mouth_corner_left'])
def test_keypoints_follow_the_pixels(move: Move, name: str) -> None:
    T, uv = head()
    shown = semantic.NAMES.index(name)
    crop, found, _ = moved(dotted(uv[shown]), uv, T[:3, :3], FOCAL_PX, move)
    expected = found[semantic.MIRROR[shown] if move.flip else shown]
    assert crop.shape == (INPUT_PX, INPUT_PX, 3)
    np.testing.assert_allclose(centroid(crop), expected, atol=0.1)


def test_a_plain_crop_is_upright_centred_and_has_the_margin() -> None:
    T, uv = head()
    _, found, _ = moved(dotted(uv[0]), uv, T[:3, :3], FOCAL_PX, Move())
    roll, middle, side = upright_square(found)
    assert abs(roll) < 1e-6
    np.testing.assert_allclose(middle, 0.5 * (INPUT_PX - 1), atol=1e-6)
    assert side == pytest.approx(INPUT_PX / MARGIN)


@pytest.mark.parametrize('move', MOVES.values(), ids=MOVES)
def test_rotation_is_relative_to_a_camera_that_points_at_the_crops_centre(move: Move) -> None:
    T, uv = head()
    _, found, R = moved(dotted(uv[0]), uv, T[:3, :3], FOCAL_PX, move)
    assert np.linalg.det(R) == pytest.approx(1.0)
    # The head of that rotation, on the axis where the crop shows it, looks as the crop says: only
    # the perspective of a shifted camera differs from that of a turned one, by the shift's square.
    xyz = semantic_head().xyz_head @ R.T
    expected = found[semantic.IS_FACE] - found[semantic.IS_FACE].mean(0)
    xyz_face = xyz[semantic.IS_FACE] - xyz[semantic.IS_FACE].mean(0)
    scale = (expected * xyz_face[:, :2]).sum() / (xyz_face[:, :2] ** 2).sum()
    off = np.abs(scale * xyz_face[:, :2] - expected).max()
    assert off < 0.06 * np.ptp(expected[:, 1])


def test_rotation_of_a_shift_is_exact() -> None:
    T, uv = head(roll_deg=0.0)
    _, _, R_plain = moved(dotted(uv[0]), uv, T[:3, :3], FOCAL_PX, Move())
    move = Move(shift=(0.1, 0.0))
    _, found, R = moved(dotted(uv[0]), uv, T[:3, :3], FOCAL_PX, move)
    roll, middle, side = upright_square(uv)
    zoom = INPUT_PX / (MARGIN * side)

    def ray(shift: float) -> np.ndarray:
        step = np.array([math.cos(roll), math.sin(roll)]) * shift * INPUT_PX / zoom
        return np.append((middle - step - 0.5 * (SIDE_PX - 1)) / FOCAL_PX, 1.0)

    a, b = ray(0.0), ray(0.1)
    angle = math.acos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    turned = Rotation.from_matrix(R @ R_plain.T).magnitude()
    assert turned == pytest.approx(angle, rel=1e-2)
    assert found[:, 0].mean() > 0.5 * INPUT_PX


def test_mirrored_head_turns_the_other_way() -> None:
    T, uv = head(roll_deg=0.0)
    _, _, R = moved(dotted(uv[0]), uv, T[:3, :3], FOCAL_PX, Move())
    _, _, R_mirrored = moved(dotted(uv[0]), uv, T[:3, :3], FOCAL_PX, Move(flip=True))
    np.testing.assert_allclose(
        R_mirrored, np.diag([-1, 1, 1]) @ R @ np.diag([1, -1, 1]), atol=1e-9
    )
