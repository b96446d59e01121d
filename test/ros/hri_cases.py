# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cases that test_hri.py runs in a process with hri_msgs."""

import dataclasses

import cv2
import numpy as np
import pytest
from hri_msgs.msg import FacialLandmarks, IdsList, NormalizedRegionOfInterest2D
from hri_robot import Robot
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from face_pose_ros.ros import hri

SELLION, MENTON, RIGHT_PUPIL, LEFT_PUPIL = 27, 8, 68, 69
KINDS = {
    'roi': NormalizedRegionOfInterest2D,
    'landmarks': FacialLandmarks,
    'cropped': Image,
}


class Listener(Robot):
    """Listens to the list of faces, and as consumers do, to the topics of those it names."""

    def __init__(self, ros, names=tuple(KINDS)):
        super().__init__(ros)
        self.names = names
        self.tracked = []
        self.of_faces = {}
        self.robot.create_subscription(IdsList, '/humans/faces/tracked', self.on_tracked, 10)
        ros.wait_for(lambda: self.robot.count_publishers('/humans/faces/tracked') == 1)

    def on_tracked(self, msg):
        self.tracked.append(msg)
        for face_id in set(msg.ids) - self.of_faces.keys():
            self.of_faces[face_id] = {name: [] for name in self.names}
            for name in self.names:
                self.robot.create_subscription(
                    KINDS[name],
                    f'/humans/faces/{face_id}/{name}',
                    self.of_faces[face_id][name].append,
                    10,
                )

    def show_and_list(self, rgb, after_s=1):
        answer = self.show(rgb, after_s)
        self.ros.wait_for(lambda: any(msg.header == self.header for msg in self.tracked))
        return answer, next(msg.ids for msg in self.tracked if msg.header == self.header)

    def publishers_of(self, face_id):
        topics = [f'/humans/faces/{face_id}/{name}' for name in KINDS]
        return [self.robot.count_publishers(topic) for topic in topics]

    def show_until_received(self, rgb):
        """The last answer, and the messages of each of its faces about the same picture."""

        def received():
            self.answer = self.show(rgb)
            return self.of_faces and all(all(of.values()) for of in self.of_faces.values())

        self.ros.wait_for(received)
        header, of_faces = self.header, self.of_faces
        self.ros.wait_for(
            lambda: all(m[-1].header == header for of in of_faces.values() for m in of.values())
        )
        return self.answer, {
            face_id: {name: messages[-1] for name, messages in of.items()}
            for face_id, of in of_faces.items()
        }


def test_two_people_are_listed_and_shown(ros):
    robot = Listener(ros)
    answer, of_faces = robot.show_until_received(robot.two_people)
    assert robot.tracked[-1].header == robot.header
    assert robot.tracked[-1].ids == ['f00001', 'f00002']
    assert {face.id for face in answer.faces} == {'f00001', 'f00002'}
    size = np.array([answer.camera.width, answer.camera.height])
    for face in answer.faces:
        roi, landmarks, cropped = (of_faces[face.id][name] for name in KINDS)
        corners = np.array([[roi.xmin, roi.ymin], [roi.xmax, roi.ymax]])
        box = face.box_xyxy.reshape(2, 2)
        np.testing.assert_allclose(corners * size - 0.5, box, atol=1e-3)
        assert roi.c == pytest.approx(face.score)

        assert (landmarks.width, landmarks.height) == tuple(size)
        assert len(landmarks.landmarks) == 70
        uv = np.array([[p.x, p.y] for p in landmarks.landmarks]) * size - 0.5
        np.testing.assert_allclose(
            uv[[MENTON, RIGHT_PUPIL, LEFT_PUPIL]], face.keypoints_uv[[152, 468, 473]], atol=1e-3
        )
        # The head's origin is the sellion: the pose has its position too.
        height_px = np.ptp(box[:, 1])
        off_px = uv[SELLION] - answer.camera.project(face.position).uv
        assert np.linalg.norm(off_px) < 0.03 * height_px
        np.testing.assert_allclose([p.c for p in landmarks.landmarks], face.score, atol=1e-6)

        assert (cropped.width, cropped.height, cropped.encoding) == (128, 128, 'bgr8')
        crop = np.frombuffer(cropped.data, np.uint8).reshape(128, 128, 3)[..., ::-1]
        left, top, right, bottom = face.box_xyxy.round().astype(int)
        part = robot.two_people[top : bottom + 1, left : right + 1]
        width = round(128 * part.shape[1] / part.shape[0])
        bar = (128 - width) // 2
        assert not crop[:, :bar].any()
        assert not crop[:, bar + width :].any()
        small, expected = (
            cv2.resize(picture, (24, 32), interpolation=cv2.INTER_AREA).astype(int)
            for picture in (crop[:, bar : bar + width], part)
        )
        assert np.abs(small - expected).mean() < 2


def test_landmarks_and_crops_are_computed_only_for_subscribers(ros, monkeypatch):
    robot = Listener(ros, names=['roi'])
    made = []
    for function in ('cropped_msg', 'landmarks_msg'):
        make = getattr(hri, function)
        monkeypatch.setattr(
            hri, function, lambda *args, make=make: made.append(make) or make(*args)
        )
    robot.show_until_received(robot.two_people)
    assert made == []
    robot.robot.create_subscription(Image, '/humans/faces/f00001/cropped', lambda _: None, 1)

    def looked():
        robot.show(robot.two_people)
        return made

    ros.wait_for(looked)
    assert {make.__name__ for make in made} == {'cropped_msg'}


def test_faces_that_leave_are_withdrawn(ros):
    robot = Listener(ros)
    robot.show_until_received(robot.two_people)
    assert robot.publishers_of('f00001') == [1, 1, 1]
    robot.node.set_parameters([Parameter('tracking.lost_after_s', value=5.0)])
    answer, ids = robot.show_and_list(robot.no_people)
    assert answer.faces == []
    assert ids == ['f00001', 'f00002']  # not visible, but tracks have not ended
    assert robot.of_faces['f00001']['roi'][-1].header != robot.header
    answer, ids = robot.show_and_list(robot.no_people, after_s=10)
    assert ids == []
    for face_id in ('f00001', 'f00002'):
        ros.wait_for(lambda face_id=face_id: robot.publishers_of(face_id) == [0, 0, 0])
    answer, ids = robot.show_and_list(robot.no_people)
    assert ids == []  # the list goes on


def test_an_inactive_node_publishes_an_empty_list(ros):
    robot = Listener(ros)
    robot.show_and_list(robot.two_people)
    assert robot.tracked[-1].ids
    robot.node.trigger_deactivate()
    ros.wait_for(lambda: robot.tracked[-1].ids == [])
    assert robot.tracked[-1].header == robot.header
    ros.wait_for(lambda: robot.publishers_of('f00001') == [0, 0, 0])
    robot.node.trigger_cleanup()
    ros.wait_for(lambda: robot.robot.count_publishers('/humans/faces/tracked') == 0)


def test_what_lies_beyond_the_image_is_marked(ros):
    robot = Robot(ros)
    answer = robot.show(robot.two_people)
    face, camera = answer.faces[0], answer.camera
    middle = face.keypoints_uv[168] + 0.5
    moved = dataclasses.replace(
        face,
        keypoints_uv=face.keypoints_uv - middle,  # its upper and its right half are outside
        box_xyxy=face.box_xyxy - np.tile(middle, 2),
    )
    roi = hri.roi_msg(moved, camera, robot.header)
    assert (roi.xmin, roi.ymin) == (0, 0)
    assert 0 < roi.xmax < 1
    assert 0 < roi.ymax < 1
    points = hri.landmarks_msg(moved, camera, robot.header).landmarks
    assert all(0 <= v <= 1 for p in points for v in (p.x, p.y))
    assert (points[RIGHT_PUPIL].x, points[RIGHT_PUPIL].c) == (0, 0)
    assert points[0].c == 0
    assert points[16].c == pytest.approx(face.score)
    crop = hri.crop_face(answer.rgb, moved.box_xyxy)
    assert crop.any()
    for away in ([-400, -400, -300, -300], [-200, 0, -100, 999]):
        assert hri.crop_face(answer.rgb, np.array(away, float)).shape == (128, 128, 3)
