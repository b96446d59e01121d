# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Entities of face_pose_view: places, times, removal."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.cameras import make_camera
from helpers.faces import MODEL, head_pose, make_face

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')
pytest.importorskip(
    'rerun', reason='needs the rerun SDK: pip install --no-deps -r requirements-view.txt'
)

import cv2
import rerun as rr
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from face_pose_ros.geometry.camera import Camera
from face_pose_ros.ros.conversions import camera_info_msg, pose_array_msg
from face_pose_ros.ros.drawing.draw import face_points
from face_pose_ros.ros.drawing.markers import LIFETIME_S, NAMESPACES, face_markers
from face_pose_ros.ros.drawing.style import AXIS_M, SIGMAS
from face_pose_ros.ros.view.scene import Scene
from face_pose_ros.ros.view.view_node import ViewNode

K = [[80.0, 0.0, 50.25], [0.0, 82.0, 29.5], [0.0, 0.0, 1.0]]
CAMERA = Camera.from_K(K, 96, 64)
COVARIANCE = np.diag([1e-6, 4e-6, 9e-4, 1e-3, 1e-3, 1e-3])
SHAPE = np.linspace(-1.5, 2, len(MODEL.shape_names))
FACE = make_face(
    CAMERA, head_pose((0.1, -0.2, 1.5), (0.3, -0.4, 0.2)), 'f00042', 42, SHAPE, COVARIANCE
)
GREY = np.full((64, 96, 3), 96, np.uint8)
NS = 1_000_000_000
COMMAND = [sys.executable, '-m', 'face_pose_ros.ros.programs', 'face_pose_view']


@pytest.fixture(autouse=True)
def _strict():
    """Else a wrong argument is only logged."""
    rr.set_strict_mode(True)


class Recording:
    """Takes what would be written to a file."""

    def __init__(self):
        self.logged = []  # (entity, stamp_ns, archetype)
        self._stamp_ns = None

    def set_time(self, timeline, timestamp):
        assert timeline == 'stamp'
        self._stamp_ns = int(timestamp.astype(int))

    def log(self, entity, *archetypes, static=False):
        self.logged += [(entity, None if static else self._stamp_ns, a) for a in archetypes]

    def of(self, entity, kind) -> list:
        """(stamp_ns, archetype), in the order of logging."""
        return [(ns, a) for name, ns, a in self.logged if name == entity and isinstance(a, kind)]

    def one(self, entity, kind):
        ((_, archetype),) = self.of(entity, kind)
        return archetype


def values(batch) -> np.ndarray:
    return np.array(batch.as_arrow_array().to_pylist())


def header(stamp_ns: int) -> Header:
    stamp = Time(sec=stamp_ns // NS, nanosec=stamp_ns % NS)
    return Header(stamp=stamp, frame_id='camera_optical')


def markers(stamp_ns: int, *faces, gone=()) -> MarkerArray:
    return face_markers(faces, gone, header(stamp_ns), MODEL)


@pytest.fixture
def recording():
    return Recording()


@pytest.fixture
def scene(recording):
    return Scene(recording)


def in_camera(recording, entity: str, xyz) -> np.ndarray:
    """Points of an entity, in the camera's frame."""
    transform = recording.one(entity, rr.Transform3D)
    R = Rotation.from_quat(values(transform.quaternion)[0]).as_matrix()
    return np.asarray(xyz) @ R.T + values(transform.translation)[0]


def expected_in_camera(xyz_head) -> np.ndarray:
    return np.asarray(xyz_head) @ FACE.T_cam_head[:3, :3].T + FACE.T_cam_head[:3, 3]


def test_everything_has_the_images_stamp_to_the_nanosecond(scene, recording):
    stamp_ns = 1_795_289_817_124_999_786
    scene.log_image(GREY, CAMERA, stamp_ns)
    scene.log_markers(markers(stamp_ns, FACE))

    root, *others = recording.logged
    assert root[:2] == ('/', None)
    assert {ns for _, ns, _ in others} == {stamp_ns}
    drawn = {f'faces/42/{ns}' for ns in (*NAMESPACES, 'trajectory')}
    assert {entity for entity, _, _ in others} == {'camera', *drawn}


def test_the_camera_has_its_own_intrinsics_and_the_picture(scene, recording, rng):
    rgb = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    rgb = cv2.resize(rgb, (96, 64), interpolation=cv2.INTER_CUBIC)
    scene.log_image(rgb[..., ::-1], CAMERA, 5)  # a view, as of a message

    pinhole = recording.one('camera', rr.Pinhole)
    np.testing.assert_array_equal(values(pinhole.image_from_camera)[0], np.ravel(K, order='F'))
    np.testing.assert_array_equal(values(pinhole.resolution)[0], [96, 64])
    blob = values(recording.one('camera', rr.EncodedImage).blob)[0]
    decoded = cv2.imdecode(blob.astype(np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(float) - rgb).mean() < 4  # what JPEG costs


def test_a_distorted_picture_becomes_that_of_the_pinhole(scene, recording):
    camera = make_camera('plumb_bob_5')
    xyz_cam = [0.4, -0.3, 1.0]
    pinhole = Camera.from_K(camera.K, camera.width, camera.height)
    there = camera.project(xyz_cam).uv
    here = pinhole.project(xyz_cam).uv
    assert np.linalg.norm(there - here) > 3
    rgb = np.zeros((camera.height, camera.width, 3), np.uint8)
    cv2.circle(rgb, tuple(np.round(there).astype(int)), 6, (255, 255, 255), -1)
    scene.log_image(rgb, camera, 5)

    blob = values(recording.one('camera', rr.EncodedImage).blob)[0]
    grey = cv2.imdecode(blob.astype(np.uint8), cv2.IMREAD_GRAYSCALE)
    seen = np.argwhere(grey > 127)[:, ::-1].mean(0)
    np.testing.assert_allclose(seen, here, atol=1.0)


def test_the_mesh_is_the_face_at_its_pose(scene, recording):
    scene.log_markers(markers(7, FACE))

    mesh = recording.one('faces/42/mesh', rr.Mesh3D)
    points = in_camera(recording, 'faces/42/mesh', values(mesh.vertex_positions))
    expected = face_points(MODEL, SHAPE)[MODEL.triangles.ravel()]
    np.testing.assert_allclose(points, expected_in_camera(expected), atol=1e-6)
    normals = values(mesh.vertex_normals)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    # Out of the face, along x.
    assert normals[:, 0].mean() > 0.3


def test_axes_and_gaze_point_where_the_head_does(scene, recording):
    scene.log_markers(markers(7, FACE))

    axes = recording.one('faces/42/axes', rr.LineStrips3D)
    tips = in_camera(recording, 'faces/42/axes', values(axes.strips)[:, 1])
    np.testing.assert_allclose(tips, expected_in_camera(AXIS_M * np.eye(3)), atol=1e-6)
    assert len(set(values(axes.colors))) == 3
    gaze = recording.one('faces/42/gaze', rr.Arrows3D)
    tip = in_camera(recording, 'faces/42/gaze', values(gaze.origins) + values(gaze.vectors))
    np.testing.assert_allclose(tip, expected_in_camera([[1.0, 0, 0]]), atol=1e-6)


def test_the_ellipsoid_is_the_positions_covariance(scene, recording):
    scene.log_markers(markers(7, FACE))

    entity = 'faces/42/position_covariance'
    half_sizes = values(recording.one(entity, rr.Ellipsoids3D).half_sizes)[0]
    rotation = recording.one(entity, rr.Transform3D).quaternion
    R = Rotation.from_quat(values(rotation)[0]).as_matrix()
    covariance = R @ np.diag((half_sizes / SIGMAS) ** 2) @ R.T
    np.testing.assert_allclose(covariance, COVARIANCE[:3, :3], atol=1e-9)


def test_the_label_names_id_and_distance(scene, recording):
    scene.log_markers(markers(7, FACE))

    label = recording.one('faces/42/label', rr.Points3D)
    assert values(label.labels).tolist() == ['f00042 1.52 m']


def at(x: float, face_id: str):
    return make_face(CAMERA, head_pose((x, 0.0, 1.0)), face_id, int(face_id[-5:]))


def test_a_trajectory_per_id_reaches_back_five_seconds(scene, recording):
    for second in range(9):
        moving = at(0.1 * second, 'f00001')
        scene.log_markers(markers(second * NS, moving, at(-1.0, 'f00002')))

    stamp_ns, last = recording.of('faces/1/trajectory', rr.LineStrips3D)[-1]
    assert stamp_ns == 8 * NS
    np.testing.assert_allclose(values(last.strips)[0][:, 0], [0.4, 0.5, 0.6, 0.7, 0.8], atol=1e-6)
    _, other = recording.of('faces/2/trajectory', rr.LineStrips3D)[-1]
    assert (values(other.strips)[0][:, 0] == -1).all()


def test_after_time_went_back_a_trajectory_has_no_future(scene, recording):
    for second in (5, 6, 4):
        scene.log_markers(markers(second * NS, at(0.1 * second, 'f00001')))

    _, last = recording.of('faces/1/trajectory', rr.LineStrips3D)[-1]
    np.testing.assert_allclose(values(last.strips)[0][:, 0], [0.4], atol=1e-6)


def test_a_face_not_seen_again_vanishes_when_its_markers_expire(scene, recording):
    scene.log_markers(markers(10 * NS, at(0.0, 'f00001'), at(0.5, 'f00002')))
    scene.log_markers(markers(10 * NS + NS // 4, at(0.5, 'f00002')))
    end_ns = 10 * NS + round(1e9 * LIFETIME_S)
    scene.log_image(GREY, CAMERA, end_ns)
    assert recording.of('faces/1', rr.Clear) == []
    scene.log_image(GREY, CAMERA, end_ns + 1)

    ((stamp_ns, clear),) = recording.of('faces/1', rr.Clear)
    assert stamp_ns == end_ns
    assert values(clear.is_recursive).tolist() == [True]
    assert recording.of('faces/2', rr.Clear) == []
    assert recording.of('camera', rr.Pinhole)[-1][0] == end_ns + 1

    scene.log_markers(markers(11 * NS, at(0.3, 'f00001')))
    _, last = recording.of('faces/1/trajectory', rr.LineStrips3D)[-1]
    np.testing.assert_allclose(values(last.strips)[0][:, 0], [0.3], atol=1e-6)


def test_the_face_of_an_ended_track_vanishes_at_once(scene, recording):
    scene.log_markers(markers(10 * NS, at(0.0, 'f00001')))
    scene.log_markers(markers(10 * NS + 5, gone=[1]))

    assert [ns for ns, _ in recording.of('faces/1', rr.Clear)] == [10 * NS + 5]


@pytest.mark.dds
@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_the_node_records_the_images_that_are_answered(ros, tmp_path, monkeypatch, transport):
    images = []
    log_image = Scene.log_image

    def spied(self, rgb, camera, stamp_ns):
        images.append((stamp_ns, rgb.shape, camera.width))
        log_image(self, rgb, camera, stamp_ns)

    monkeypatch.setattr(Scene, 'log_image', spied)
    output = tmp_path / 'new' / 'scene.rrd'
    parameters = {'output': str(output), 'image_transport': transport}
    node = ros.add(
        ViewNode(
            context=ros.context,
            use_global_arguments=False,
            parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()],
        )
    )
    robot = ros.add(Node('robot', context=ros.context, use_global_arguments=False))
    kind, topic = (Image, 'image') if transport == 'raw' else (CompressedImage, 'image/compressed')
    image_pub = robot.create_publisher(kind, topic, qos_profile_sensor_data)
    info_pub = robot.create_publisher(CameraInfo, 'camera_info', qos_profile_sensor_data)
    markers_pub = robot.create_publisher(MarkerArray, 'face_pose/markers', 10)
    assert image_pub.get_subscription_count() == 0  # not before there is a pose node
    poses_pub = robot.create_publisher(PoseArray, 'face_pose/poses', 10)
    for publisher in (image_pub, info_pub, markers_pub, poses_pub):
        ros.wait_for(lambda publisher=publisher: publisher.get_subscription_count() == 1)

    def send(stamp_ns, answered):
        if transport == 'raw':
            msg = Image(height=64, width=96, encoding='rgb8', step=288, data=GREY.tobytes())
        else:
            data = cv2.imencode('.jpg', GREY)[1].tobytes()
            msg = CompressedImage(format='jpeg', data=data)
        msg.header = header(stamp_ns)
        image_pub.publish(msg)
        info_pub.publish(camera_info_msg(CAMERA, msg.header))
        ros.wait_for(lambda: stamp_ns in node._frames)
        if answered:
            markers_pub.publish(markers(stamp_ns, FACE))
            poses_pub.publish(pose_array_msg([FACE], msg.header))
            ros.wait_for(lambda: stamp_ns in [image[0] for image in images])

    send(1 * NS, answered=True)
    send(2 * NS, answered=False)
    send(3 * NS, answered=True)
    assert images == [(NS, (64, 96, 3), 96), (3 * NS, (64, 96, 3), 96)]
    ros.wait_for(lambda: node._scene._faces)
    node._recording.disconnect()
    listed = subprocess.run(
        [sys.executable, '-m', 'rerun_cli', 'rrd', 'print', output],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    for entity in ('/camera', '/faces/42/mesh', '/faces/42/trajectory'):
        assert f'{entity} ' in listed or f'{entity}\n' in listed, listed[:2000]


@pytest.mark.dds
@pytest.mark.parametrize(
    ('parameter', 'message'),
    [('output:=/proc/scene.rrd', 'parameter output: /proc/scene.rrd'), ('spawn:=true', 'display')],
)
def test_a_bad_start_is_one_line(process_env, tmp_path, parameter, message):
    env = {k: v for k, v in process_env.items() if k not in ('DISPLAY', 'WAYLAND_DISPLAY')}
    run = subprocess.run(
        [*COMMAND, '--ros-args', '-p', parameter],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert message in run.stderr
    assert run.stderr.count('[FATAL]') == 1
    assert 'Traceback' not in run.stderr
