# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Types of what src/ offers; the sources say more. Arrays are contiguous and of these types."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.options import FilterOptions, ShapeMemoryOptions, TrackingOptions
from face_pose_ros.results import FacePose

_Doubles = NDArray[np.float64]
_Bools = NDArray[np.bool_]
_Indices = NDArray[np.int64]
_Points = tuple[_Doubles, _Doubles, _Doubles]  # xyz_head (3, K), modes (M, 3, K), normals (3, K)

# Lenses and crops: geometry.cpp, lens.hpp, crops.hpp.
NODE_SPACING_PX: int
MAX_STEP_PX: float

class Lens:
    """A camera as compiled code takes it."""

    def __init__(
        self,
        plane: Sequence[float],  # 9, row-major: homography from the distorted plane to pixels
        inverse: Sequence[float],  # 9: its inverse
        dist: Sequence[float],  # 12: k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4, or k1 k2 k3 k4 0 ... 0
        range_max: float,  # see `Camera`
        fisheye: bool,
    ) -> None: ...
    @property
    def dist(self) -> list[float]: ...
    def project(self, xyz: _Doubles) -> tuple[_Doubles, _Bools]:
        """Pixels (P, 2) of points (P, 3), and whether they are valid (P,)."""

    def project_with_jacobians(self, xyz: _Doubles) -> tuple[_Doubles, _Bools, _Doubles]:
        """The same, and d uv / d xyz (P, 2, 3)."""

    def unproject(self, uv: _Doubles) -> tuple[_Doubles, _Bools]:
        """Unit rays (P, 3) of pixels (P, 2), and whether they are valid (P,)."""

def aim_at_boxes(
    boxes_xyxy: _Doubles, lens: Lens, size_px: float, margin: float
) -> tuple[_Doubles, _Doubles, _Bools]: ...

class Upright:
    """Indices of the keypoints that define the roll of a crop; each group counts by its mean."""

    def __init__(
        self,
        eye_right: Sequence[int] | _Indices,  # the person's own right
        eye_left: Sequence[int] | _Indices,
        forehead: Sequence[int] | _Indices,  # top of the face's midline
        chin: Sequence[int] | _Indices,  # its bottom
    ) -> None: ...

def aim_at_keypoints(
    uv: _Doubles, upright: Upright, lens: Lens, size_px: float, margin: float
) -> tuple[_Doubles, _Doubles, _Bools]: ...
def crop_jacobians(lens: Lens, R_cam_crop: _Doubles, focal_px: _Doubles) -> _Doubles: ...
def render_crops(
    image: NDArray[np.uint8], lens: Lens, R_cam_crop: _Doubles, focal_px: _Doubles, size_px: int
) -> NDArray[np.float32]: ...

# Rotations of N rows: rotations.hpp.
def rotation_exp(omega: _Doubles) -> _Doubles: ...
def rotation_of_columns(columns: _Doubles) -> _Doubles: ...
def rotation_log(R: _Doubles) -> _Doubles: ...
def left_jacobian(omega: _Doubles) -> _Doubles: ...
def quat_xyzw(R: _Doubles) -> _Doubles: ...
def move_poses(T: _Doubles, delta: _Doubles) -> None: ...

# Linear algebra: linalg.hpp.
def eliminate(A: _Doubles, B: _Doubles) -> bool: ...
def cholesky_inverse(A: _Doubles, A_inv: _Doubles) -> bool: ...
def symmetric_eigen(A: _Doubles, values: _Doubles, rows: _Doubles) -> None: ...

# Proposals of the head detector: heads.cpp.
_Point = tuple[float, float, float]

def cells_above(
    outputs: Sequence[NDArray[np.float32]], strides: Sequence[int], least: float
) -> tuple[_Doubles, _Doubles, _Doubles]: ...
def poses_of_cells(
    uv: _Doubles,
    size_px: _Doubles,
    columns: _Doubles,
    centre: _Point,
    size_m: float,
    lens: Lens,
) -> tuple[_Doubles, _Bools]: ...
def face_boxes(T_cam_head: _Doubles, xyz_face: _Doubles, lens: Lens) -> _Doubles: ...
def apparent_sizes(
    T_cam_head: _Doubles, centre: _Point, size_m: float, lens: Lens
) -> _Doubles: ...
def pose_of_normalised(T_cam_head: _Doubles, centre: _Point, size_m: float) -> _Doubles: ...
def box_rotations(rays: _Doubles) -> _Doubles: ...
def pixels_per_radian(rays: _Doubles, lens: Lens) -> _Doubles: ...

# Images: pictures.cpp.
def weighted_lines(
    lines: NDArray[np.uint8], first: _Indices, weights: NDArray[np.int32], precision: int
) -> NDArray[np.uint8]: ...
def normalise(image: NDArray[np.uint8], planes: NDArray[np.float32]) -> None: ...
def decode_rvl(words: NDArray[np.uint32], z: NDArray[np.uint16]) -> bool: ...

# Poses: pose_module.cpp, fit.hpp.
RANGE_KERNEL: int
RANGE_KERNEL_SCALE: float

def robust_kernel(kernel: int, k: float, s: float) -> tuple[float, float, float]: ...

class DepthView:
    """A depth image (H, W), uint16 in mm or float32 in m."""

    def __init__(
        self, z: NDArray, lens: Lens, R_depth_cam: _Doubles, t_depth_cam: _Doubles
    ) -> None: ...

class PoseProblem:
    """What all faces of many calls of `fit_pose` share."""

    def __init__(
        self,
        *,
        points: _Points,
        coarse: _Points,
        surface: _Points,
        stride: int,
        sample_order: _Indices,
        size_sigma: float,
        kernel: int,
        kernel_scale: float,
        visibility: bool,
        independent_keypoints: float,
        max_iterations: int,
        step_tolerance: float,
        cost_tolerance: float,
        coarse_cost_tolerance: float,
        alpha: float,
        beta: float,
        range_alpha: float,
        noise_per_m: float,
        bias_per_m: float,
    ) -> None: ...
    def solve(
        self,
        uv: _Doubles,
        cov_uv: _Doubles,
        lens: Lens,
        mean: _Doubles,
        covariance: _Doubles,
        T_init: _Doubles | None,
        depth: DepthView | None,
        threads: int,
    ) -> Any:
        """The fields of `HeadPoses`, then cost, iterations and stop of `PoseResult`."""

class PoseStages:
    """The stages of the fit of one face, for tests."""

    def __init__(
        self, problem: PoseProblem, lens: Lens, uv: _Doubles, cov_uv: _Doubles
    ) -> None: ...
    def A(self) -> _Doubles: ...
    def weight(self) -> _Doubles: ...
    def visible_A(self, T: _Doubles) -> _Doubles: ...
    def linearise(self, T: _Doubles, c: _Doubles) -> tuple[float, _Doubles, _Doubles]: ...
    def minimise(self, T: _Doubles, max_iterations: int) -> float: ...
    def closed_form(self) -> _Doubles: ...

# Tracking: tracking_module.cpp, people.hpp.
class People:
    """People over time; a sequence of C flags tells which shape coefficients are expressions."""

    id_prefix: str  # two cameras must not give two people the same id

    def __init__(
        self,
        mean: _Doubles,
        covariance: _Doubles,
        is_expression: Sequence[bool],
        options: TrackingOptions,
    ) -> None: ...
    def set_options(
        self,
        options: TrackingOptions,
        mean: _Doubles,
        covariance: _Doubles,
        is_expression: Sequence[bool],
    ) -> None: ...
    @property
    def stamp_s(self) -> float:
        """Stamp of the last image [s]."""

    @property
    def ids(self) -> list[str]:
        """Ids of all people that are not lost, measured in the last image or not."""

    def reset(self) -> None:
        """Forget all people; the numbering of ids goes on."""

    def advance(self, stamp_s: float) -> None:
        """Go on to a stamp [s] and forget lost people; an earlier stamp forgets all."""

    def known_faces(self, max_age_s: float, points: _Indices) -> tuple[list[str], _Doubles]:
        """Ids of M people, and pixels (M, P, 2) of the keypoints at P indices of Face Mesh.

        Of those measured at most max_age_s [s] before the last `advance`; predicted.
        """

    def shapes_of(self, ids: Sequence[str]) -> tuple[_Doubles, _Doubles]:
        """Mean (N, C) and covariance (N, C, C) of the shapes of N people.

        Expressions have faded up to the last `advance`. An empty id: the prior of an unknown
        person. Raises KeyError if nobody has an id.
        """

    def change_camera(self, before: Lens, after: Lens) -> None: ...
    def track(
        self, faces: Sequence[FacePose], stamp_s: float
    ) -> list[tuple[_Doubles, _Doubles, _Doubles, _Doubles, str, int]]:
        """Of each face: pose, its covariance, mean and covariance of the shape, id, number."""

    def state(self) -> dict[str, Any]:
        """All as numbers, texts, lists and dicts, but for options and priors."""

    def set_state(self, state: dict[str, Any]) -> None: ...

# Parts of it, for tests.
GATE: float

class PoseState:
    def __init__(
        self, T_cam_head: _Doubles, velocity: _Doubles, covariance: _Doubles, stamp_s: float
    ) -> None: ...
    @property
    def T_cam_head(self) -> _Doubles: ...
    @property
    def velocity(self) -> _Doubles: ...
    @property
    def covariance(self) -> _Doubles: ...
    @property
    def stamp_s(self) -> float: ...
    def predicted(self, stamp_s: float, options: FilterOptions) -> PoseState: ...
    def corrected(self, T_cam_head: _Doubles, covariance: _Doubles) -> PoseState: ...

class PoseFilter:
    def __init__(
        self, T_cam_head: _Doubles, covariance: _Doubles, stamp_s: float, options: FilterOptions
    ) -> None: ...
    @property
    def state(self) -> PoseState: ...
    def predict(self, stamp_s: float) -> PoseState: ...
    def shift(self, delta: _Doubles) -> None: ...
    def update(
        self, T_cam_head: _Doubles, covariance: _Doubles, stamp_s: float
    ) -> tuple[_Doubles, _Doubles]: ...

class ShapeMemory:
    def __init__(
        self,
        mean: _Doubles,
        covariance: _Doubles,
        is_expression: Sequence[bool],
        stamp_s: float,
        options: ShapeMemoryOptions,
    ) -> None: ...
    @property
    def shape(self) -> tuple[_Doubles, _Doubles]: ...
    def advance(self, stamp_s: float) -> None: ...
    def expect_view(self, view: _Doubles) -> None: ...
    def measure_size(self, coefficient: float, view: _Doubles) -> None: ...
    def update(
        self,
        mean: _Doubles,
        covariance: _Doubles,
        prior_mean: _Doubles,
        prior_covariance: _Doubles,
    ) -> None: ...

class FaceGivenIdentity:
    def __init__(
        self,
        T_cam_head: _Doubles,
        covariance_given_shape: _Doubles,
        pose_of_shape: _Doubles,
        mean: _Doubles,
        covariance: _Doubles,
        is_expression: Sequence[bool],
    ) -> None: ...
    @property
    def covariance(self) -> _Doubles: ...
    @property
    def pose_of_identity(self) -> _Doubles: ...
    def for_identity(
        self, mean: _Doubles, covariance: _Doubles
    ) -> tuple[_Doubles, _Doubles, _Doubles, _Doubles]: ...

def associate(
    T_known: _Doubles,
    covariance_known: _Doubles,
    identity_known: _Doubles,
    T_measured: _Doubles,
    covariance: _Doubles,
    identity: _Doubles,
    pose_of_identity: _Doubles,
    gate_m: float,
) -> dict[int, int]: ...
def assign(cost: _Doubles) -> _Indices: ...

# Keypoints: keypoints.cpp.
class Decoding:
    """The network's output and its calibration."""

    def __init__(
        self,
        numbers: int,
        step: float,
        unit: float,
        max_log: float,
        cov_gain: float,
        cov_floor_px2: float,
        presence_slope: float,
        presence_middle: float,
    ) -> None: ...

def read_keypoints(
    numbers: NDArray[np.float32],
    keypoints: int,
    decoding: Decoding,
    R_cam_crop: _Doubles,
    focal_px: _Doubles,
    valid: _Bools,
    size_px: float,
    lens: Lens,
) -> tuple[_Doubles, _Doubles, _Doubles]: ...

class CropLimits:
    """Largest differences between two crops around one face."""

    def __init__(
        self,
        scale: float,  # logarithm
        shift: float,  # of the centre, in sides of the crop
        roll: float,  # rad
    ) -> None: ...

def are_far_off(
    R_cam_crop: _Doubles,
    focal_px: _Doubles,
    uv: _Doubles,
    points: int,
    upright: Upright,
    lens: Lens,
    size_px: float,
    margin: float,
    limits: CropLimits,
) -> _Bools: ...
def reject(
    uv: _Doubles,
    cov_uv: _Doubles,
    points: int,
    far_off: _Bools,
    limit: Sequence[float] | _Doubles,
    presence: _Doubles,
) -> None: ...

# Fitted faces in the image: surface.cpp.
class Surface:
    """P points of Face Mesh: K of a model's surface, then those of the irises."""

    def __init__(
        self,
        size_sigma: float,
        xyz_head: _Doubles,  # (3, K)
        modes: _Doubles,  # (M, 3, K)
        eyelids: _Indices,  # (2, L) surface points whose mean an iris is
        nearest: _Indices,  # (P,) measured keypoint nearest to each point
    ) -> None: ...
    def seen(
        self, T_cam_head: _Doubles, shape: _Doubles, cov_uv: _Doubles | None, lens: Lens
    ) -> tuple[_Doubles, _Doubles, _Doubles]:
        """Pixels (N, P, 2), their sigma (N, P) px, infinite without cov_uv, and bounds (N, 4)."""

# Boxes: boxes.cpp.
def bounds(uv: _Doubles, points: int) -> _Doubles: ...
def each_once(
    uv: _Doubles,
    points: int,
    presence: _Doubles,
    ids: Sequence[str],
    min_presence: float,
    max_iou: float,
) -> list[int]: ...
def box_overlaps(boxes_xyxy: _Doubles) -> tuple[_Doubles, _Doubles]: ...
def suppress(same: _Bools) -> _Bools: ...
