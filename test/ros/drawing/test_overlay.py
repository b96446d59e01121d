# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The annotated picture: what is drawn lies where the lens puts it."""

import numpy as np
import pytest
from helpers.cameras import DISTORTIONS, HEIGHT, WIDTH, make_camera
from helpers.faces import MODEL, head_pose, make_face

from face_pose_ros import Camera
from face_pose_ros.ros.drawing.draw import draw_label
from face_pose_ros.ros.drawing.overlay import draw_overlay
from face_pose_ros.ros.drawing.style import (
    AXIS_COLOURS_RGB,
    AXIS_M,
    GAZE_IN_IMAGE_M,
    SIGMAS,
    face_colour_rgb,
    face_label,
)

CAMERA = make_camera('plumb_bob_5')
RGB = np.random.default_rng(0).integers(70, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
T_HEAD = head_pose((0.12, -0.05, 0.7), (0.2, -0.5, 0.1))
FACE = make_face(CAMERA, T_HEAD)


def overlay(*faces, camera=CAMERA, rgb=RGB, caption='') -> np.ndarray:
    return draw_overlay(rgb, faces, camera, MODEL, caption)


def changed(*faces, **kwargs) -> np.ndarray:
    return (overlay(*faces, **kwargs) != RGB).any(-1)


def project(xyz_head: np.ndarray, T: np.ndarray, camera=CAMERA) -> np.ndarray:
    return camera.project(xyz_head @ T[:3, :3].T + T[:3, 3]).uv


def of_colour(rgb, picture: np.ndarray) -> np.ndarray:
    return (np.abs(picture.astype(int) - rgb) < 12).all(-1)


def test_without_faces_and_caption_it_is_the_picture():
    result = overlay()
    np.testing.assert_array_equal(result, RGB)
    assert not np.shares_memory(result, RGB)


def test_the_input_stays_as_it_is():
    before = RGB.copy()
    overlay(FACE, caption='30 Hz')
    np.testing.assert_array_equal(before, RGB)


@pytest.mark.parametrize('name', DISTORTIONS)
def test_mesh_lies_on_the_face_through_every_lens(name):
    camera = make_camera(name)
    shape = np.linspace(-1.5, 2, len(MODEL.shape_names))
    T = head_pose((0.25, -0.1, 0.7))
    mask = changed(make_face(camera, T, shape=shape), camera=camera)
    xyz_head = MODEL.points(shape[None])[0]
    u, v = np.round(project(xyz_head, T, camera)).astype(int).T
    # Of a face seen from the front nearly every triangle faces the camera.
    assert mask[v, u].mean() > 0.98
    # Left of the face there is neither an axis nor the label.
    assert np.flatnonzero(mask.any(0)).min() == pytest.approx(u.min(), abs=3)


def test_mesh_has_the_persons_own_size():
    left = {}
    for sigmas in (-3, 3):
        shape = np.zeros(len(MODEL.shape_names))
        shape[0] = sigmas
        face = make_face(CAMERA, head_pose((0.12, -0.05, 0.7)), shape=shape)
        # On the left there is neither an axis nor the label beyond the mesh.
        left[sigmas] = np.flatnonzero(changed(face).any(0)).min()
        assert left[sigmas] == pytest.approx(face.box_xyxy[0], abs=2)
    assert left[-3] - left[3] > 10


def test_axes_have_rvizs_colours():
    result = overlay(FACE)
    for axis, colour in zip(np.eye(3), AXIS_COLOURS_RGB, strict=True):
        u, v = np.round(project(0.9 * AXIS_M * axis[None], T_HEAD)[0]).astype(int)
        np.testing.assert_allclose(result[v, u].astype(int), colour, atol=12)


def test_the_gaze_ends_in_a_disc_of_the_faces_colour_at_its_two_sigma():
    covariance = np.diag([1e-9, 1e-9, 1e-9, 0.05**2, 0.0, 0.0])  # turns about the camera's x alone
    T = head_pose((0.05, -0.02, 0.9), (0.0, -0.9, 0.0))
    face = make_face(CAMERA, T, 'f00004', 4, covariance=covariance)
    result = overlay(face)
    tip = GAZE_IN_IMAGE_M * np.array([[1.0, 0, 0]])
    u, v = np.round(project(0.8 * tip, T)[0]).astype(int)
    np.testing.assert_allclose(result[v, u].astype(int), face_colour_rgb(4), atol=12)

    # A turn about x by an angle moves the end of the ray by (0, -z, y) times the angle.
    _, y, z = T[:3, :3] @ tip[0]
    ends = T[:3, 3] + T[:3, :3] @ tip[0] + SIGMAS * 0.05 * np.outer([-1, 1], [0, -z, y])
    across = CAMERA.project(ends).uv
    half_width = 0.5 * np.linalg.norm(across[1] - across[0])
    assert half_width > 5
    # On the ray to each end the disc's colour ceases there.
    middle = across.mean(0)
    for end in across:
        for share, is_inside in ((0.7, True), (1.5, False)):
            u, v = np.round(middle + share * (end - middle)).astype(int)
            assert (result[v, u] != RGB[v, u]).any() == is_inside


def test_the_nearest_face_is_drawn_last():
    behind = make_face(CAMERA, head_pose((0.16, -0.06, 0.9)), 'f00002', 2)
    np.testing.assert_array_equal(overlay(FACE, behind), overlay(behind, FACE))


def test_label_names_the_face_and_its_distance():
    assert face_label(make_face(CAMERA, head_pose((0.3, 0.4, 1.2)), 'f00012')) == 'f00012 1.30 m'
    assert face_label(make_face(CAMERA, head_pose((0.3, 0.4, 1.2)), '')) == '1.30 m'


def test_the_label_has_two_sigma_of_the_distance(monkeypatch):
    written = []
    monkeypatch.setattr(
        'face_pose_ros.ros.drawing.overlay.draw_label', lambda _, text, *__: written.append(text)
    )
    T = head_pose((0.3, 0.4, 1.2))
    ray = T[:3, 3] / 1.3
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = 0.07**2 * np.outer(ray, ray)
    overlay(make_face(CAMERA, T, 'f00012', 12, covariance=covariance))
    assert written == ['f00012 1.30 m ±0.14']


@pytest.mark.parametrize('at_uv', [(0, HEIGHT + 9), (WIDTH - 20, 0), (-99, -5), (WIDTH, HEIGHT)])
def test_label_stays_in_the_picture_on_its_backing(at_uv):
    picture = RGB.copy()
    left, top, right, bottom = draw_label(picture, 'f00003 1.30 m', at_uv, face_colour_rgb(3))
    assert 0 <= left < right <= WIDTH
    assert 0 <= top < bottom <= HEIGHT
    assert of_colour(face_colour_rgb(3)[::-1], picture[top:bottom, left]).all()  # BGR
    letters = picture[top:bottom, left:right].min(-1) > 150
    assert letters.any()
    assert not letters[:, [0, -1]].any()
    assert not letters[[0, -1]].any()


def test_labels_of_people_side_by_side_do_not_cover_each_other():
    boxes = []
    for at_uv in ((100.0, 200.0), (150.0, 205.0), (120.0, 210.0)):
        boxes.append(draw_label(RGB.copy(), 'f00001 1.23 m', at_uv, (255, 0, 0), boxes))
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[1] >= b[3] or b[1] >= a[3]


@pytest.mark.parametrize('height', [480, 720, 2160])
def test_letters_and_lines_grow_with_the_picture(height):
    """At every size a label takes about the same share of the height, and never too few pixels."""
    picture = np.full((height, 2 * height, 3), 80, np.uint8)
    left, top, right, bottom = draw_label(picture, 'f00001', (50.0, 0.5 * height))
    letters = picture[top:bottom, left:right].min(-1) > 150
    tall = np.ptp(np.flatnonzero(letters.any(1)))
    assert tall >= 9
    assert 0.015 < tall / height < 0.03

    camera = Camera.from_fov(2 * height, height, 80)
    T = head_pose((0.0, 0.0, 0.7), (0.0, -0.6, 0.0))
    result = draw_overlay(np.full_like(picture, 80), [make_face(camera, T)], camera, MODEL, '')
    u, v = np.round(camera.project(T[:3, 3] + 0.05 * T[:3, 2]).uv).astype(int)
    across = of_colour(AXIS_COLOURS_RGB[2], result[v, u - height // 50 : u + height // 50])
    assert across.sum() == pytest.approx(3 * max(0.7, height / 720), abs=1.5)


def test_caption_has_a_row_for_each_line():
    one, two = changed(caption='30.0 Hz'), changed(caption='30.0 Hz\n12 ms')
    assert one[:40, :100].any()
    assert not one[40:].any()
    assert two[40:68, :100].any()
    assert not two[68:].any()


def with_padding(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, ((0, 0), (0, 5), (0, 0)))[:, : pixels.shape[1]]


@pytest.mark.parametrize(
    'strided',
    [
        with_padding(RGB),
        np.dstack([RGB, RGB[..., :1]])[..., :3],
        np.broadcast_to(RGB[..., :1], RGB.shape),
    ],
    ids=['padded rows', 'rgba', 'mono'],
)
def test_takes_the_views_that_messages_are_read_as(strided):
    result = overlay(FACE, rgb=strided)
    np.testing.assert_array_equal(result, overlay(FACE, rgb=np.ascontiguousarray(strided)))
    assert result.flags.c_contiguous


@pytest.mark.parametrize('name', DISTORTIONS)
@pytest.mark.parametrize('z', [-0.5, 0.0, 1e-8, 0.02, 0.1])
@pytest.mark.parametrize('x', [0.0, 0.3, 5.0])
def test_heads_in_and_behind_the_camera_are_no_error(name, x, z):
    camera = make_camera(name)
    with np.errstate(all='raise'):
        overlay(make_face(camera, head_pose((x, 0.01, z), (0.0, 0.3, 0.0))), camera=camera)
