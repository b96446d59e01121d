# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""who_looks: people come, turn, and go; one of those who look at the robot is named."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from geometry_msgs.msg import (
    Point,
    PoseStamped,
    PoseWithCovarianceStamped,
    Quaternion,
    TransformStamped,
    Vector3,
)
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header, String
from tf2_msgs.msg import TFMessage

from face_pose_ros.ros.consumers.who_looks import WhoLooks
from face_pose_ros.ros.declaring import ParameterError

pytestmark = pytest.mark.dds

R_CAM_HEAD_FACING = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]])
SURE_DEG, UNSURE_DEG = 3.0, 25.0  # standard deviation of a head's turn


class Scene:
    """Publishes people's poses as the pose node does, and hears who looks."""

    def __init__(self, ros, namespace='', **parameters):
        self.ros = ros
        self.who_looks = ros.add(
            WhoLooks(
                context=ros.context,
                namespace=namespace,
                use_global_arguments=False,
                parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()],
            )
        )
        self.warnings = []
        self.who_looks.get_logger = lambda: self
        self.node = ros.add(
            Node('scene', context=ros.context, namespace=namespace, use_global_arguments=False)
        )
        self.people = {}  # id: (t_cam_head [m], turn to the person's right [deg], sigma [deg])
        self.sent, self.ids, self.poses = {}, [], []
        self._pubs = {}
        self.node.create_subscription(String, 'who_looks/id', self._on_id, 10)
        self.node.create_subscription(PoseStamped, 'who_looks/pose', self.poses.append, 10)
        self.node.create_timer(0.03, self._publish)

    def warning(self, text, throttle_duration_sec):
        self.warnings.append(text)

    def _on_id(self, msg):
        self.ids.append(msg.data)

    def _publish(self):
        header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id='camera')
        for face_id, (t, turn_deg, sigma_deg) in list(self.people.items()):
            if face_id not in self._pubs:
                self._pubs[face_id] = self.node.create_publisher(
                    PoseWithCovarianceStamped,
                    f'face_pose/faces/{face_id}/pose_with_covariance',
                    10,
                )
            R = Rotation.from_rotvec([0, np.radians(turn_deg), 0]).as_matrix() @ R_CAM_HEAD_FACING
            msg = PoseWithCovarianceStamped(header=header)
            msg.pose.pose.position = Point(x=t[0], y=t[1], z=t[2])
            x, y, z, w = Rotation.from_matrix(R).as_quat()
            msg.pose.pose.orientation = Quaternion(x=x, y=y, z=z, w=w)
            sigma = np.r_[0.01, 0.01, 0.1, np.radians([sigma_deg] * 3)]
            msg.pose.covariance = np.diag(sigma**2).ravel()
            self._pubs[face_id].publish(msg)
            self.sent[face_id, header.stamp.sec, header.stamp.nanosec] = msg

    def withdraw(self, face_id):
        """Forget a person, as the pose node does."""
        del self.people[face_id]
        self.node.destroy_publisher(self._pubs.pop(face_id))

    def wait_until_heard(self, face_id):
        people = self.who_looks._people
        self.ros.wait_for(lambda: face_id in people and people[face_id].time is not None)

    def wait_for_id(self, face_id, times=3):
        """Wait until the last few answers all were this id."""
        seen = len(self.ids)
        self.ros.wait_for(
            lambda: len(self.ids) >= seen + times and set(self.ids[-times:]) == {face_id}
        )


@pytest.fixture
def scene(ros):
    return Scene(ros)


def test_publishes_id_and_pose_of_the_person_who_looks(scene):
    scene.people['f00001'] = ([-0.4, 0.0, 1.5], 60.0, SURE_DEG)
    scene.people['f00002'] = ([0.4, 0.1, 1.5], np.degrees(np.arctan2(0.4, 1.5)), SURE_DEG)
    scene.wait_for_id('f00002')
    n = len(scene.poses)
    scene.ros.wait_for(lambda: len(scene.poses) > n + 3)
    for pose in scene.poses:
        sent = scene.sent['f00002', pose.header.stamp.sec, pose.header.stamp.nanosec]
        assert (pose.header, pose.pose) == (sent.header, sent.pose.pose)


def test_the_id_is_empty_if_nobody_looks(scene):
    scene.wait_for_id('')
    scene.people['f00001'] = ([0.0, 0.0, 1.5], 40.0, SURE_DEG)
    scene.wait_until_heard('f00001')
    scene.wait_for_id('')
    assert scene.poses == []


def test_an_unsure_pose_does_not_count_as_looking(scene):
    scene.people['f00001'] = ([0.0, 0.0, 1.5], 5.0, UNSURE_DEG)
    scene.wait_until_heard('f00001')
    scene.wait_for_id('')
    scene.people['f00001'] = ([0.0, 0.0, 1.5], 5.0, SURE_DEG)
    scene.wait_for_id('f00001')


def test_the_first_person_is_kept_until_they_look_away(scene):
    scene.people['f00002'] = ([0.0, 0.0, 1.5], 10.0, SURE_DEG)
    scene.wait_for_id('f00002')
    scene.people['f00001'] = ([0.0, 0.1, 1.5], 0.0, SURE_DEG)  # more probable, but later
    scene.wait_until_heard('f00001')
    scene.wait_for_id('f00002')
    scene.people['f00002'] = ([0.0, 0.0, 1.5], 50.0, SURE_DEG)
    scene.wait_for_id('f00001')


def test_a_person_who_left_is_removed(scene):
    scene.people['f00001'] = ([0.0, 0.0, 1.5], 0.0, SURE_DEG)
    scene.wait_for_id('f00001')
    scene.withdraw('f00001')
    scene.wait_for_id('')
    # Its own subscription must not keep the person on the list for ever.
    scene.ros.wait_for(lambda: not scene.who_looks._people)
    scene.people['f00001'] = ([0.0, 0.0, 1.5], 0.0, SURE_DEG)
    scene.wait_for_id('f00001')


def test_a_person_without_recent_poses_does_not_look(scene):
    scene.people['f00001'] = ([0.0, 0.0, 1.5], 0.0, SURE_DEG)
    scene.wait_for_id('f00001')
    del scene.people['f00001']  # the topic stays
    scene.wait_for_id('')
    assert 'f00001' in scene.who_looks._people


def test_in_a_namespace(ros):
    scene = Scene(ros, namespace='/robot')
    scene.people['f00001'] = ([0.0, 0.0, 1.5], 0.0, SURE_DEG)
    scene.wait_for_id('f00001')


def test_another_target_than_the_camera(ros):
    # A screen 0.8 m to the camera's right, 0.1 m right of the frame `screen_mount`.
    scene = Scene(ros, target_frame='screen_mount', target_point=[0.1, 0.0, 0.0])
    scene.people['f00001'] = ([0.0, 0.0, 1.5], -np.degrees(np.arctan2(0.8, 1.5)), SURE_DEG)
    scene.ros.wait_for(lambda: any("'screen_mount'" in text for text in scene.warnings))
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    mount = TransformStamped(header=Header(frame_id='camera'), child_frame_id='screen_mount')
    mount.transform.translation = Vector3(x=0.7)
    scene.node.create_publisher(TFMessage, '/tf_static', latched).publish(
        TFMessage(transforms=[mount])
    )
    scene.wait_for_id('f00001')
    scene.people['f00001'] = ([0.0, 0.0, 1.5], 0.0, SURE_DEG)  # looks at the camera
    scene.wait_for_id('')


@pytest.mark.parametrize(
    ('place', 'sigma_deg', 'warning'),
    [
        ([0.0, 0.0, 1.5], np.nan, 'covariance is not finite'),
        ([0.0, 0.0, 0.0], SURE_DEG, 'head is at the target'),  # a pose that was never set
    ],
)
def test_a_pose_that_points_nowhere_is_named(scene, place, sigma_deg, warning, recwarn):
    scene.people['f00001'] = (place, 0.0, sigma_deg)
    scene.ros.wait_for(lambda: any(warning in text for text in scene.warnings))
    assert not [w for w in recwarn if w.category is RuntimeWarning]
    scene.people['f00002'] = ([0.0, 0.0, 1.5], 0.0, SURE_DEG)
    scene.wait_for_id('f00002')


def test_a_bad_parameter_is_named(ros):
    with pytest.raises(ParameterError, match='cone_deg'):
        Scene(ros, cone_deg=200.0)
    message = r'target_point \(target point .* \[m\]\).*expected 3 val'
    with pytest.raises(ValueError, match=message):
        Scene(ros, target_point=[0.0, 0.0])
