# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""tools/calibrate_camera.py with photographs of a drawn chessboard."""

import cv2
import numpy as np
import pytest

from face_pose_ros.calibration import load_calibration
from tools.calibrate_camera import main

K = np.array([[611.0, 0, 322.9], [0, 598.0, 228.4], [0, 0, 1]])
WIDTH, HEIGHT, SQUARE_PX = 640, 480, 40
TILTS = [(0.4, 0, 0), (-0.4, 0.1, 0.2), (0, 0.5, -0.1), (0.1, -0.5, 0), (0.3, 0.3, 0.3)]


@pytest.fixture
def photographs(tmp_path):
    """Five views of a board with 8 x 6 inner corners and squares of 25 mm, by a pinhole."""
    squares = np.indices((7, 9)).sum(0) % 2
    board = np.full((9 * SQUARE_PX, 11 * SQUARE_PX), 255, np.uint8)
    board[SQUARE_PX:-SQUARE_PX, SQUARE_PX:-SQUARE_PX] = np.kron(
        np.where(squares, 255, 0), np.ones((SQUARE_PX, SQUARE_PX))
    )
    # Pixel centres; the origin is the middle of the board.
    m_per_px = 0.025 / SQUARE_PX
    middle = (np.array(board.shape[::-1]) - 1) / 2
    to_metres = np.array(
        [[m_per_px, 0, -m_per_px * middle[0]], [0, m_per_px, -m_per_px * middle[1]], [0, 0, 1]]
    )
    folder = tmp_path / 'photographs'
    folder.mkdir()
    for i, tilt in enumerate(TILTS):
        R = cv2.Rodrigues(np.array(tilt, float))[0]
        t = np.array([0.01 * i, -0.01, 0.42])
        H = K @ np.column_stack([R[:, 0], R[:, 1], t]) @ to_metres
        view = cv2.warpPerspective(board, H, (WIDTH, HEIGHT), borderValue=(200.0,))
        cv2.imwrite(str(folder / f'{i}.png'), view)
    return folder


def test_the_written_file_has_the_intrinsics_of_the_camera(photographs, tmp_path):
    main([str(photographs), '--square', '0.025', '--out', str(tmp_path / 'camera.yaml')])

    found = load_calibration(tmp_path / 'camera.yaml')

    assert (found.width, found.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(np.reshape(found.k, (3, 3)), K, atol=5.0)
    assert abs(found.d[0]) < 0.05


def test_photographs_without_a_board_end_with_one_line(photographs, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([str(photographs), '--size', '7x5', '--square', '0.025'])

    assert end.value.code == 1
    assert 'show a board with 7 x 5 inner corners' in capsys.readouterr().err


def test_photographs_of_different_sizes_end_with_one_line(photographs, capsys):
    cv2.imwrite(str(photographs / '9.png'), np.zeros((100, 200), np.uint8))

    with pytest.raises(SystemExit) as end:
        main([str(photographs), '--square', '0.025'])

    assert end.value.code == 1
    assert '9.png has 200 x 100 px, expected 640 x 480 px' in capsys.readouterr().err


def test_a_board_that_was_not_turned_ends_with_one_line(photographs, tmp_path, capsys):
    # One orientation of a plane does not determine the focal length, however small the error is.
    for path in photographs.iterdir():
        path.write_bytes((photographs / '3.png').read_bytes())

    with pytest.raises(SystemExit) as end:
        main([str(photographs), '--square', '0.025', '--out', str(tmp_path / 'camera.yaml')])

    assert end.value.code == 1
    assert 'tilts differ by 0 deg at most, expected 10 deg or more' in capsys.readouterr().err
    assert not (tmp_path / 'camera.yaml').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--square', '0'], 'square: 0 is not above 0'),
        (['--square', '-0.025'], 'square: -0.025 is not above 0'),
        (['--square', '0.025', '--size', '2x6'], '2x6 is not like 8x6, with 3 or more'),
        (['--square', '0.025', '--out', 'nowhere/camera.yaml'], 'no folder nowhere'),
    ],
)
def test_bad_arguments_end_at_once_with_one_line(photographs, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        main([str(photographs), *arguments])

    assert end.value.code
    said = capsys.readouterr()
    assert message in said.err
    assert 'board found' not in said.out
