# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings in, recordings with poses out: exact, resumable, clear about bad input."""

import array
import pickle
import re
import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from helpers.portraits import portrait_view, without_face

pytest.importorskip('rclpy', reason='needs the ROS 2 wheels (make setup) or a distribution')
pytest.importorskip('rosbags', reason='needs pip install rosbags')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray, PoseStamped, PoseWithCovarianceStamped
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String
from tf2_msgs.msg import TFMessage

from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.ros import conversions
from face_pose_ros.ros.bag import job as bag_job
from face_pose_ros.ros.bag.config import load_parameters
from face_pose_ros.ros.bag.main import main
from face_pose_ros.ros.bag.plot import plot_people, read_people
from face_pose_ros.ros.declaring import ParameterError
from face_pose_ros.ros.pipeline import FramePipeline

ROOT = Path(__file__).parents[2]
RGB, CAMERA = portrait_view()
FRAMES = 12
MESSAGES = {
    kind.__module__.split('.')[0] + '/msg/' + kind.__name__: kind
    for kind in (
        CameraInfo,
        CompressedImage,
        Image,
        PoseArray,
        PoseStamped,
        PoseWithCovarianceStamped,
        String,
        TFMessage,
    )
}
NAMES = {kind: name for name, kind in MESSAGES.items()}


def header(i: int) -> Header:
    return Header(stamp=Time(sec=1000, nanosec=40_000_000 * i), frame_id='camera_optical')


def view(i: int):
    """A window that moves over the portrait: what stays is the pose."""
    left, top, width, height = 20 + 3 * i, 10 + 2 * i, 430, 440
    return RGB[top : top + height, left : left + width], CAMERA.crop(left, top, width, height)


def image_msg(i: int, rgb: np.ndarray) -> Image:
    height, width = rgb.shape[:2]
    data = array.array('B', rgb.tobytes())
    return Image(
        header=header(i), height=height, width=width, encoding='rgb8', step=3 * width, data=data
    )


def jpeg_msg(i: int, rgb: np.ndarray) -> CompressedImage:
    jpeg = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1]
    return CompressedImage(header=header(i), format='jpeg', data=array.array('B', jpeg.tobytes()))


def recorded_ns(i: int) -> int:
    """By the recorder's clock, which is not the camera's."""
    return 5_000_000_000_000 + 40_000_000 * i


def camera_messages(image=image_msg, frames=FRAMES):
    for i in range(frames):
        rgb, camera = view(i)
        yield '/camera/image', recorded_ns(i) - 5_000_000, image(i, rgb)
        yield '/camera/info', recorded_ns(i), conversions.camera_info_msg(camera, header(i))


def write_bag(folder: Path, messages, storage=StoragePlugin.MCAP) -> Path:
    types, connections = get_typestore(Stores.LATEST), {}
    with Writer(folder, version=8, storage_plugin=storage) as writer:
        for topic, time_ns, msg in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, NAMES[type(msg)], typestore=types
                )
            writer.write(connections[topic], time_ns, serialize_message(msg))
    return folder


def read_bag(path: Path) -> dict[str, list]:
    """(time, message) by topic."""
    found = {}
    with Reader(path) as reader:
        for connection, time_ns, data in reader.messages():
            message = deserialize_message(data, MESSAGES[connection.msgtype])
            found.setdefault(connection.topic, []).append((time_ns, message))
    return found


def assert_same(path: Path, expected: Path) -> None:
    """The same messages at the same times; the networks' sums may be rounded otherwise."""
    found, wanted = read_bag(path), read_bag(expected)
    assert found.keys() == wanted.keys()
    for topic, messages in wanted.items():
        assert [time_ns for time_ns, _ in found[topic]] == [time_ns for time_ns, _ in messages]
    for (_, a), (_, b) in zip(found['/face_pose/pose'], wanted['/face_pose/pose'], strict=True):
        assert a.header == b.header
        for name in ('position', 'orientation'):
            of_a, of_b = getattr(a.pose, name), getattr(b.pose, name)
            for axis in of_a.get_fields_and_field_types():
                assert getattr(of_a, axis) == pytest.approx(getattr(of_b, axis), abs=1e-4)


@pytest.fixture(scope='module')
def recording(tmp_path_factory) -> Path:
    return write_bag(tmp_path_factory.mktemp('recorded') / 'bag', camera_messages())


@pytest.fixture(scope='module')
def converted(recording, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('converted') / 'out.mcap'
    assert main([str(recording / 'bag.mcap'), str(out)]) == 0
    return out


def test_every_image_gets_the_poses_of_track_with_its_stamp(converted):
    topics = read_bag(converted)
    prefixes = '/face_pose/', '/face_pose/faces/f00001/'
    poses = [prefix + name for prefix in prefixes for name in ('pose', 'pose_with_covariance')]
    assert set(topics) == {'/face_pose/poses', '/tf', *poses}
    assert all(len(messages) == FRAMES for messages in topics.values())
    estimator = FacePoseEstimator()
    for i in range(FRAMES):
        (face,) = estimator.track(*view(i), 1000 + 0.04 * i)
        expected = {
            'poses': conversions.pose_array_msg([face], header(i)),
            'pose': conversions.pose_stamped_msg(face, header(i)),
            'pose_with_covariance': conversions.pose_with_covariance_msg(face, header(i)),
        }
        for topic, messages in topics.items():
            time_ns, message = messages[i]
            assert time_ns == recorded_ns(i)
            if topic == '/tf':
                assert message.transforms == conversions.face_transforms([face], header(i))
            else:
                assert message == expected[topic.split('/')[-1]]


@pytest.mark.parametrize(
    ('image', 'storage', 'path'),
    [
        (jpeg_msg, StoragePlugin.MCAP, 'bag'),
        (image_msg, StoragePlugin.SQLITE3, 'bag'),
        (jpeg_msg, StoragePlugin.SQLITE3, 'bag/bag.db3'),
    ],
)
def test_folders_db3_and_compressed_images_are_read(tmp_path, image, storage, path):
    write_bag(tmp_path / 'bag', camera_messages(image, frames=3), storage)
    assert main([str(tmp_path / path), str(tmp_path / 'out.mcap')]) == 0
    messages = read_bag(tmp_path / 'out.mcap')['/face_pose/poses']
    assert [len(message.poses) for _, message in messages] == [1, 1, 1]


class Frames:
    """Counts the images worked on, and interrupts at one of them."""

    def __init__(self, monkeypatch):
        self.count, self.interrupt_at = 0, 0
        answer = FramePipeline.answer

        def counted(*args):
            self.count += 1
            if self.count == self.interrupt_at:
                raise KeyboardInterrupt
            return answer(*args)

        monkeypatch.setattr(FramePipeline, 'answer', counted)
        monkeypatch.setattr(bag_job, 'COMMIT_EVERY', 4)


def test_a_resumed_run_has_the_same_output(recording, converted, tmp_path, monkeypatch):
    frames = Frames(monkeypatch)
    command = [str(recording), str(tmp_path / 'out.mcap')]
    frames.interrupt_at = 7
    assert main(command) == 130
    assert [path.name for path in tmp_path.iterdir()] == ['out.mcap.partial']
    frames.count, frames.interrupt_at = 0, 0
    assert main(command) == 0
    assert frames.count == FRAMES - 4  # four were safe, two had to be done again
    assert_same(tmp_path / 'out.mcap', converted)
    assert {path.name for path in tmp_path.iterdir()} == {'out.mcap', 'out.png'}


def test_what_other_parameters_left_is_not_gone_on_with(recording, tmp_path, monkeypatch):
    frames = Frames(monkeypatch)
    command = [str(recording), str(tmp_path / 'out.mcap')]
    frames.interrupt_at = 7
    assert main(command) == 130
    frames.count, frames.interrupt_at = 0, 0
    config = tmp_path / 'config.yaml'
    config.write_text('face_pose: {ros__parameters: {publish_tf: false}}')
    assert main([*command, '--config', str(config)]) == 0
    assert frames.count == FRAMES
    topics = read_bag(tmp_path / 'out.mcap')
    assert '/tf' not in topics
    assert len(topics['/face_pose/poses']) == FRAMES


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_an_older_version_left_is_refused_and_never_unpickled(recording, tmp_path, capfd):
    partial, sprung = tmp_path / 'out.mcap.partial', tmp_path / 'sprung'
    output = tmp_path / 'out.mcap'
    job = bag_job.Job(recording / 'bag.mcap', output, '', '', load_parameters(None))
    with sqlite3.connect(partial) as database:
        database.execute('CREATE TABLE state (job TEXT, pickled BLOB)')
        for fingerprint in (job.fingerprint(), 'of another job'):
            row = fingerprint, pickle.dumps(Trap(sprung))
            database.execute('INSERT INTO state VALUES (?, ?)', row)
    database.close()
    line = run_badly(capfd, tmp_path, recording / 'bag.mcap')
    assert 'out.mcap.partial: left by another version' in line
    assert 'remove it to start over' in line
    assert not sprung.exists()


def test_a_damaged_state_is_refused(recording, tmp_path, capfd, monkeypatch):
    frames = Frames(monkeypatch)
    frames.interrupt_at = 7
    command = [str(recording), str(tmp_path / 'out.mcap')]
    assert main(command) == 130
    for state in ('{', '[1]', '{"pairs": 4, "tracker": {"version": 1, "people": [7]}}'):
        with sqlite3.connect(tmp_path / 'out.mcap.partial') as database:
            database.execute('UPDATE progress SET state = ?', (state,))
        database.close()
        capfd.readouterr()
        assert 'remove it to start over' in run_badly(capfd, tmp_path, recording)


@pytest.mark.slow
def test_workers_share_the_bags_and_a_bad_one_stops_none(recording, converted, tmp_path, capfd):
    second = write_bag(tmp_path / 'second', camera_messages(frames=3))
    bad = tmp_path / 'bad.mcap'
    bad.write_bytes(b'no bag')
    out = tmp_path / 'out'
    options = ['--out', str(out), '--jobs', '2']
    assert main([*map(str, (recording, bad, second)), *options]) == 2
    assert_same(out / 'bag_poses.mcap', converted)
    assert len(read_bag(out / 'second_poses.mcap')['/tf']) == 3
    assert {path.suffix for path in out.iterdir()} == {'.mcap', '.png'}
    captured = capfd.readouterr()
    assert captured.err.count('bad.mcap') == 1
    assert main([str(recording), *options]) == 0
    assert 'exists already, skipped' in capfd.readouterr().out


def run_badly(capfd, tmp_path, *args) -> str:
    """The one line that a run without a result prints."""
    before = set(tmp_path.iterdir())
    assert main([*map(str, args), str(tmp_path / 'out.mcap')]) == 2
    assert set(tmp_path.iterdir()) == before
    (line,) = capfd.readouterr().err.splitlines()
    return line


def test_missing_and_broken_files_are_one_clear_line(recording, tmp_path, capfd):
    assert 'gone.mcap: no such file' in run_badly(capfd, tmp_path, tmp_path / 'gone.mcap')
    whole = (recording / 'bag.mcap').read_bytes()
    cut = tmp_path / 'cut.mcap'
    for length in (0, 20, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        line = run_badly(capfd, tmp_path, cut)
        assert 'cut.mcap: expected a complete ROS 2 recording' in line
    for name in ('text.mcap', 'text.db3', 'text.txt'):
        (tmp_path / name).write_text('no bag')
        line = run_badly(capfd, tmp_path, tmp_path / name)
        assert f'{name}: expected a complete ROS 2 recording' in line


def test_damage_in_the_middle_is_named_and_leaves_nothing(recording, tmp_path, capfd):
    data = bytearray((recording / 'bag.mcap').read_bytes())
    end = data.index(b'camera_optical', len(data) // 2) + len(b'camera_optical\0')
    data[end : end + 40] = b'\xff' * 40  # the lengths of what follows, among others
    bad = tmp_path / 'bad.mcap'
    bad.write_bytes(data)
    assert 'bad.mcap: expected a complete' in run_badly(capfd, tmp_path, bad)


def shifted(messages):
    for topic, time_ns, msg in messages:
        if isinstance(msg, CameraInfo):
            msg.header.stamp.nanosec += 1
        yield topic, time_ns, msg


def narrowed(messages):
    for topic, time_ns, msg in messages:
        if isinstance(msg, CameraInfo):
            msg.width = 320
        yield topic, time_ns, msg


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda ms: (m for m in ms if m[0] != '/camera/image'), 'no messages of type .*Image'),
        (lambda ms: (m for m in ms if m[0] != '/camera/info'), 'no messages of type .*CameraInfo'),
        (lambda ms: [('/text', 7, String(data='x'))], 'no messages of type .*Image'),
        (shifted, 'no image on /camera/image has a CameraInfo of the same stamp on /camera/info'),
        (narrowed, '/camera/image is 430 x 440 px, expected 320 x 440 px as in /camera/info'),
        (
            lambda ms: [*ms, ('/depth', recorded_ns(9), image_msg(9, RGB))],
            'choose one of /camera/image, /depth with --image',
        ),
    ],
)
def test_unusable_contents_are_one_clear_line(tmp_path, capfd, change, expected):
    bag = write_bag(tmp_path / 'bag', change(camera_messages(frames=2)))
    line = run_badly(capfd, tmp_path, bag)
    assert re.search(r'bag: .*' + expected, line)


def test_topics_can_be_chosen(tmp_path, capfd):
    extra = ('/depth', recorded_ns(9), image_msg(9, RGB))
    bag = write_bag(tmp_path / 'bag', [*camera_messages(frames=2), extra])
    line = run_badly(capfd, tmp_path, bag, '--image', '/nowhere')
    assert 'on /nowhere, only on /camera/image, /depth' in line
    out = str(tmp_path / 'out.mcap')
    assert main([str(bag), out, '--image', '/camera/image', '--camera-info', '/camera/info']) == 0
    assert len(read_bag(out)['/face_pose/poses']) == 2


def test_a_latched_camera_info_is_that_of_all_images(tmp_path, capfd):
    rgb, camera = view(0)
    info = conversions.camera_info_msg(camera, header(99))
    images = [('/camera/image', recorded_ns(i), image_msg(i, rgb)) for i in range(3)]
    bag = write_bag(tmp_path / 'bag', [('/camera/info', recorded_ns(0) - 1, info), *images])
    assert 'if it is latched, set camera_info_is_latched' in run_badly(capfd, tmp_path, bag)
    config, out = tmp_path / 'latched.yaml', tmp_path / 'out.mcap'
    config.write_text('/**: {ros__parameters: {camera_info_is_latched: true}}')
    assert main([str(bag), str(out), '--config', str(config)]) == 0
    answers = [msg for _, msg in read_bag(out)['/face_pose/poses']]
    assert [len(msg.poses) for msg in answers] == [1, 1, 1]
    assert [msg.header for msg in answers] == [header(i) for i in range(3)]


def test_one_bad_image_is_skipped_and_reported(tmp_path, capfd):
    messages = list(camera_messages(frames=3))
    messages[2][2].encoding = 'nonsense'
    bag = write_bag(tmp_path / 'bag', [*messages, ('/camera/image', 9, image_msg(99, RGB))])
    assert main([str(bag), str(tmp_path / 'out.mcap')]) == 0
    captured = capfd.readouterr().out
    assert '2 of 4 images, 1 ids' in captured
    assert '1 without CameraInfo of the same stamp' in captured
    assert "1 unusable, the first: /camera/image: encoding 'nonsense'" in captured
    assert [t for t, _ in read_bag(tmp_path / 'out.mcap')['/tf']] == [
        recorded_ns(0),
        recorded_ns(2),
    ]


def test_warnings_of_the_node_are_reported(tmp_path, capfd):
    messages = list(camera_messages(frames=2))
    messages[1][2].header.frame_id = 'elsewhere'
    again = [(topic, time_ns + 10_000_000, msg) for topic, time_ns, msg in messages[2:]]
    bag = write_bag(tmp_path / 'bag', messages + again)
    assert main([str(bag), str(tmp_path / 'out.mcap')]) == 0
    captured = capfd.readouterr().out
    assert "frame_id 'elsewhere', expected the image's 'camera_optical'" in captured
    assert 'two images have the stamp 1000.040000000' in captured
    assert len(read_bag(tmp_path / 'out.mcap')['/tf']) == 2


def test_an_image_without_people_has_an_empty_array(tmp_path):
    rgb, camera = view(0)
    info = conversions.camera_info_msg(camera, header(0))
    messages = [('/i', 7, image_msg(0, without_face(rgb))), ('/c', 8, info)]
    assert main([str(write_bag(tmp_path / 'bag', messages)), str(tmp_path / 'out.mcap')]) == 0
    assert list(read_bag(tmp_path / 'out.mcap')) == ['/face_pose/poses']
    assert cv2.imread(str(tmp_path / 'out.png')) is not None


def test_nothing_is_overwritten(recording, tmp_path, capfd):
    out = tmp_path / 'out.mcap'
    out.write_text('mine')
    assert 'out.mcap exists already' in run_badly(capfd, tmp_path, recording)
    assert out.read_text() == 'mine'


def test_the_plot_shows_distance_yaw_and_pitch(tmp_path):
    # Towards the picture's right and upwards: +x and -y in the camera.
    yaw, pitch = np.deg2rad([30, 10])
    forward = [np.sin(yaw) * np.cos(pitch), -np.sin(pitch), -np.cos(yaw) * np.cos(pitch)]
    R = Rotation.align_vectors([forward], [[1.0, 0, 0]])[0]
    pose = PoseStamped(header=header(3))
    pose.pose.position.x, pose.pose.position.z = 0.6, 0.8
    o = pose.pose.orientation
    o.x, o.y, o.z, o.w = R.as_quat().tolist()
    bag = write_bag(tmp_path / 'bag', [('/face_pose/faces/f00007/pose', 5, pose)])
    people = read_people(bag)
    assert list(people) == ['f00007']
    person = people['f00007']
    numbers = person.stamp_s, person.distance_m, person.yaw_deg, person.pitch_deg
    np.testing.assert_allclose(np.ravel(numbers), [1000.12, 1.0, 30, 10], rtol=1e-9)
    plot_people(people, tmp_path / 'plot.png', 'one head')
    assert len(np.unique(cv2.imread(str(tmp_path / 'plot.png')).reshape(-1, 3), axis=0)) > 10


def test_the_config_file_gives_the_defaults():
    assert load_parameters(ROOT / 'config/pose.yaml') == load_parameters(None)


def test_a_config_of_the_node_is_read_as_ros_reads_it(tmp_path):
    path = tmp_path / 'pose.yaml'
    path.write_text(
        '/**:\n  ros__parameters:\n    use_sim_time: true\n'
        '    qos_overrides: {/image: {subscription: {depth: 3}}}\n'
        '    depth: {noise_per_m: 7e-3}\n'  # a text to YAML 1.1, which wants 7.0e-3
    )
    assert load_parameters(path).estimator.depth.noise_per_m == 0.007


@pytest.mark.parametrize('name', ['/cell/face_pose', '/**/face_pose', '/cell/*'])
def test_a_section_is_found_by_the_name_of_its_node_also_nested(tmp_path, name):
    path = tmp_path / 'pose.yaml'
    section = {'ros__parameters': {'threads': 3}}
    others = {'/cell/camera': {'ros__parameters': {'fps': 5}}}
    path.write_text(yaml.safe_dump(others | {name: section}))
    assert load_parameters(path).threads == 3
    namespace, node = name.rsplit('/', 1)
    path.write_text(yaml.safe_dump({namespace: {node: section}}))
    assert load_parameters(path).threads == 3


def test_a_config_of_several_cameras_is_ambiguous(tmp_path):
    path = tmp_path / 'pose.yaml'
    sections = {f'/{name}/face_pose': {'ros__parameters': {}} for name in ('front', 'left')}
    path.write_text(yaml.safe_dump(sections))
    with pytest.raises(ParameterError, match='/front/face_pose, /left/face_pose, expected one'):
        load_parameters(path)


@pytest.mark.parametrize(
    ('tree', 'message'),
    [
        ({'/**': {'ros__parameters': {'detector.min_face': 30.0}}}, 'did you mean detector.min_f'),
        ({'face_pose': {'ros__parameters': {'detector': {'min_face_px': 3.0}}}}, r'3\.0.* \[16'),
        ({'face_pose': {'ros__parameters': {'detector': {'min_face_px': 'big'}}}}, 'a float'),
        ({'face_pose': {'ros__parameters': {'image_transport': 'zip'}}}, 'zip'),
        ({'other': {'ros__parameters': {'device': 'cpu'}}}, 'expected a parameter file'),
        ({'face_pose': {'device': 'cpu'}}, 'expected a parameter file'),
        ([1], 'expected a parameter file'),
    ],
)
def test_a_bad_config_is_named(tmp_path, tree, message):
    path = tmp_path / 'bad.yaml'
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ParameterError, match=rf'bad\.yaml: .*{message}'):
        load_parameters(path)
