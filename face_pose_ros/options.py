# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every option, declared once: type, default, range, unit and text.

Options that are ROS parameters have an `Option` as metadata of their field. The node's parameters,
config/pose.yaml and docs/ros_api.md are made from these, with one name in Python and in ROS:
`EstimatorOptions().tracking.detect_every` is the parameter `tracking.detect_every`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

Options = TypeVar('Options')

DETECTORS = ('blazeface', 'single_shot')
KERNELS = ('none', 'huber', 'cauchy', 'geman_mcclure')


class Option(NamedTuple):
    """Description of an option, besides its name, type and default."""

    text: str  # one line
    unit: str = ''
    low: float | None = None  # inclusive
    high: float | None = None
    choices: tuple[str, ...] = ()
    start_only: bool = False  # read at start; all others apply from the next image

    def problem(self, value: object) -> str | None:
        """What was expected instead of a value; None if the value is valid."""
        if self.choices and value not in self.choices:
            return f"'{value}' is not one of {', '.join(self.choices)}"
        if self.low is None or self.high is None:
            return None
        if not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return f'{value} is not in [{self.low:g}, {self.high:g}]{self.unit and " "}{self.unit}'
        return None


def option(default: Any, text: str, **what: Any) -> Any:
    """A dataclass field with an `Option` as metadata; further arguments are those of `Option`."""
    return field(default=default, metadata={'option': Option(text, **what)})


def start_option(default: Any, text: str, **what: Any) -> Any:
    """An option that is read once, at start."""
    return option(default, text, start_only=True, **what)


class Checked:
    """Base of frozen dataclasses whose options are within their ranges.

    Raises:
        ValueError: An option is out of its range; the text names it, its value and the range.
    """

    def __post_init__(self) -> None:
        for item, known in own_options(type(self)):
            value = getattr(self, item.name)
            if isinstance(item.default, float) and type(value) is int:
                object.__setattr__(self, item.name, float(value))
            if problem := known.problem(value):
                raise ValueError(f'{item.name}: {problem}')


def own_options(kind: type) -> Iterator[tuple[Field[Any], Option]]:
    """The option fields of a dataclass, with their descriptions."""
    for item in fields(kind):
        if 'option' in item.metadata:
            yield item, item.metadata['option']


def named_options(options: object, prefix: str = '') -> Iterator[tuple[str, Any, Option]]:
    """Dotted name, value and description of all options of a dataclass, nested ones included."""
    for item in fields(options):  # type: ignore[arg-type]
        value = getattr(options, item.name)
        if 'option' in item.metadata:
            yield prefix + item.name, value, item.metadata['option']
        elif is_dataclass(value):
            yield from named_options(value, f'{prefix}{item.name}.')


def with_values(options: Options, values: Mapping[str, Any], prefix: str = '') -> Options:
    """The options with values replaced by dotted name; others stay as they are.

    Raises:
        ValueError: A value is out of its range.
    """
    changes: dict[str, Any] = {}
    for item in fields(options):  # type: ignore[arg-type]
        name, value = prefix + item.name, getattr(options, item.name)
        if 'option' in item.metadata and name in values:
            changes[item.name] = values[name]
        elif is_dataclass(value):
            changes[item.name] = with_values(value, values, f'{name}.')
    try:
        return replace(options, **changes)  # type: ignore[type-var]
    except ValueError as error:
        raise ValueError(f'{prefix}{error}') from error


@dataclass(frozen=True)
class DetectorOptions(Checked):
    """Which faces to look for.

    Face height is measured from the chin to the hairline (Face Mesh points 152 and 10), which is
    also the height of the boxes found.
    """

    network: str = option(
        'blazeface',
        'detector; single_shot also finds heads from the side and poses tiny ones',
        choices=DETECTORS,
        start_only=True,
    )
    score_threshold: float = option(
        0.5, 'least score of a face proposal, a probability', low=0.01, high=0.99
    )
    min_face_px: float = option(
        40.0, 'smallest face height to look for', unit='px', low=16, high=4096
    )
    # Bounds the time, and the smallest face: in an image of W px, 16 W / max_input_px px.
    max_input_px: int = option(
        512,
        "longer side of the detector's input; no face below image side * 16 / this is found",
        unit='px',
        low=64,
        high=4096,
    )
    nms_iou: float = 0.3  # in (0, 1); proposals that overlap more are the same face


@dataclass(frozen=True)
class KeypointOptions(Checked):
    """How the keypoints of a face are measured."""

    min_presence: float = option(
        0.5, 'least probability that a crop shows a face', low=0.01, high=0.99
    )
    max_crops: int = option(
        3,
        'crops of a new face; each follows the keypoints found in the last',
        low=1,
        high=4,
    )
    max_duplicate_iou: float = 0.5  # of keypoint bounds; above it two faces are one


@dataclass(frozen=True)
class PoseOptions(Checked):
    """The maximum a posteriori fit of pose and shape, see `pose.fit.fit_pose`."""

    kernel: str = 'geman_mcclure'  # robust kernel, one of KERNELS
    kernel_scale: float = option(
        3.0,
        'residual from which a keypoint loses weight',
        unit='sigma',
        low=0.1,
        high=100,
    )
    # Keypoints on the far side of the head lose weight: for those that are stated to be equally
    # certain from every side. The keypoint network says itself how well it sees each.
    visibility: bool = False
    max_iterations: int = 30
    step_tolerance: float = 1e-6
    cost_tolerance: float = 1e-4
    # How many independent keypoints all of them are worth: their errors are correlated, so the
    # information is scaled down to that of this many. As measured of the packaged network.
    independent_keypoints: float = 2.55
    interpupillary_mm: float = option(
        63.0,
        "interpupillary distance, the scale of all distances: an adult's, or a person's own",
        unit='mm',
        low=40,
        high=80,
    )
    interpupillary_sigma_mm: float = option(
        3.5,
        'its standard deviation: adults 3.5, a measured person about 0.5',
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
    """How the depth camera errs, if there is one, see `pose.ranges`."""

    noise_per_m: float = option(
        0.003,
        "depth's standard deviation in a pixel at 1 m; it grows with the square of the distance",
        unit='m',
        low=0.0,
        high=0.1,
    )
    bias_per_m: float = option(
        0.002,
        'the same of what all pixels of a face have in common, as after a poor calibration',
        unit='m',
        low=0.0,
        high=0.1,
    )


@dataclass(frozen=True)
class FilterOptions(Checked):
    """The Kalman filter of one head's pose, see `tracking.filter.PoseFilter`."""

    # Standard deviation of a velocity's change in one second; in n seconds sqrt(n) times as much.
    acceleration_noise: float = option(
        1.0,
        "process noise: change of a head's velocity in a second",
        unit='m/s',
        low=0.01,
        high=100,
    )
    angular_acceleration_noise: float = option(
        4.0,
        "process noise: change of a head's angular velocity in a second",
        unit='rad/s',
        low=0.01,
        high=1000,
    )
    # Kept from the filter and added to its covariance, because no averaging lowers it.
    correlated_noise_share: float = option(
        0.9,
        "share of a measurement's variance that is correlated in time: the same in every image",
        low=0.0,
        high=0.99,
    )
    max_gap_s: float = option(
        0.5,
        'predictions end after this time; a face seen later starts a new filter',
        unit='s',
        low=0.01,
        high=10,
    )


@dataclass(frozen=True)
class ShapeMemoryOptions:
    """What is remembered of a person's shape, see `tracking.shape_memory.ShapeMemory`."""

    # Images close in time repeat each other's errors, whose correlation falls by e in this time.
    correlation_time_s: float = 1.0
    # Share of a fit's variance that is the same error in all images of a person: however many
    # there are, they are worth no more than 1 / shared_variance of them.
    shared_variance: float = 0.5
    expression_time_s: float = 0.3  # in which a remembered expression fades by e

    def __post_init__(self) -> None:
        for name in ('correlation_time_s', 'expression_time_s'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name}: {getattr(self, name)} is not positive')
        if not 0 <= self.shared_variance <= 1:
            raise ValueError(f'shared_variance: {self.shared_variance} is not in [0, 1]')


@dataclass(frozen=True)
class TrackingOptions(FilterOptions):
    """How faces are followed from image to image."""

    detect_every: int = option(
        5,
        'images between detections while all tracked faces are in view',
        unit='images',
        low=1,
        high=1000,
    )
    lost_after_s: float = option(
        1.0, 'a face not seen for this time is forgotten', unit='s', low=0.01, high=60
    )
    gate_m: float = option(
        0.5,
        'a face farther than this from its prediction, across the line of sight, is a new track',
        unit='m',
        low=0.05,
        high=5,
    )
    filter_poses: bool = option(True, 'filter poses over time; false: as measured')
    remember_shape: bool = option(
        True, "estimate a person's shape and size over time; false: from each image alone"
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
