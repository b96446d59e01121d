# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters: declared, documented, checked; a bad one is a clear error at start."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')

from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter

from face_pose_ros.estimator import EstimatorOptions
from face_pose_ros.options import named_options
from face_pose_ros.ros.declaring import ParameterError, declare_options
from face_pose_ros.ros.parameters import Parameters

ROOT = Path(__file__).parents[2]


def flat(tree: dict, prefix: str = '') -> dict:
    leaves = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flat(value, f'{prefix}{key}.')
        else:
            leaves[prefix + key] = value
    return leaves


def test_config_file_lists_every_parameter_at_its_default():
    config = yaml.safe_load((ROOT / 'config/pose.yaml').read_text())
    defaults = {name: value for name, value, _ in named_options(Parameters())}
    assert flat(config['/**']['ros__parameters']) == defaults


def read(ros, **overrides):
    parameters = [Parameter(name, value=value) for name, value in overrides.items()]
    node = ros.add(
        Node(
            'parameters',
            context=ros.context,
            parameter_overrides=parameters,
            use_global_arguments=False,
        )
    )
    return declare_options(node, Parameters())


def test_defaults_are_the_estimators_own(ros):
    parameters = read(ros)
    assert parameters.estimator == EstimatorOptions()
    assert parameters.device == 'auto'


def test_values_reach_the_estimator(ros):
    estimator = read(
        ros,
        **{
            'detector.min_face_px': 25.0,
            'keypoints.max_crops': 4,
            'pose.interpupillary_mm': 58.0,
            'pose.interpupillary_sigma_mm': 0.4,
            'tracking.lost_after_s': 2.5,
            'tracking.filter_poses': False,
            'tracking.remember_shape': False,
            'tracking.correlated_noise_share': 0.2,
        },
    ).estimator
    assert estimator.detector.min_face_px == 25.0
    assert estimator.keypoints.max_crops == 4
    assert estimator.pose.interpupillary_mm == 58.0
    assert estimator.pose.interpupillary_sigma_mm == 0.4
    assert estimator.tracking.lost_after_s == 2.5
    assert not estimator.tracking.filter_poses
    assert not estimator.tracking.remember_shape
    assert estimator.tracking.correlated_noise_share == 0.2


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('detector.min_face_px', 3.0, r'detector\.min_face_px .*\[px\].*3\.0'),
        ('detector.min_face_px', 'large', r'detector\.min_face_px'),
        ('detector.min_face_px', 3, r'detector\.min_face_px .*\[px\].*3\.0'),
        ('keypoints.max_crops', 2.0, r'keypoints\.max_crops'),
        ('keypoints.max_crops', 99, r'keypoints\.max_crops'),
        ('image_transport', 'zip', "image_transport: 'zip' is not one of raw, compressed"),
        (
            'detector.min_face',
            30.0,
            r'detector\.min_face does not exist; did you mean detector\.min_face_px',
        ),
    ],
)
def test_bad_parameter_is_named(ros, name, value, message):
    with pytest.raises(ParameterError, match=message):
        read(ros, **{name: value})


def test_names_of_ros_itself_are_left_alone(ros):
    read(ros, **{'use_sim_time': True, 'qos_overrides./image.subscription.depth': 3})


def test_an_integer_is_taken_for_a_number(ros):
    assert read(ros, **{'detector.min_face_px': 30}).estimator.detector.min_face_px == 30.0


def test_an_integer_is_taken_for_a_number_at_run_time(ros):
    node = ros.add(Node('changing', context=ros.context, use_global_arguments=False))
    if not hasattr(node, 'add_pre_set_parameters_callback'):
        pytest.skip('this ROS 2 has no callback before parameters are set')
    declare_options(node, Parameters())
    (result,) = node.set_parameters([Parameter('detector.min_face_px', value=50)])
    assert result.successful, result.reason
    assert node.get_parameter('detector.min_face_px').value == 50.0
    (result,) = node.set_parameters([Parameter('keypoints.max_crops', value=2.0)])
    assert not result.successful


def test_an_unknown_name_is_refused_at_run_time_with_the_nearest_one(ros):
    node = ros.add(Node('changing', context=ros.context, use_global_arguments=False))
    if not hasattr(node, 'add_pre_set_parameters_callback'):
        pytest.skip('this ROS 2 has no callback before parameters are set')
    declare_options(node, Parameters())
    request = SetParameters.Request(
        parameters=[Parameter('keypoints.max_crop', value=2).to_parameter_msg()]
    )
    client = node.create_client(SetParameters, '~/set_parameters')
    call = client.call_async(request)
    ros.wait_for(call.done)
    (result,) = call.result().results
    assert not result.successful
    assert 'keypoints.max_crop does not exist; did you mean keypoints.max_crops?' in result.reason
