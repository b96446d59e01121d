# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The whole estimator on real photographs."""

import ctypes
import multiprocessing
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.asserts import assert_poses_close
from helpers.photographs import PORTRAIT_FACES, fill, load_sample, paste_portrait
from helpers.portraits import portrait_view, without_face
from scipy.spatial.transform import Rotation

from face_pose_ros import Camera, EstimatorOptions, FacePoseEstimator
from face_pose_ros.engines.network import Network
from face_pose_ros.engines.networks import load_networks
from face_pose_ros.options import KeypointOptions, PoseOptions, TrackingOptions
from face_pose_ros.results import Faces
from face_pose_ros.samples import load_image
from face_pose_ros.virtual_camera import (
    View,
    lens_camera,
    look_at,
    photo_camera,
    render_view,
)
from face_pose_ros.weights import load_weights

GROUP = Path(__file__).parents[2] / 'shared/eval/group/six.jpg'
FACE_FREE = (
    'brick.png',
    'chelsea.png',
    'clock_motion.png',
    'coffee.png',
    'color.png',
    'grass.png',
    'gravel.png',
    'hubble_deep_field.jpg',
    'rocket.jpg',
    'ihc.png',
)


@pytest.fixture(scope='module')
def estimator():
    return FacePoseEstimator()


def estimate(estimator, rgb):
    return estimator.estimate(rgb, photo_camera(rgb.shape[1], rgb.shape[0]))


@pytest.mark.parametrize('name', PORTRAIT_FACES)
def test_a_portrait_gives_one_plausible_head(estimator, name):
    rgb, camera = portrait_view(name)
    (face,) = estimator.estimate(rgb, camera)
    R, t = face.T_cam_head[:3, :3], face.T_cam_head[:3, 3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(R) == pytest.approx(1)
    # Both sitters face the camera within 40 deg and sit upright within 20.
    assert -R[2, 0] > np.cos(np.deg2rad(40))
    assert -R[1, 2] > np.cos(np.deg2rad(20))
    # The sellion lies at the root of the nose, above the face's middle.
    uv = camera.project(t).uv
    (x, y), height = PORTRAIT_FACES[name]
    assert abs(uv[0] - x) < 0.15 * height
    assert -0.3 * height < uv[1] - y < 0
    # A face is about 0.18 m from hairline to chin; the portrait's focal length is a guess.
    assert t[2] == pytest.approx(camera.K[1, 1] * 0.18 / height, rel=0.2)
    assert face.score > 0.9
    assert face.keypoints_uv.shape == (478, 2)
    assert face.keypoints_sigma_px.shape == (478,)
    x_min, y_min, x_max, y_max = face.box_xyxy
    assert x_min < uv[0] < x_max
    assert y_min < uv[1] < y_max
    sigma = np.sqrt(np.diag(face.covariance))
    assert 0.02 < sigma[2] / t[2] < 0.2  # depth: the unknown size of the face
    assert sigma[2] > 3 * sigma[0]  # is worse than what the picture shows
    assert np.deg2rad(0.2) < sigma[3:].min() < sigma[3:].max() < np.deg2rad(10)


def test_all_six_faces_of_a_group(estimator):
    if not GROUP.exists():
        pytest.skip('the group photograph is not part of the repository (research licence)')
    faces = estimate(estimator, load_image(GROUP))
    assert len(faces) == 6
    assert all(face.score > 0.9 for face in faces)


@pytest.mark.parametrize('name', PORTRAIT_FACES)
@pytest.mark.parametrize('height_px', [48, 80, 160, 320])
def test_portraits_pasted_into_720p_are_found(estimator, name, height_px):
    background = fill(load_sample('coffee.png'), 1280, 720)
    for centre in ((640, 360), (1000, 300)):
        faces = estimate(estimator, paste_portrait(background, name, height_px, centre))
        assert len(faces) == 1
        middle = 0.5 * (faces[0].box_xyxy[:2] + faces[0].box_xyxy[2:])
        np.testing.assert_allclose(middle, centre, atol=0.25 * height_px)


@pytest.mark.parametrize('name', FACE_FREE)
def test_photographs_without_a_face(estimator, name):
    assert estimate(estimator, load_sample(name)) == []


def test_given_boxes_skip_detection(estimator, monkeypatch):
    rgb, camera = portrait_view()
    (detected,) = estimator.estimate(rgb, camera)
    monkeypatch.setattr(estimator, 'detector', None)
    (given,) = estimator.estimate(rgb, camera, boxes_xyxy=[[160, 120, 365, 340]])
    poses = [f.T_cam_head[None] for f in (detected, given)]
    assert_poses_close(*poses, max_deg=2, max_mm=20)
    assert estimator.estimate(rgb, camera, boxes_xyxy=np.empty((0, 4))) == []


def test_a_stated_interpupillary_distance_moves_the_head_along_its_ray():
    rgb, camera = portrait_view()
    known = PoseOptions(interpupillary_mm=70.0, interpupillary_sigma_mm=0.5)
    (anybody,) = FacePoseEstimator().estimate(rgb, camera)
    (one,) = FacePoseEstimator(options=EstimatorOptions(pose=known)).estimate(rgb, camera)
    t, t_one = anybody.T_cam_head[:3, 3], one.T_cam_head[:3, 3]
    np.testing.assert_allclose(one.T_cam_head[:3, :3], anybody.T_cam_head[:3, :3], atol=1e-6)
    np.testing.assert_allclose(t_one / t, (t_one / t).mean(), rtol=1e-6)
    assert 1.04 < (t_one / t).mean() < 70 / 63
    ray = t / np.linalg.norm(t)
    assert ray @ one.covariance[:3, :3] @ ray < 0.85 * (ray @ anybody.covariance[:3, :3] @ ray)
    np.testing.assert_allclose(one.covariance[3:, 3:], anybody.covariance[3:, 3:], rtol=1e-5)


def test_own_weights_are_used_with_their_own_calibration(tmp_path):
    safetensors = pytest.importorskip('safetensors.numpy', reason='needs safetensors')
    tensors = {key: x.copy() for key, x in load_weights('keypoint_network').items()}
    tensors['calibration'][:2] *= 2.25  # of the covariances
    safetensors.save_file(tensors, tmp_path / 'own.safetensors')
    rgb, camera = portrait_view()
    (usual,) = FacePoseEstimator('cpu').estimate(rgb, camera)
    weights = {'keypoint_network': tmp_path / 'own.safetensors'}
    (doubted,) = FacePoseEstimator('cpu', weights=weights).estimate(rgb, camera)
    assert np.isfinite(usual.keypoints_sigma_px).all()
    ratio = doubted.keypoints_sigma_px / usual.keypoints_sigma_px
    np.testing.assert_allclose(ratio, 1.5, rtol=1e-5)


def test_other_options_count_from_the_next_image():
    rgb, camera = portrait_view()
    estimator = FacePoseEstimator()
    (before,) = estimator.track(rgb, camera, 0.0)
    known = PoseOptions(interpupillary_mm=70.0, interpupillary_sigma_mm=0.5)
    estimator.configure(
        EstimatorOptions(pose=known, keypoints=KeypointOptions(max_crops=1, min_presence=0.4))
    )
    (after,) = estimator.estimate(rgb, camera)
    (expected,) = FacePoseEstimator(options=estimator.options).estimate(rgb, camera)
    np.testing.assert_array_equal(after.T_cam_head, expected.T_cam_head)
    assert estimator.track(rgb, camera, 0.03)[0].id == before.id


def test_another_interpupillary_distance_moves_tracked_faces_too():
    rgb, camera = portrait_view()
    estimator = FacePoseEstimator()
    for i in range(30):
        (before,) = estimator.track(rgb, camera, i / 30)
    estimator.configure(EstimatorOptions(pose=PoseOptions(interpupillary_mm=75.0)))
    (expected,) = estimator.estimate(rgb, camera)
    for i in range(30, 60):
        (after,) = estimator.track(rgb, camera, i / 30)
    assert after.id == before.id
    assert after.distance == pytest.approx(expected.distance, rel=0.02)
    assert after.distance > 1.05 * before.distance


def test_an_id_stays_and_returns(estimator):
    rgb, camera = portrait_view()
    estimator = FacePoseEstimator()
    ids = [estimator.track(rgb, camera, stamp_s)[0].id for stamp_s in (0.0, 0.03, 0.07)]
    assert ids == ['f00001'] * 3
    assert estimator.track(without_face(rgb), camera, 0.1) == []
    assert estimator.track(rgb, camera, 0.5)[0].id == 'f00001'
    assert estimator.track(without_face(rgb), camera, 2.0) == []
    assert estimator.track(rgb, camera, 2.1)[0].id == 'f00002'
    assert estimator.track(rgb, camera, 1.0)[0].id == 'f00003'  # time went back


@pytest.mark.parametrize('stamp_s', [np.nan, np.inf, -np.inf])
def test_a_stamp_that_is_no_time_is_refused_and_the_track_goes_on(stamp_s):
    rgb, camera = portrait_view()
    estimator = FacePoseEstimator()
    (before,) = estimator.track(rgb, camera, 0.0)
    with pytest.raises(ValueError, match='stamp_s must be a finite number of seconds'):
        estimator.track(rgb, camera, stamp_s)
    assert estimator.track(rgb, camera, 0.03)[0].id == before.id


def test_an_estimator_from_before_a_fork_is_an_error_and_does_not_wait_for_ever():
    rgb, camera = portrait_view()
    estimator = FacePoseEstimator()
    estimator.track(rgb, camera, 0.0)
    context = multiprocessing.get_context('fork')

    def answer():
        for call in (
            lambda: estimator.estimate(rgb, camera),
            lambda: estimator.track(rgb, camera, 0),
        ):
            with pytest.raises(
                RuntimeError, match=f'used in process {os.getppid()}, before the fork'
            ):
                call()

    child = context.Process(target=answer)
    child.start()
    child.join(60)
    child.kill()
    child.join()
    assert child.exitcode == 0


def shots_of(name, *cameras):
    """Images of a portrait by cameras with the same centre and direction."""
    photo, photo_cam = portrait_view(name)
    return [(render_view(photo, photo_cam, View(np.eye(3), camera)), camera) for camera in cameras]


def test_a_face_is_followed_through_another_lens_and_into_pictures_of_another_size(monkeypatch):
    """Keypoints are carried over by their rays; a pending detection is dropped."""
    _, photo_cam = portrait_view('astronaut')
    f, cx, cy = photo_cam.K[0, 0], *photo_cam.K[:2, 2]
    cameras = [
        lens_camera([s * f, 0, s * cx, 0, s * f, s * cy, 0, 0, 1], *size, lens)
        for s, size, lens in (
            (1.0, (512, 512), 'none'),
            (0.5, (256, 256), 'none'),
            (1.25, (640, 640), 'equidistant'),
            (0.6, (320, 320), 'plumb_bob'),
        )
    ]
    estimator = FacePoseEstimator(
        options=EstimatorOptions(tracking=TrackingOptions(detect_every=1))
    )
    shots = shots_of('astronaut', *cameras)
    for i in range(3):
        (seen,) = estimator.track(*shots[0], i / 30)
    detections = []
    monkeypatch.setattr(
        estimator.detector, 'detect', lambda *_: detections.append(1) or Faces.of_boxes([])
    )
    for i, shot in enumerate(shots[1:]):
        (followed,) = estimator.track(*shot, 0.1 + i / 30)
        assert followed.id == seen.id
        poses = [f.T_cam_head[None] for f in (followed, seen)]
        assert_poses_close(*poses, max_deg=2, max_mm=25)


def test_a_tracked_face_is_not_detected_again(monkeypatch):
    rgb, camera = portrait_view()
    estimator = FacePoseEstimator(
        options=EstimatorOptions(tracking=TrackingOptions(detect_every=4))
    )
    detections = []
    detect = estimator.detector.detect
    monkeypatch.setattr(
        estimator.detector, 'detect', lambda *image: detections.append(1) or detect(*image)
    )
    for i in range(9):
        assert len(estimator.track(rgb, camera, i / 30)) == 1
    assert len(detections) == 3  # image 0, and for images 4 and 8 the ones before them


def test_a_second_face_is_found_in_the_slack_after_an_image():
    background = fill(load_sample('coffee.png'), 1280, 720)
    one = paste_portrait(background, 'grace_hopper', 150, (350, 360))
    two = paste_portrait(one, 'astronaut', 130, (900, 360))
    camera = photo_camera(1280, 720)
    estimator = FacePoseEstimator(
        'cpu', EstimatorOptions(tracking=TrackingOptions(detect_every=3))
    )
    counts = [len(estimator.track(two if i else one, camera, i / 30)) for i in range(6)]
    # Detected after image 2 and measured after image 3, it is in the poses of image 4.
    assert counts == [1, 1, 1, 1, 2, 2]
    # After a step back in time or a long gap, old positions are not measured.
    assert len(estimator.track(two, camera, 0.0)) == 2
    assert len(estimator.track(two, camera, 9.0)) == 2


def test_a_false_detection_delays_no_image_with_a_tracked_face(monkeypatch):
    rgb, camera = portrait_view()
    estimator = FacePoseEstimator(
        options=EstimatorOptions(tracking=TrackingOptions(detect_every=2))
    )
    detect, on_crops = estimator.detector.detect, estimator.keypoints.network.on_crops
    false = Faces.of_boxes([[5, 5, 95, 95]])
    crops_here, crops_elsewhere = [], []

    def detect_too_much(image, camera):
        faces = detect(image, camera)
        return Faces(
            np.concatenate([faces.boxes_xyxy, false.boxes_xyxy]),
            np.concatenate([faces.scores, false.scores]),
        )

    def on_crops_in_a_thread(image, crops, camera):
        here = threading.current_thread() is threading.main_thread()
        (crops_here if here else crops_elsewhere).append(len(crops))
        return on_crops(image, crops, camera)

    monkeypatch.setattr(estimator.detector, 'detect', detect_too_much)
    monkeypatch.setattr(estimator.keypoints.network, 'on_crops', on_crops_in_a_thread)
    estimator.track(rgb, camera, 0.0)
    crops_here.clear()
    for i in range(1, 9):
        assert len(estimator.track(rgb, camera, i / 30)) == 1
    assert crops_here == [1] * 8
    estimator.drop_pending_detection()
    assert sum(crops_elsewhere) >= 4  # at least one of each false detection


def test_tracking_gives_the_pose_of_a_single_image():
    rgb, camera = portrait_view()
    estimator = FacePoseEstimator()
    for i in range(6):
        (tracked,) = estimator.track(rgb, camera, i / 30)
    (fresh,) = estimator.estimate(rgb, camera)
    poses = [f.T_cam_head[None] for f in (tracked, fresh)]
    assert_poses_close(*poses, max_deg=1.5, max_mm=20)


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((600, 512), np.uint8), r'\(H, W, 3\) uint8'),
        (np.zeros((600, 512, 3), np.float32), r'float32'),
        (
            np.zeros((512, 600, 3), np.uint8),
            '600 x 512 but the camera is .* for 512 x 600',
        ),
    ],
)
def test_other_images_are_refused(estimator, image, message):
    with pytest.raises(ValueError, match=message):
        estimator.estimate(image, Camera.from_K([900, 0, 255, 0, 900, 300, 0, 0, 1], 512, 600))


@pytest.mark.parametrize(
    'boxes', [[[10, 10, 5, 20]], [[0, 0, np.nan, 5]], [[0, 0, 10, 10], [5, 5, 5, 9]]]
)
def test_bad_boxes_are_refused(estimator, boxes):
    rgb, camera = portrait_view()
    with pytest.raises(ValueError, match='boxes_xyxy must be finite'):
        estimator.estimate(rgb, camera, boxes)


@pytest.mark.parametrize('boxes', [np.zeros((4, 2)), [[1, 2, 3]], 5.0, [[[1, 2], [3, 4]]]])
def test_boxes_of_another_shape_are_refused(estimator, boxes):
    rgb, camera = portrait_view()
    with pytest.raises(ValueError, match=r'boxes_xyxy must have the shape \(N, 4\), got \('):
        estimator.estimate(rgb, camera, boxes)


def test_a_device_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="device 'cuda:77' is not one of auto, cpu"):
        FacePoseEstimator('cuda:77')


class Counted(Network):
    """A network that keeps the number of pictures of each call."""

    def __init__(self, network):
        self.network, self.counts = network, []

    def __call__(self, pictures):
        self.counts.append(len(pictures))
        return self.network(pictures)


def test_warming_up_runs_both_networks_on_one_crop_and_on_several():
    networks = load_networks('cpu')
    detector, keypoints = Counted(networks.detector), Counted(networks.keypoints)
    networks = networks._replace(detector=detector, keypoints=keypoints)
    FacePoseEstimator(networks=networks).warm_up()
    assert set(detector.counts) == {1}
    assert set(keypoints.counts) == {1, 2}


@pytest.mark.parametrize(
    'libc', [SimpleNamespace(), SimpleNamespace(malloc_trim=lambda pad: None)]
)
def test_warming_up_works_with_any_libc(monkeypatch, libc):
    estimator = FacePoseEstimator('cpu')
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: libc)
    estimator.warm_up()


def panned(phase: float) -> tuple[np.ndarray, Camera]:
    """A portrait, and a camera that has panned, rolled and zoomed over it by so much of pi."""
    photo, photo_cam = portrait_view()
    ray = photo_cam.unproject([263.0, 232.0]).rays
    sweep = -np.cos(np.pi * phase)
    angles = 14 * sweep, 8 * np.sin(2 * np.pi * phase), 14 * np.sin(np.pi * phase - 0.5)
    turn = Rotation.from_euler('YXZ', angles, degrees=True).as_matrix()
    f = 520 + 150 * sweep
    camera = lens_camera([f, 0, 341, 0, 1.02 * f, 225, 0, 0, 1], 640, 480, 'none')
    return render_view(photo, photo_cam, View(look_at(ray) @ turn, camera)), camera


@pytest.mark.parametrize(('begin', 'end'), [(18, 24), (23, 28), (28, 33), (33, 39)])
def test_after_lost_images_a_face_far_from_where_it_was_is_measured_as_well(estimator, begin, end):
    """A crop at the old place shows a part of the face, and its keypoints nearly converge."""
    moved = panned(end / 59)
    single = estimator.estimate(*moved)[0].T_cam_head
    estimator.tracker.reset()
    (before,) = estimator.track(*panned(begin / 59), 7.0)
    (face,) = estimator.track(*moved, 7.0 + (end - begin) / 30)
    assert face.id == before.id
    assert_poses_close(face.T_cam_head[None], single[None], max_deg=3, max_mm=25)


def test_a_face_where_the_lens_has_no_direction_is_counted(estimator):
    # r (1 - r^2 / 2) turns back 381 px from the middle; the first box lies farther out.
    K = [[700, 0, 639.5], [0, 700, 359.5], [0, 0, 1]]
    camera = Camera.from_K(K, 1280, 720, (-0.5, 0, 0, 0))
    image = np.full((720, 1280, 3), 128, np.uint8)
    before = estimator.faces_without_rays
    assert estimator.estimate(image, camera, [[1100, 40, 1240, 180], [570, 290, 710, 430]]) == []
    assert estimator.faces_without_rays == before + 1
