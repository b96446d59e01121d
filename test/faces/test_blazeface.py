# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The half pixels of BlazeFace's output."""

import numpy as np

from face_pose_ros.faces.blazeface import decode_proposals


def test_decoding_puts_the_first_cell_half_a_pixel_inside_the_corner():
    # Cell (row 0, column 0) covers pixels 0..3: its centre lies between pixels 1 and 2.
    boxes, points = decode_proposals(np.zeros((1, 16), np.float32), np.array([0]), grid_width=7)
    assert boxes.tolist() == [[1.5, 1.5, 1.5, 1.5]]
    assert points[0].tolist() == [[1.5, 1.5]] * 6


def test_decoding_with_asymmetric_numbers():
    raw = np.arange(1, 17, dtype=np.float32)[None]  # centre +1 +2, size 3 4, points (5, 6) ...
    # grid of 7 columns: cell 16 is row 2, column 2; its centre is pixel 4 * 2 + 1.5 = 9.5
    boxes, points = decode_proposals(raw, np.array([16]), grid_width=7)
    assert boxes.tolist() == [[10.5 - 1.5, 11.5 - 2, 10.5 + 1.5, 11.5 + 2]]
    assert points[0, 0].tolist() == [14.5, 15.5]
    assert points[0, 5].tolist() == [24.5, 25.5]
    # cell 19 is row 2, column 5
    boxes, _ = decode_proposals(raw, np.array([19]), grid_width=7)
    assert boxes[0, 0] == 22.5 - 1.5
