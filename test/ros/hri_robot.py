# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A camera and a pose node, for tests of the REP-155 topics."""

import array

import numpy as np
from builtin_interfaces.msg import Time
from helpers.portraits import portrait_view
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from face_pose_ros.ros.conversions import camera_info_msg
from face_pose_ros.ros.node import PoseNode
from face_pose_ros.virtual_camera import photo_camera


class Robot:
    """Shows pictures to a pose node and knows what it found in them."""

    def __init__(self, ros):
        self.ros = ros
        self.node = PoseNode(context=ros.context, use_global_arguments=False)
        assert self.node.autostart()
        self.answers = {}
        pipeline_answer = self.node.pipeline.answer

        def remember(image, *args):
            answer = pipeline_answer(image, *args)
            self.answers[image.header.stamp.sec] = answer
            return answer

        self.node.pipeline.answer = remember
        ros.add(self.node)
        self.robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
        self.image_pub = self.robot.create_publisher(Image, 'image', 10)
        self.info_pub = self.robot.create_publisher(CameraInfo, 'camera_info', 10)
        ros.wait_for(lambda: self.image_pub.get_subscription_count() == 1)
        ros.wait_for(lambda: self.info_pub.get_subscription_count() == 1)
        self.header = Header(stamp=Time(sec=1000), frame_id='camera_optical')
        hopper, collins = portrait_view('grace_hopper')[0], portrait_view('astronaut')[0]
        height = min(len(hopper), len(collins))
        self.two_people = np.hstack([hopper[:height], collins[:height]])
        self.no_people = np.full_like(self.two_people, 96)

    def show(self, rgb, after_s=1):
        """Send a picture, seconds after the last, and wait for what the node makes of it."""
        sec = self.header.stamp.sec + after_s
        self.header = Header(stamp=Time(sec=sec), frame_id='camera_optical')
        height, width = rgb.shape[:2]
        data = array.array('B')
        data.frombytes(rgb.tobytes())
        self.info_pub.publish(camera_info_msg(photo_camera(width, height), self.header))
        self.image_pub.publish(
            Image(
                header=self.header,
                height=height,
                width=width,
                encoding='rgb8',
                step=3 * width,
                data=data,
            )
        )
        self.ros.wait_for(lambda: sec in self.answers)
        return self.answers[sec]
