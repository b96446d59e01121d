"""The node's parameters: declared with units and ranges, read once into a frozen snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from face_pose_ros.estimator import EstimatorOptions
from face_pose_ros.faces.detector import DETECTORS, DetectorOptions
from face_pose_ros.keypoints.reader import KEYPOINT_NETWORKS
from face_pose_ros.pose.refine import PoseOptions
from face_pose_ros.ros.declaring import ParameterError, close, declare
from face_pose_ros.tracking.filter import FilterOptions
from face_pose_ros.tracking.tracker import TrackerOptions


@dataclass(frozen=True)
class _Spec:
    name: str
    default: Any
    description: str
    low: float | None = None  # inclusive
    high: float | None = None
    one_of: tuple[str, ...] = ()
    fixed: bool = False  # read at start; all others count from the next frame


SPECS = (
    _Spec('autostart', True, 'configure and activate at start, without a manager', fixed=True),
    _Spec(
        'device',
        'auto',
        "where the networks run: 'cpu', 'cuda', 'cuda:<index>', or 'auto': cuda if there is one",
        fixed=True,
    ),
    _Spec('threads', 0, 'CPU threads of one inference; 0 leaves it to torch', 0, 256, fixed=True),
    _Spec(
        'image_transport',
        'raw',
        'form in which the image arrives; compressed adds /compressed to its topic',
        one_of=('raw', 'compressed'),
        fixed=True,
    ),
    _Spec(
        'image_is_rectified',
        False,
        'use P of CameraInfo without distortion, not K and D',
        fixed=True,
    ),
    _Spec(
        'camera_info_is_latched',
        False,
        'one CameraInfo, published once and kept for late subscribers, holds for all images',
        fixed=True,
    ),
    _Spec('publish_tf', True, 'publish frames face_<id> and gaze_<id>'),
    _Spec(
        'detector.network',
        'blazeface',
        'which network finds faces; single_shot: also from the side, and poses of tiny ones',
        one_of=DETECTORS,
        fixed=True,
    ),
    _Spec(
        'detector.score_threshold',
        0.5,
        'least score of a face proposal, a probability',
        0.01,
        0.99,
    ),
    _Spec('detector.min_face_px', 40.0, 'smallest face height looked for [px]', 16.0, 4096.0),
    _Spec(
        'detector.max_input_px',
        512,
        "longer side of the detector's picture [px]; no face below image side * 16 / this",
        64,
        4096,
    ),
    _Spec(
        'keypoints.network',
        'auto',
        'which network measures a face; auto: Face Mesh from the front, hourglass from the side',
        one_of=KEYPOINT_NETWORKS,
    ),
    _Spec('keypoints.min_presence', 0.5, 'least probability that a crop shows a face', 0.01, 0.99),
    _Spec('keypoints.looks', 2, 'most crops per new face, each centred by the one before', 1, 4),
    _Spec(
        'keypoints.jitters',
        0,
        'crops averaged for each face in each image, for precision; 0: one look',
        0,
        32,
    ),
    _Spec(
        'tracking.detect_every', 5, 'images between detections while all faces are seen', 1, 1000
    ),
    _Spec(
        'pose.kernel_scale', 3.0, 'residual at which a keypoint loses weight [sigma]', 0.1, 100.0
    ),
    _Spec(
        'pose.interpupillary_mm',
        63.0,
        "distance of the pupils, the scale of all distances: an adult's, or a person's own [mm]",
        40.0,
        80.0,
    ),
    _Spec(
        'pose.interpupillary_sigma_mm',
        3.5,
        'its standard deviation [mm]: of adults 3.5, of a measured person about 0.5',
        0.01,
        20.0,
    ),
    _Spec('tracking.lost_after_s', 1.0, 'a face unseen for so long is forgotten [s]', 0.01, 60.0),
    _Spec(
        'tracking.max_jump_m',
        0.5,
        'further from where it was expected, across the line of sight, it is a new face [m]',
        0.05,
        5.0,
    ),
    _Spec('tracking.filter_poses', True, 'smooth poses over time; false: as measured'),
    _Spec('tracking.remember_shape', True, "gather a person's shape and size over time"),
    _Spec(
        'tracking.acceleration_noise',
        1.0,
        'how far the velocity of a head wanders in a second [m/s]',
        0.01,
        100.0,
    ),
    _Spec(
        'tracking.angular_acceleration_noise',
        4.0,
        'how far the angular velocity of a head wanders in a second [rad/s]',
        0.01,
        1000.0,
    ),
    _Spec(
        'tracking.systematic_share',
        0.9,
        "share of a pose's variance that is the same error in every image",
        0.0,
        0.99,
    ),
    _Spec(
        'tracking.max_gap_s',
        0.5,
        'a face unseen for longer than this is filtered afresh [s]',
        0.01,
        10.0,
    ),
)


@dataclass(frozen=True)
class Parameters:
    """Snapshot of all parameters."""

    autostart: bool
    device: str
    threads: int
    image_transport: str
    image_is_rectified: bool
    camera_info_is_latched: bool
    publish_tf: bool
    estimator: EstimatorOptions


def declare_parameters(node: Node) -> Parameters:
    """Declare every parameter on the node and read the values it was started with.

    Raises:
        ParameterError: A value is out of range or of another type, or a name is not known.
    """
    for spec in SPECS:
        declare(node, spec.name, spec.default, _descriptor(spec))
    close(node)
    return parameters_of({spec.name: node.get_parameter(spec.name).value for spec in SPECS})


def changed_parameters(node: Node, changes: Iterable[Parameter]) -> Parameters:
    """The snapshot after changes at run time, which rclpy has found within their ranges.

    Raises:
        ParameterError: A value is not one of those allowed.
    """
    value = {spec.name: node.get_parameter(spec.name).value for spec in SPECS}
    return parameters_of(value | {change.name: change.value for change in changes})


def parameters_of(value: Mapping[str, Any]) -> Parameters:
    """The snapshot of all values, by name.

    Raises:
        ParameterError: A value is not one of those allowed.
    """
    for spec in SPECS:
        if spec.one_of and value[spec.name] not in spec.one_of:
            raise ParameterError(
                f"parameter {spec.name} is '{value[spec.name]}', "
                f'expected one of {", ".join(spec.one_of)}'
            )
    return Parameters(
        autostart=value['autostart'],
        device=value['device'],
        threads=value['threads'],
        image_transport=value['image_transport'],
        image_is_rectified=value['image_is_rectified'],
        camera_info_is_latched=value['camera_info_is_latched'],
        publish_tf=value['publish_tf'],
        estimator=EstimatorOptions(
            detector=DetectorOptions(
                network=value['detector.network'],
                score_threshold=value['detector.score_threshold'],
                min_face_px=value['detector.min_face_px'],
                max_input_px=value['detector.max_input_px'],
            ),
            pose=PoseOptions(
                kernel_scale=value['pose.kernel_scale'],
                interpupillary_mm=value['pose.interpupillary_mm'],
                interpupillary_sigma_mm=value['pose.interpupillary_sigma_mm'],
            ),
            tracker=TrackerOptions(
                lost_after_s=value['tracking.lost_after_s'],
                max_jump_m=value['tracking.max_jump_m'],
                filter_poses=value['tracking.filter_poses'],
                remember_shape=value['tracking.remember_shape'],
                filter=FilterOptions(
                    acceleration_noise=value['tracking.acceleration_noise'],
                    angular_acceleration_noise=value['tracking.angular_acceleration_noise'],
                    systematic_share=value['tracking.systematic_share'],
                    max_gap_s=value['tracking.max_gap_s'],
                ),
            ),
            min_presence=value['keypoints.min_presence'],
            keypoints=value['keypoints.network'],
            looks=value['keypoints.looks'],
            jitters=value['keypoints.jitters'],
            detect_every=value['tracking.detect_every'],
        ),
    )


def _descriptor(spec: _Spec) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=spec.description, read_only=spec.fixed)
    if spec.one_of:
        descriptor.additional_constraints = f'one of {", ".join(spec.one_of)}'
    if spec.low is not None and spec.high is not None:
        if isinstance(spec.default, int):
            descriptor.integer_range = [
                IntegerRange(from_value=int(spec.low), to_value=int(spec.high))
            ]
        else:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high))
            ]
    return descriptor
