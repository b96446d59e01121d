"""Messages <-> arrays: pure functions of data and header, no node, no context."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from cv_bridge import CvBridge, CvBridgeError
from geometry_msgs.msg import (
    Pose,
    PoseArray,
    PoseStamped,
    PoseWithCovarianceStamped,
    TransformStamped,
)
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.results import FacePose
from face_pose_ros.ros.compat import quat_xyzw_from_matrix

# gaze_<id>: z along the face's x, x to the person's right, y down (REP-155).
R_HEAD_GAZE = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])

_CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}
# Names that sensor_msgs and drivers use for the models of `Camera`.
_DISTORTION_MODELS = {'fisheye': 'equidistant', '': 'plumb_bob'}


class ImageError(ValueError):
    """An image message that can't be read; the text says what was expected."""


class CameraInfoError(ValueError):
    """A CameraInfo message that is no calibration; the text says what was expected."""


def image_to_rgb(msg: Image) -> NDArray[np.uint8]:
    """Pixels of an image message, (H, W, 3) uint8 RGB.

    rgb8, rgba8 and mono8 are views of the message's own memory (strided, so not contiguous in
    general); bgr8 and bgra8 cost the one copy that swaps their channels.

    Raises:
        ImageError: Size, step, data or encoding do not fit together.
    """
    if msg.height == 0 or msg.width == 0:
        raise ImageError(f'image of {msg.width} x {msg.height} px, expected a positive size')
    channels = _CHANNELS.get(msg.encoding)
    if channels is None:
        return _through_cv_bridge(msg)
    row = msg.width * channels
    _check_layout(msg, row)
    mono = channels == 1
    # The last row may come without its padding; a grey pixel is read three times.
    pixels: NDArray[np.uint8] = np.lib.stride_tricks.as_strided(
        np.frombuffer(msg.data, dtype=np.uint8),
        (msg.height, msg.width, 3 if mono else channels),
        (msg.step, channels, 0 if mono else 1),
    )
    if msg.encoding == 'bgr8':
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    if msg.encoding == 'bgra8':
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), dtype=np.uint8)
    return pixels[..., :3]


def _check_layout(msg: Image, row_bytes: int) -> None:
    if msg.step < row_bytes:
        raise ImageError(
            f'step of {msg.step} bytes, expected at least {row_bytes} for {msg.width} px of '
            f'{msg.encoding}'
        )
    expected = (msg.height - 1) * msg.step + row_bytes
    if len(msg.data) < expected:
        raise ImageError(
            f'{len(msg.data)} bytes of data, expected {expected} for {msg.width} x {msg.height} '
            f'px of {msg.encoding} with a step of {msg.step}'
        )


def _through_cv_bridge(msg: Image) -> NDArray[np.uint8]:
    try:
        pixels = CvBridge().imgmsg_to_cv2(msg, 'rgb8')
    # Besides its own error, cv_bridge lets numpy's, OpenCV's and its tables' through.
    except (CvBridgeError, ValueError, TypeError, KeyError, cv2.error) as error:
        raise ImageError(
            f"encoding '{msg.encoding}' of {msg.width} x {msg.height} px in {len(msg.data)} "
            f'bytes, expected {", ".join(_CHANNELS)} or what cv_bridge converts to rgb8 ({error})'
        ) from error
    return np.asarray(pixels, dtype=np.uint8)


def compressed_image_to_rgb(msg: CompressedImage) -> NDArray[np.uint8]:
    """Pixels of a compressed image message, (H, W, 3) uint8 RGB.

    Raises:
        ImageError: OpenCV can't decode the data.
    """
    data = np.frombuffer(msg.data, dtype=np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if bgr is None:
        raise ImageError(
            f"{data.size} bytes of format '{msg.format}', expected a JPEG or PNG picture"
        )
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def camera_from_info(msg: CameraInfo, rectified: bool = False) -> Camera:
    """Camera of the image that the CameraInfo belongs to, region of interest and binning included.

    Args:
        msg: The calibration, of the full sensor as the message definition says.
        rectified: The image is rectified: P without distortion holds instead of K and D.

    Raises:
        CameraInfoError: K (or P) is zero or not finite, or the model is unknown.
    """
    if rectified:
        name, K, dist, model = 'P', np.reshape(msg.p, (3, 4))[:, :3], (), 'plumb_bob'
    else:
        name, K = 'K', np.reshape(msg.k, (3, 3))
        dist = tuple(msg.d)
        model = _DISTORTION_MODELS.get(msg.distortion_model, msg.distortion_model)
    if not np.any(K):
        raise CameraInfoError(f'{name} is all zeros: the camera is not calibrated')
    try:
        camera = Camera.from_K(K, msg.width, msg.height, dist, model)
    except ValueError as error:
        raise CameraInfoError(str(error)) from error
    roi = msg.roi
    if roi.width and roi.height:
        camera = camera.crop(roi.x_offset, roi.y_offset, roi.width, roi.height)
    bin_x, bin_y = max(msg.binning_x, 1), max(msg.binning_y, 1)
    if bin_x > 1 or bin_y > 1:
        # Rows and columns that do not fill a bin are not read out.
        width, height = camera.width // bin_x, camera.height // bin_y
        if not (width and height):
            raise CameraInfoError(
                f'binning {bin_x} x {bin_y} leaves nothing of {camera.width} x {camera.height} px'
            )
        camera = camera.crop(0, 0, width * bin_x, height * bin_y).resize(width, height)
    return camera


def camera_info_msg(
    camera: Camera, header: Header, R: NDArray[np.float64] | None = None
) -> CameraInfo:
    """CameraInfo of a camera without region of interest or binning."""
    K = camera.K
    P = np.hstack([K, np.zeros((3, 1))])
    dist = camera.dist
    if camera.distortion_model == 'plumb_bob':
        dist = dist[:5]
    return CameraInfo(
        header=header,
        width=camera.width,
        height=camera.height,
        distortion_model=camera.distortion_model,
        d=dist.tolist(),
        k=K.ravel().tolist(),
        r=(np.eye(3) if R is None else R).ravel().tolist(),
        p=P.ravel().tolist(),
    )


def pose_msg(T_a_b: NDArray[np.float64]) -> Pose:
    """Pose of a transform (4, 4)."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = map(float, T_a_b[:3, 3])
    o = pose.orientation
    o.x, o.y, o.z, o.w = map(float, quat_xyzw_from_matrix(T_a_b[:3, :3]))
    return pose


def nearest_face(faces: Sequence[FacePose]) -> FacePose:
    """Whoever stands nearest to the camera, of at least one: the primary face."""
    return min(faces, key=lambda face: float(np.linalg.norm(face.T_cam_head[:3, 3])))


def pose_stamped_msg(face: FacePose, header: Header) -> PoseStamped:
    """The head's pose in the frame of the header."""
    return PoseStamped(header=header, pose=pose_msg(face.T_cam_head))


def pose_with_covariance_msg(face: FacePose, header: Header) -> PoseWithCovarianceStamped:
    """The head's pose and its covariance: x, y, z, rotation about the header frame's x, y, z."""
    msg = PoseWithCovarianceStamped(header=header)
    msg.pose.pose = pose_msg(face.T_cam_head)
    msg.pose.covariance = face.covariance.ravel().tolist()
    return msg


def pose_array_msg(faces: Sequence[FacePose], header: Header) -> PoseArray:
    """Poses of all heads."""
    return PoseArray(header=header, poses=[pose_msg(face.T_cam_head) for face in faces])


def transform_msg(T_a_b: NDArray[np.float64], header: Header, child: str) -> TransformStamped:
    """Transform (4, 4) of frame `child` in the frame of the header."""
    msg = TransformStamped(header=header, child_frame_id=child)
    t, pose = msg.transform.translation, pose_msg(T_a_b)
    t.x, t.y, t.z = pose.position.x, pose.position.y, pose.position.z
    msg.transform.rotation = pose.orientation
    return msg


def face_transforms(face: FacePose, header: Header) -> list[TransformStamped]:
    """Frames face_<id> and gaze_<id> of REP-155, both children of the header's frame."""
    T_cam_gaze = face.T_cam_head.copy()
    T_cam_gaze[:3, :3] = face.T_cam_head[:3, :3] @ R_HEAD_GAZE
    return [
        transform_msg(face.T_cam_head, header, f'face_{face.id}'),
        transform_msg(T_cam_gaze, header, f'gaze_{face.id}'),
    ]
