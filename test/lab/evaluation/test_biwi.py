# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The BIWI protocol, on frames written here as BIWI's publishers write them."""

import re

import cv2
import numpy as np
import pytest
from face_pose_lab.evaluation import biwi, metrics
from face_pose_lab.evaluation.data_error import DataError
from helpers.portraits import portrait_view
from scipy.spatial.transform import Rotation

from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.geometry import rotations
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import deformable_face

CAMERA = Camera.from_K([500, 0, 320, 0, 500, 240, 0, 0, 1], 640, 480)
TO_LABEL = np.eye(4)
TO_LABEL[:3, :3] = metrics.R_HEAD_LABEL
DEPTH_TO_COLOUR = np.eye(4)
DEPTH_TO_COLOUR[:3, :3] = Rotation.from_rotvec([0.01, -0.02, 0.005]).as_matrix()
DEPTH_TO_COLOUR[:3, 3] = 0.025, -0.001, 0.002


def write_frame(folder, image, camera, T_rgb_head, number=3):
    """A frame whose head has this pose in the colour camera."""
    folder.mkdir(exist_ok=True)
    stem = folder / f'frame_{number:05d}'
    cv2.imwrite(f'{stem}_rgb.png', image[..., ::-1])
    T = np.linalg.inv(DEPTH_TO_COLOUR) @ T_rgb_head
    rows = [*T[:3, :3], [], 1000 * T[:3, 3]]
    (folder / f'{stem.name}_pose.txt').write_text(_lines(rows))
    D = DEPTH_TO_COLOUR
    rows = [*camera.K, [0, 0, 0, 0], *D[:3, :3], 1000 * D[:3, 3]]
    size = f'\n\n{camera.width} {camera.height}'
    (folder / 'rgb.cal').write_text(_lines(rows) + size)


def _lines(rows):
    return '\n'.join(' '.join(str(float(v)) for v in row) for row in rows)


def labels(count, rng):
    """Poses (N, 4, 4) of BIWI's heads, turned by up to 60 deg."""
    angles = rng.uniform(-60, 60, (count, 3))
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = metrics.rotation_from_label(angles)
    T[:, :3, 3] = rng.uniform([-0.2, -0.2, 0.8], [0.2, 0.2, 1.2], (count, 3))
    return T


def test_labels_are_moved_to_the_colour_camera(tmp_path):
    T = labels(2, np.random.default_rng(0))
    for i in range(2):
        write_frame(tmp_path / '07', np.zeros((480, 640, 3), np.uint8), CAMERA, T[i], i)
    frames = list(biwi.read_frames(tmp_path))
    assert [f.path.name for f in frames] == ['frame_00000_rgb.png', 'frame_00001_rgb.png']
    np.testing.assert_allclose([f.T_cam_head for f in frames], T, atol=1e-9)
    np.testing.assert_allclose(frames[0].camera.K, CAMERA.K)


def write_depth(folder, z_mm, number=3):
    """Runs of zeros and of depths in turn, and the depth camera's own calibration."""
    flat, runs = z_mm.ravel(), [np.array(z_mm.shape[::-1], '<i4').tobytes()]
    edges = np.flatnonzero(np.diff(flat != 0)) + 1
    parts = np.split(flat, edges)
    if flat[0]:
        parts.insert(0, flat[:0])
    for empty, full in zip(parts[::2], [*parts[1::2], flat[:0]], strict=False):
        runs.append(np.array([len(empty), len(full)], '<i4').tobytes() + full.tobytes())
    (folder / f'frame_{number:05d}_depth.bin').write_bytes(b''.join(runs))
    rows = [*CAMERA.K, [0, 0, 0, 0], *np.eye(3), [0, 0, 0]]
    (folder / 'depth.cal').write_text(_lines(rows) + '\n\n640 480')


def test_depth_images_are_read_with_their_camera_and_place(tmp_path):
    write_frame(tmp_path / '01', np.zeros((480, 640, 3), np.uint8), CAMERA, np.eye(4))
    z = (np.arange(480 * 640) % 911).reshape(480, 640).astype(np.uint16)
    z[z < 300] = 0
    write_depth(tmp_path / '01', z)
    (frame,) = biwi.read_frames(tmp_path)
    depth = frame.depth()
    np.testing.assert_array_equal(depth.z, z)
    np.testing.assert_allclose(depth.T_cam_depth, DEPTH_TO_COLOUR, atol=1e-9)
    path = tmp_path / '01' / 'frame_00003_depth.bin'
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r'frame_00003_depth\.bin'):
        frame.depth()


@pytest.mark.parametrize('name', ['rgb.cal', 'frame_00003_pose.txt'])
@pytest.mark.parametrize('content', [None, 'words', '1 2 3'])
def test_a_damaged_file_is_named(name, content, tmp_path, capsys):
    write_frame(tmp_path / '01', np.zeros((480, 640, 3), np.uint8), CAMERA, np.eye(4))
    path = tmp_path / '01' / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit):
        biwi.main(['export', '--data', str(tmp_path), '--out', str(tmp_path / 'poses.npz')])
    assert str(path) in capsys.readouterr().err


def test_an_image_that_does_not_fit_its_camera_is_named(tmp_path):
    write_frame(tmp_path / '01', np.zeros((240, 320, 3), np.uint8), CAMERA, np.eye(4))
    (frame,) = biwi.read_frames(tmp_path)
    with pytest.raises(DataError, match=r'size \(240, 320\), rgb\.cal says \(480, 640\)'):
        frame.image()
    frame.path.write_bytes(b'nonsense')
    with pytest.raises(DataError, match=r'frame_00003_rgb\.png: no image'):
        frame.image()


def test_a_camera_that_cannot_be_is_named(tmp_path):
    write_frame(tmp_path / '01', np.zeros((480, 640, 3), np.uint8), CAMERA, np.eye(4))
    path = tmp_path / '01' / 'rgb.cal'
    path.write_text(path.read_text().replace('500.0', '-500.0'))
    with pytest.raises(DataError, match=r'rgb\.cal'):
        list(biwi.read_frames(tmp_path))


def test_a_folder_without_frames_is_named(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        list(biwi.read_frames(tmp_path))


def known(T_label, wrong=None):
    """Estimates without errors of heads whose origin lies elsewhere, in our axes."""
    to_ours = np.eye(4)
    to_ours[:3, :3] = metrics.R_HEAD_LABEL.T
    to_ours[:3, 3] = 0.01, 0.03, -0.09
    T = T_label @ to_ours
    if wrong is not None:
        T[:, :3, :3] = Rotation.from_rotvec(wrong).as_matrix() @ T[:, :3, :3]
    covariance = np.tile(np.eye(6), (len(T), 1, 1))
    return biwi.Export(np.array([str(i) for i in range(len(T))]), T_label, T, covariance)


def test_another_origin_of_the_head_is_no_error():
    rows, positions = biwi.score(known(labels(40, np.random.default_rng(1))))
    assert rows[-1].faces == 40
    assert rows[-1].found == 1
    assert rows[-1].mae_deg == pytest.approx(0, abs=1e-5)
    assert positions.distance_mm == pytest.approx(0, abs=1e-6)


def test_errors_of_known_size_are_found():
    T = labels(40, np.random.default_rng(2))
    rows, _ = biwi.score(known(T, np.deg2rad([5, 0, 0])))
    assert rows[-1].geodesic_mean_deg == pytest.approx(5, abs=1e-5)
    moved = known(T)
    # Half of the heads too near, half too far: no constant offset explains that.
    moved.T_cam_head[:, 2, 3] += 0.02 * (-1) ** np.arange(40)
    _, positions = biwi.score(moved)
    assert positions.z_mm == pytest.approx(20, abs=3)
    assert positions.x_mm < 3


def test_frames_without_a_face_count_as_not_found(tmp_path, capsys):
    data = known(labels(4, np.random.default_rng(3)))
    data.T_cam_head[1], data.covariance[1] = np.nan, np.nan
    rows, _ = biwi.score(data)
    assert rows[-1].found == 0.75
    data.T_cam_head[:], data.covariance[:] = np.nan, np.nan
    rows, positions = biwi.score(data)
    assert rows[-1].found == 0
    assert positions is None
    data.save(tmp_path / 'poses.npz')
    biwi.main(['score', str(tmp_path / 'poses.npz')])
    assert 'BIWI' in capsys.readouterr().out


def test_a_photograph_goes_all_the_way(tmp_path, capsys):
    image, camera = portrait_view()
    (face,) = FacePoseEstimator('cpu').estimate(image, camera)
    write_frame(tmp_path / '01', image, camera, face.T_cam_head @ TO_LABEL)
    out = tmp_path / 'poses.npz'
    biwi.main(['export', '--data', str(tmp_path), '--out', str(out)])
    data = biwi.Export.load(out)
    assert data.names.tolist() == ['01/frame_00003']
    rows, _ = biwi.score(data)
    assert rows[-1].geodesic_mean_deg < 0.01
    biwi.main(['score', str(out), '--json', str(tmp_path / 'figures.json')])
    assert '100.0%' in capsys.readouterr().out
    assert '"distance_mm"' in (tmp_path / 'figures.json').read_text()


def test_a_fitted_face_is_compared_with_a_scan_along_its_rays(tmp_path, capsys):
    image, camera = portrait_view()
    (face,) = FacePoseEstimator('cpu').estimate(image, camera)
    model = deformable_face()
    xyz = rotations.apply(face.T_cam_head, model.points(face.shape[None])[0])
    far = 1e3 * face.distance
    assert biwi.surface_gap_mm(face, xyz) == pytest.approx(0, abs=0.002 * far)
    assert biwi.surface_gap_mm(face, 0.95 * xyz) == pytest.approx(0.05 * far, abs=0.003 * far)

    T_label = face.T_cam_head @ TO_LABEL
    write_frame(tmp_path / '01', image, camera, T_label)
    write_depth(tmp_path / '01', np.zeros((480, 640), np.uint16))
    with pytest.raises(DataError, match=r'01\.obj'):
        next(biwi.read_frames(tmp_path)).scan()
    scan_mm = 1e3 * rotations.apply(np.linalg.inv(T_label), 0.95 * xyz)
    lines = [f'v {x:.3f} {y:.3f} {z:.3f}' for x, y, z in scan_mm]
    (tmp_path / '01.obj').write_text('\n'.join([*lines, 'f 1 2 3']))
    biwi.main(['surface', '--data', str(tmp_path)])
    text = capsys.readouterr().out
    assert re.findall(r'gap \+(\d+)', text)[0] in {f'{0.05 * far + d:.0f}' for d in (-2, -1, 0, 1)}
    assert text.count('rotation 0.0 deg') == 2  # the depth image is empty


def test_a_file_of_something_else_is_named(tmp_path):
    path = tmp_path / 'poses.npz'
    path.write_bytes(b'nonsense')
    with pytest.raises(DataError, match=str(path)):
        biwi.Export.load(path)
