# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""All options, each declared once: type, default, range, unit and text.

Options that are ROS parameters have an `Option` as metadata of their field. The node's parameters,
config/pose.yaml and docs/ros_api.md are generated from these. Names in Python and ROS are equal:
`EstimatorOptions().tracking.detect_every` is the parameter `tracking.detect_every`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

Options = TypeVar('Options')

KERNELS = ('none', 'huber', 'cauchy', 'geman_mcclure')


class Option(NamedTuple):
    """Description of an option; name, type and default are those of the dataclass field."""

    text: str  # one line
    unit: str = ''
    low: float | None = None  # inclusive
    high: float | None = None
    choices: tuple[str, ...] = ()
    start_only: bool = False  # read at start; all others apply from the next image

    def problem(self, value: object) -> str | None:
        """Why a value is invalid, in words; None if it is valid."""
        if self.choices and value not in self.choices:
            return f"'{value}' is not one of {', '.join(self.choices)}"
        if self.low is None or self.high is None:
            return None
        if not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return f'{value} is not in [{self.low:g}, {self.high:g}]{self.unit and " "}{self.unit}'
        return None


def option(default: Any, text: str, **what: Any) -> Any:
    """A dataclass field with an `Option` as metadata, made from the further arguments."""
    return field(default=default, metadata={'option': Option(text, **what)})


def start_option(default: Any, text: str, **what: Any) -> Any:
    """An option that is read once, at start."""
    return option(default, text, start_only=True, **what)


class Checked:
    """Base of frozen dataclasses that check the ranges of their options.

    Raises:
        ValueError: An option is out of range; the text gives its name, value and range.
    """

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value, known = getattr(self, item.name), item.metadata.get('option')
            if known is None:
                continue
            if isinstance(item.default, float) and type(value) is int:
                object.__setattr__(self, item.name, float(value))
            if problem := known.problem(value):
                raise ValueError(f'{item.name}: {problem}')


def named_options(options: object, prefix: str = '') -> Iterator[tuple[str, Any, Option]]:
    """Dotted name, value and description of all options of a dataclass, nested ones included.

    Options nested in a field with `flat` in its metadata are named without that field.
    """
    for item in fields(options):  # type: ignore[arg-type]
        value = getattr(options, item.name)
        if 'option' in item.metadata:
            yield prefix + item.name, value, item.metadata['option']
        elif is_dataclass(value):
            yield from named_options(value, _nested_prefix(item, prefix))


def with_values(options: Options, values: Mapping[str, Any], prefix: str = '') -> Options:
    """A copy of the options with some values replaced, given by dotted name.

    Raises:
        ValueError: A value is out of range.
    """
    changes: dict[str, Any] = {}
    for item in fields(options):  # type: ignore[arg-type]
        name, value = prefix + item.name, getattr(options, item.name)
        if 'option' in item.metadata and name in values:
            changes[item.name] = values[name]
        elif is_dataclass(value):
            changes[item.name] = with_values(value, values, _nested_prefix(item, prefix))
    try:
        return replace(options, **changes)  # type: ignore[type-var]
    except ValueError as error:
        raise ValueError(f'{prefix}{error}') from error


def _nested_prefix(item: Field[Any], prefix: str) -> str:
    return prefix if item.metadata.get('flat') else f'{prefix}{item.name}.'


@dataclass(frozen=True)
class DetectorOptions(Checked):
    """Face detection.

    Face height is measured from the chin to the hairline (Face Mesh points 152 and 10), which is
    also the height of the detected boxes.
    """

    score_threshold: float = option(
        0.5, 'minimum score of a detection, a probability', low=0.01, high=0.99
    )
    min_face_px: float = option(
        40.0, 'minimum face height to detect', unit='px', low=16, high=4096
    )
    # Limits the detection time, and the face height in an image of W px to 16 W / max_input_px px.
    max_input_px: int = option(
        512,
        "longer side of the detector's input; minimum face height: image side * 16 / this",
        unit='px',
        low=64,
        high=4096,
    )


@dataclass(frozen=True)
class KeypointOptions(Checked):
    """Measurement of the keypoints of a face."""

    min_presence: float = option(
        0.5, 'minimum probability that a crop shows a face', low=0.01, high=0.99
    )
    max_crops: int = option(
        3,
        'crops of a new face; each follows the keypoints found in the last',
        low=1,
        high=4,
    )
    max_duplicate_iou: float = 0.5  # of keypoint bounds; above it one of two faces is dropped


@dataclass(frozen=True)
class PoseOptions(Checked):
    """The maximum a posteriori fit of pose and shape, see `pose.fit.fit_pose`."""

    kernel: str = 'geman_mcclure'  # robust kernel, one of KERNELS
    kernel_scale: float = option(
        3.0,
        'scale of the robust kernel: residual above which a keypoint loses weight',
        unit='sigma',
        low=0.1,
        high=100,
    )
    # Reduces the weight of keypoints on the far side of the head; for keypoints whose covariances
    # do not depend on the view. Those of the keypoint network do.
    visibility: bool = False
    max_iterations: int = 30
    step_tolerance: float = 1e-6
    cost_tolerance: float = 1e-4
    # Effective number of independent keypoints. Their errors are correlated, so the information of
    # all keypoints is scaled down to that of this many. Measured for the packaged network.
    independent_keypoints: float = 2.55
    interpupillary_mm: float = option(
        63.0,
        'assumed interpupillary distance; each mm adds 0.95 % to distances without depth',
        unit='mm',
        low=40,
        high=80,
    )
    interpupillary_sigma_mm: float = option(
        3.5,
        'standard deviation of it: 3.5 for adults, about 0.5 for a measured person',
        unit='mm',
        low=0.01,
        high=20,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel: '{self.kernel}' is not one of {', '.join(KERNELS)}")
        for name in ('max_iterations', 'step_tolerance', 'cost_tolerance'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name}: {getattr(self, name)} is not positive')
        if not self.independent_keypoints > 0:
            raise ValueError(
                f'independent_keypoints: {self.independent_keypoints} is not positive'
            )


@dataclass(frozen=True)
class DepthOptions(Checked):
    """Error model of the depth camera, see `pose.ranges`."""

    noise_per_m: float = option(
        0.003,
        'standard deviation of a depth pixel at 1 m; grows with the square of the distance',
        unit='m',
        low=0.0,
        high=0.1,
    )
    bias_per_m: float = option(
        0.002,
        'the same for the error common to all pixels of a face, such as a calibration error',
        unit='m',
        low=0.0,
        high=0.1,
    )


@dataclass(frozen=True)
class FilterOptions(Checked):
    """The Kalman filter of one head's pose, see src/filter.hpp."""

    # Standard deviation of the velocity change in one second; sqrt(n) times as much in n seconds.
    acceleration_noise: float = option(
        1.0,
        'process noise: velocity change of a head in one second',
        unit='m/s',
        low=0.01,
        high=100,
    )
    angular_acceleration_noise: float = option(
        4.0,
        'process noise: angular velocity change of a head in one second',
        unit='rad/s',
        low=0.01,
        high=1000,
    )
    # Not given to the filter but added to its covariance, because averaging does not reduce it.
    correlated_noise_share: float = option(
        0.9,
        "share of a measurement's variance that is correlated in time: the same in every image",
        low=0.0,
        high=0.99,
    )
    max_gap_s: float = option(
        0.5,
        'a track is predicted for this time; a measurement after it restarts the filter',
        unit='s',
        low=0.01,
        high=10,
    )


@dataclass(frozen=True)
class ShapeMemoryOptions:
    """Estimation of a person's shape over time, see src/shape_memory.hpp."""

    # Errors of images close in time are correlated; the correlation decays by e in this time.
    correlation_time_s: float = 1.0
    # Share of a fit's variance that is the same in all images of a person: any number of images
    # carries the information of at most 1 / shared_variance of them.
    shared_variance: float = 0.5
    expression_time_s: float = 0.3  # time in which the last expression decays by e

    def __post_init__(self) -> None:
        for name in ('correlation_time_s', 'expression_time_s'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name}: {getattr(self, name)} is not positive')
        if not 0 <= self.shared_variance <= 1:
            raise ValueError(f'shared_variance: {self.shared_variance} is not in [0, 1]')


@dataclass(frozen=True)
class TrackingOptions(FilterOptions):
    """Tracking of faces over images."""

    detect_every: int = option(
        5,
        'images from one detection to the next while all tracks are measured',
        unit='images',
        low=1,
        high=1000,
    )
    lost_after_s: float = option(
        1.0, 'a track ends after this time without a measurement', unit='s', low=0.01, high=60
    )
    gate_m: float = option(
        0.5,
        'gate: largest distance of a face from the prediction, across the line of sight',
        unit='m',
        low=0.05,
        high=5,
    )
    filter_poses: bool = option(True, 'filter poses over time; false: publish them as measured')
    remember_shape: bool = option(
        True, "estimate a person's shape and size over time; false: in each image alone"
    )
    shape: ShapeMemoryOptions = field(default_factory=ShapeMemoryOptions)


@dataclass(frozen=True)
class EstimatorOptions:
    """Options of `FacePoseEstimator`."""

    detector: DetectorOptions = field(default_factory=DetectorOptions)
    keypoints: KeypointOptions = field(default_factory=KeypointOptions)
    pose: PoseOptions = field(default_factory=PoseOptions)
    depth: DepthOptions = field(default_factory=DepthOptions)
    tracking: TrackingOptions = field(default_factory=TrackingOptions)
