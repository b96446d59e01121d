# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What counts as found, and that a detector is judged by it."""

import cv2
import numpy as np
import pytest
from face_pose_lab.evaluation.aflw2000_samples import Sample
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.evaluation.detector_recall import find, is_on, median_ms, recall_lines

from face_pose_ros.results import CoarsePoses, Faces

FACE = np.array([40.0, 50, 60, 70])


@pytest.mark.parametrize(
    ('box', 'found'),
    [
        ((40, 50, 60, 70), True),
        ((36, 40, 66, 70), True),  # up to the hairline: 0.44
        ((30, 30, 70, 70), False),  # twice as large: 0.25
        ((51, 50, 71, 70), False),  # 0.29, and the middle is outside
        ((140, 50, 160, 70), False),
    ],
)
def test_a_box_on_the_face_is_about_as_large_and_holds_its_middle(box, found):
    assert is_on(np.array([box], np.float32), FACE).tolist() == [found]


def sample(folder, yaw_deg, name='a'):
    path = folder / f'{name}.png'
    cv2.imwrite(str(path), np.zeros((100, 120, 3), np.uint8))
    return Sample(name, path, np.array([0.0, yaw_deg, 0.0]), FACE)


def says(boxes, scores):
    def detect(image_rgb, camera):
        assert image_rgb.shape == (100, 120, 3)
        assert (camera.width, camera.height) == (120, 100)
        count = len(scores)
        eye = np.tile(np.eye(6), (count, 1, 1))
        scaled = eye[:, :4, :4] * np.arange(1.0, count + 1)[:, None, None]
        coarse = CoarsePoses(scaled, eye)
        boxes_xyxy = np.reshape(np.array(boxes, np.float32), (-1, 4))
        return Faces(boxes_xyxy, np.array(scores), np.zeros((count, 6, 2)), coarse)

    return detect


def test_the_best_box_on_the_face_counts_and_the_others_are_counted(tmp_path):
    boxes = [[0.0, 0, 20, 20], [40, 50, 60, 70], [41, 50, 61, 70]]
    samples = [sample(tmp_path, 10.0), sample(tmp_path, -70.0, 'b')]
    found = find(says(boxes, [0.9, 0.4, 0.6]), samples)
    assert found.score.tolist() == pytest.approx([0.6, 0.6])
    assert found.R_cam_head[0, 0, 0] == 3  # of the third box
    assert median_ms(says(boxes, [0.9, 0.4, 0.6]), samples) > 0
    assert found.others.tolist() == pytest.approx([0.9, 0.9])
    nothing = find(says([], []), samples)
    assert nothing.score.tolist() == [0, 0]
    lines = recall_lines({'some': found, 'none': nothing}, np.array([10.0, -70.0]))
    assert lines[2].split()[-5:-4] == ['100.0']
    assert float(lines[2].split()[-1]) == 1.0  # one other box in each picture
    assert float(lines[3].split()[-2]) == 0.0  # nobody above 0.7
    assert float(lines[5].split()[-2]) == 0.0


def test_a_missing_image_is_named(tmp_path):
    gone = sample(tmp_path, 0.0)
    gone.path.unlink()
    with pytest.raises(DataError, match=r'a\.png'):
        find(says([], []), [gone])
