"""The annotated picture: what is drawn lies where the lens puts it."""

import cv2
import numpy as np
import pytest
from helpers.cameras import DISTORTIONS, HEIGHT, WIDTH, make_camera
from helpers.faces import MODEL, head_pose, make_face

from face_pose_ros.ros.draw import AXIS_COLOURS_RGB, AXIS_M, face_colour_rgb, face_label
from face_pose_ros.ros.overlay import draw_overlay

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


def coloured_like(rgb, picture: np.ndarray) -> np.ndarray:
    """Pixels of thin letters; the mesh lets too much of the picture through to count."""
    return (np.abs(picture.astype(int) - rgb) < 60).all(-1)


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


def test_the_nearest_face_is_drawn_last():
    behind = make_face(CAMERA, head_pose((0.16, -0.06, 0.9)), 'f00002', 2)
    np.testing.assert_array_equal(overlay(FACE, behind), overlay(behind, FACE))


def test_label_names_the_face_and_its_distance():
    assert face_label(make_face(CAMERA, head_pose((0.3, 0.4, 1.2)), 'f00012')) == 'f00012 1.30 m'
    assert face_label(make_face(CAMERA, head_pose((0.3, 0.4, 1.2)), '')) == '1.30 m'


def test_neighbouring_ids_have_different_colours_that_stay():
    colours = [face_colour_rgb(number) for number in range(6)]
    assert len(set(colours)) == 6
    assert face_colour_rgb(3 + 6) == colours[3]
    face = make_face(CAMERA, T_HEAD, 'left_f00003', 3)
    assert coloured_like(colours[3], overlay(face))[round(FACE.box_xyxy[3]) + 5 :].any()


@pytest.mark.parametrize('xyz', [(0.0, 0.26, 0.7), (0.62, 0.0, 0.9), (-0.62, 0.0, 0.9)])
def test_label_stays_in_the_picture(xyz):
    face = make_face(CAMERA, head_pose(xyz), 'f00003', 3)
    result = overlay(face)
    letters = coloured_like(face_colour_rgb(3), result)
    width, height = np.ptp(np.argwhere(letters), axis=0)[::-1]
    (text_width, text_height), _ = cv2.getTextSize(
        face_label(face), cv2.FONT_HERSHEY_SIMPLEX, max(0.5, HEIGHT / 1440), 1
    )
    assert width > 0.9 * text_width
    assert height > 0.6 * text_height


def test_caption_has_a_row_for_each_line():
    one, two = changed(caption='30.0 Hz'), changed(caption='30.0 Hz\n12 ms')
    assert one[:30, :100].any()
    assert not one[30:].any()
    assert two[30:55, :100].any()
    assert not two[55:].any()


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
