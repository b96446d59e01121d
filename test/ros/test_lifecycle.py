# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's states: what each transition loads, subscribes, withdraws and frees."""

import pytest
from helpers.portraits import portrait_view

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from ros.test_node import Robot, image_msg, without_face

from face_pose_ros.ros import pipeline
from face_pose_ros.ros.node import PoseNode

pytestmark = pytest.mark.dds

RGB, _ = portrait_view()
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


def make_node(ros, **parameters):
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    return PoseNode(context=ros.context, use_global_arguments=False, parameter_overrides=overrides)


class Manager:
    """Asks the node for transitions as `ros2 lifecycle` does."""

    def __init__(self, ros):
        self.ros = ros
        self.node = ros.add(Node('manager', context=ros.context, use_global_arguments=False))

    def _call(self, kind, name, request):
        # DDS misses a service now and then; another client asks anew.
        for _ in range(3):
            client = self.node.create_client(kind, f'/face_pose/{name}')
            if client.wait_for_service(timeout_sec=10):
                break
        future = client.call_async(request)
        self.ros.wait_for(future.done, timeout_s=30)
        return future.result()

    def change(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return self._call(ChangeState, 'change_state', request).success

    @property
    def state(self):
        return self._call(GetState, 'get_state', GetState.Request()).current_state.id


def test_a_manager_leads_the_node_through_its_states_and_back(ros):
    node = ros.add(make_node(ros, autostart=False))
    manager = Manager(ros)
    count_subscriptions = manager.node.count_subscribers
    assert manager.state == State.PRIMARY_STATE_UNCONFIGURED
    for _ in range(2):
        assert manager.change(Transition.TRANSITION_CONFIGURE)
        assert manager.state == State.PRIMARY_STATE_INACTIVE
        ros.wait_for(lambda: manager.node.count_publishers('face_pose/poses') == 1)
        assert count_subscriptions('image') == 0
        assert manager.change(Transition.TRANSITION_ACTIVATE)
        ros.wait_for(lambda: count_subscriptions('image') == 1)
        ros.wait_for(lambda: count_subscriptions('camera_info') == 1)
        assert manager.change(Transition.TRANSITION_DEACTIVATE)
        ros.wait_for(lambda: count_subscriptions('image') == 0)
        assert manager.change(Transition.TRANSITION_CLEANUP)
        ros.wait_for(lambda: manager.node.count_publishers('face_pose/poses') == 0)
        assert node.pipeline is None
    assert manager.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert manager.state == State.PRIMARY_STATE_FINALIZED


def test_deactivation_forgets_people_and_an_active_node_answers_again(ros):
    robot = Robot(ros)
    header = robot.header()
    robot.send(image_msg(header))
    robot.wait_for_answer_to(header)
    ros.wait_for(lambda: robot.robot.count_publishers('face_pose/faces/f00001/pose') == 1)
    manager = Manager(ros)
    assert manager.change(Transition.TRANSITION_DEACTIVATE)
    ros.wait_for(lambda: robot.robot.count_publishers('face_pose/faces/f00001/pose') == 0)
    ignored = robot.header()
    robot.send(image_msg(ignored))
    assert manager.change(Transition.TRANSITION_ACTIVATE)
    ros.wait_for(lambda: robot.image_pub.get_subscription_count() == 1)
    ros.wait_for(lambda: robot.info_pub.get_subscription_count() == 1)
    header = robot.header()
    robot.send(image_msg(header))
    robot.wait_for_answer_to(header)
    assert ignored not in [a.header for a in robot.answers()]
    ros.wait_for(lambda: robot.robot.count_publishers('face_pose/faces/f00002/pose') == 1)


@pytest.mark.parametrize('device', ['cuda:99', 'gpu'])
def test_a_device_that_does_not_exist_leaves_the_node_unconfigured(ros, device):
    node = ros.add(make_node(ros, device=device))
    logged = []
    node.get_logger().fatal = logged.append
    assert not node.autostart()
    assert len(logged) == 1
    assert f"device '{device}' is not one of auto, cpu" in logged[0]
    assert Manager(ros).state == State.PRIMARY_STATE_UNCONFIGURED


def test_an_error_in_a_transition_is_processed_and_the_node_can_start_again(ros, monkeypatch):
    node = ros.add(make_node(ros, autostart=False))
    logged = []
    node.get_logger().fatal = logged.append
    manager = Manager(ros)
    with monkeypatch.context() as patch:

        def fail(*_):
            raise MemoryError('no memory')

        patch.setattr(pipeline, 'FacePoseEstimator', fail)
        assert not manager.change(Transition.TRANSITION_CONFIGURE)
    assert manager.state == State.PRIMARY_STATE_UNCONFIGURED
    assert node.pipeline is None
    assert logged == ['configure failed: no memory']
    assert manager.change(Transition.TRANSITION_CONFIGURE)
    assert manager.state == State.PRIMARY_STATE_INACTIVE


@pytest.mark.parametrize(
    ('topic', 'policy', 'value'),
    [
        ('/image.subscription', 'reliability', 'sometimes'),
        ('/face_pose/pose.publisher', 'durability', 'marble'),
    ],
)
def test_a_quality_of_service_that_does_not_exist_is_named(ros, topic, policy, value):
    node = ros.add(make_node(ros, **{f'qos_overrides.{topic}.{policy}': value}))
    logged = []
    node.get_logger().fatal = logged.append
    assert not node.autostart()
    assert len(logged) == 1
    assert policy in logged[0]
    assert value in logged[0]


def test_quality_of_service_of_each_topic_is_a_parameter(ros):
    overrides = {
        'qos_overrides./image.subscription.reliability': 'reliable',
        'qos_overrides./camera_info.subscription.durability': 'transient_local',
        'qos_overrides./face_pose/pose.publisher.durability': 'transient_local',
        'qos_overrides./face_pose/poses.publisher.reliability': 'best_effort',
    }
    node = ros.add(make_node(ros, **overrides))
    assert node.autostart()

    def profile_of(infos):
        return infos[0].qos_profile

    image = profile_of(node.get_subscriptions_info_by_topic('/image'))
    assert image.reliability == ReliabilityPolicy.RELIABLE
    info = profile_of(node.get_subscriptions_info_by_topic('/camera_info'))
    assert info.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert info.reliability == ReliabilityPolicy.BEST_EFFORT  # as it was
    pose = profile_of(node.get_publishers_info_by_topic('/face_pose/pose'))
    assert pose.durability == DurabilityPolicy.TRANSIENT_LOCAL
    poses = profile_of(node.get_publishers_info_by_topic('/face_pose/poses'))
    assert poses.reliability == ReliabilityPolicy.BEST_EFFORT


def test_parameters_change_while_the_node_runs(ros):
    robot = Robot(ros)
    header = robot.header()
    robot.send(image_msg(header))
    before = robot.wait_for_answer_to(header).poses[0].position.z
    changes = [
        Parameter('pose.interpupillary_mm', value=80.0),
        Parameter('tracking.remember_shape', value=False),
        Parameter('publish_tf', value=False),
    ]
    assert all(result.successful for result in robot.node.set_parameters(changes))
    ros.wait_for(lambda: robot.received['/tf'])
    tf_before = len(robot.received['/tf'])
    header = robot.header(stamp=robot.header().stamp)
    header.stamp.sec += 100
    robot.send(image_msg(header, without_face(RGB)))
    robot.wait_for_answer_to(header)
    header = robot.header()
    header.stamp.sec += 200
    robot.send(image_msg(header))
    assert robot.wait_for_answer_to(header).poses[0].position.z > 1.1 * before
    assert len(robot.received['/tf']) == tf_before


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('device', 'cuda', 'read-only'),
        ('detector.min_face_px', 3.0, 'detector.min_face_px'),
        ('keypoints.max_crops', 99, 'keypoints.max_crops'),
    ],
)
def test_a_wrong_change_is_refused_with_a_reason(ros, name, value, reason):
    node = ros.add(make_node(ros, autostart=False))
    before = node.parameters
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful
    assert reason in result.reason
    assert node.parameters is before
