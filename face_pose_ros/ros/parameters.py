# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the pose node."""

from __future__ import annotations

from dataclasses import dataclass, field

from face_pose_ros.options import Checked, EstimatorOptions, option, start_option
from face_pose_ros.ros.depth_images import DEPTH_TRANSPORTS, RAW


@dataclass(frozen=True)
class Parameters(Checked):
    """Snapshot of all parameters; those of the estimator have the names of its options."""

    autostart: bool = start_option(
        True, 'configure and activate at start, without a lifecycle manager'
    )
    device: str = start_option(
        'auto',
        'device of the networks: cpu, cuda, cuda:<index>; auto: cuda if available, else cpu',
    )
    threads: int = start_option(0, 'CPU threads of one inference; 0: all cores', low=0, high=256)
    image_transport: str = start_option(
        'raw',
        'transport of the image; compressed adds /compressed to its topic',
        choices=('raw', 'compressed'),
    )
    image_is_rectified: bool = start_option(
        False, 'use P of CameraInfo without distortion, not K and D'
    )
    camera_info_is_latched: bool = start_option(
        False, 'CameraInfo is published once and latched; it is used for all images'
    )
    use_depth: bool = start_option(
        False, 'also use a depth image, from the topics depth and depth_camera_info'
    )
    depth_transport: str = start_option(
        RAW,
        'transport of the depth image; each but raw is added to its topic, as /compressedDepth',
        choices=DEPTH_TRANSPORTS,
    )
    depth_max_offset_s: float = start_option(
        0.05,
        'largest difference between the stamps of an image and its depth image',
        unit='s',
        low=0.0,
        high=1.0,
    )
    publish_tf: bool = option(True, 'publish frames face_<id> and gaze_<id>')
    estimator: EstimatorOptions = field(default_factory=EstimatorOptions, metadata={'flat': True})
