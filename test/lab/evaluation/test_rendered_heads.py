# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendered heads: what is stored, and what is scored."""

import cv2
import numpy as np
import pytest
from face_pose_lab.evaluation import rendered_heads as module
from face_pose_lab.evaluation import rendered_sheet
from face_pose_lab.evaluation.rendered_heads import RenderedHeads
from face_pose_lab.synthetic.ict_facekit import FACE_VERTICES
from face_pose_lab.synthetic.sampling import HeadRange
from face_pose_lab.synthetic.scene import Head, HeadRenderer
from face_pose_lab.torch_geometry.camera import torch_camera
from helpers.cameras import TORCH_LENSES, make_camera
from helpers.facekit import load_facekit
from helpers.heads import random_poses

from face_pose_ros.geometry import rotations
from face_pose_ros.pose.face_model import canonical_face, semantic_head
from face_pose_ros.results import Faces, Keypoints


class Stub:
    """A predictor that returns given keypoints, or else points of the box."""

    def __init__(self, uv=None):
        self.uv, self.calls = uv, []

    def predict(self, image, faces, camera):
        self.calls.append((image, faces))
        corners = faces.boxes_xyxy.reshape(1, 2, 2).astype(np.float64)
        uv = corners if self.uv is None else self.uv
        return Keypoints(uv, np.tile(np.eye(2), (1, uv.shape[1], 1, 1)), np.ones(1))

    def average(self, image, keypoints, camera, jitters):
        average = Keypoints(keypoints.uv + 1, 4 * keypoints.cov_uv, 0.9 * keypoints.presence)
        return average, np.array([0.25])


def made_up(rng) -> RenderedHeads:
    """One head per lens, with the keypoints of the canonical face."""
    rows = []
    model = canonical_face()
    for name in TORCH_LENSES:
        camera = make_camera(name)
        T = random_poses(1, camera, rng, (0.5, 1.0), yaw_deg=50)[0]
        uv = camera.project(rotations.apply(T, model.xyz_head)).uv[None]
        head = Head(np.zeros(100), np.zeros(57), T, torch_camera(camera))
        image = np.zeros((camera.height, camera.width, 3), np.uint8)
        faces = Faces(np.zeros((1, 4), np.float32), np.ones(1, np.float32))
        semantic_uv = camera.project(rotations.apply(T, semantic_head().xyz_head)).uv[None]
        rows.append(module._row(head, faces, image, Stub(semantic_uv), Stub(uv)))
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return RenderedHeads(**columns, mean_landmarks=np.zeros((68, 3), np.float32))


class Landmarks:
    """The landmarks of a mean head, which reveal a wrong file."""

    landmark68_vertices = np.arange(68)

    def __init__(self, height):
        self.neutral = np.full((68, 3), height, np.float32)


def test_a_file_gives_back_every_camera_and_head(tmp_path, rng):
    heads = made_up(rng)
    heads.save(tmp_path / 'heads.npz')
    again = RenderedHeads.load(tmp_path / 'heads.npz')
    again.check_frame(Landmarks(0.0))
    assert len(again) == len(TORCH_LENSES)
    for i, name in enumerate(TORCH_LENSES):
        camera, expected = again.head(i).camera.runtime(), make_camera(name)
        assert camera == expected
        np.testing.assert_array_equal(again.uv[i], heads.uv[i])
        one, average = again.keypoints(i), again.averaged_keypoints(i)
        np.testing.assert_allclose(average.uv, one.uv + 1, rtol=1e-6)
        np.testing.assert_allclose(average.cov_uv, 4 * one.cov_uv)
        assert average.presence.item() == pytest.approx(0.9)
        assert again.spread[i] == 0.25


def test_exact_keypoints_give_exact_poses(rng):
    heads = made_up(rng)
    own, all_found = module.score(heads, heads.head_keypoints, semantic_head())
    assert all_found.all()
    assert own.rotation_deg.max() < 0.01
    errors, found = module.score(heads, heads.keypoints, canonical_face())
    assert found.all()
    assert errors.rotation_deg.max() < 0.01
    assert errors.lateral_mm_per_m.max() < 0.1
    text = module.table(heads, errors, found)
    assert text.splitlines()[-1].split()[:3] == ['0-90', str(len(heads)), '100.0']


def test_heads_below_the_presence_limit_are_not_found(rng):
    heads = made_up(rng)
    heads.presence[2] = 0.4
    errors, found = module.score(heads, heads.keypoints, canonical_face())
    assert found.tolist() == [True, True, False, True, True, True]
    assert len(errors.nees) == 5


@pytest.fixture(scope='module')
def exported():
    renderer, stub = HeadRenderer(load_facekit()), Stub()
    limits = HeadRange((0.5, 0.6), yaw_deg=20, pitch_deg=5, roll_deg=5, width=320, height=240)
    return module.export(renderer, stub, Stub(), limits, 2, seed=4), stub


def test_keypoints_are_measured_in_the_box_of_the_face(exported):
    heads, stub = exported
    assert len(heads) == 2
    assert not np.array_equal(heads.T_cam_head[0], heads.T_cam_head[1])
    facekit = load_facekit()
    for i, (image, faces) in enumerate(stub.calls):
        assert image.shape == (240, 320, 3)
        head = heads.head(i)
        xyz = facekit.vertices(head.identity[None], head.expression[None])[0, :FACE_VERTICES]
        uv = head.camera.runtime().project(rotations.apply(head.T_cam_head, xyz)).uv
        bounds = [*uv.min(0), *uv.max(0)]
        np.testing.assert_allclose(faces.boxes_xyxy[0], bounds, atol=0.5)


def test_true_keypoints_are_where_the_mesh_is(exported, monkeypatch):
    heads, _ = exported
    facekit = load_facekit()
    corners = facekit.landmark68_vertices
    weights = {
        'ict_vertices': np.stack([corners, corners[::-1], corners], 1).astype(np.int32),
        'ict_barycentric': np.tile([0.25, 0.0, 0.75], (68, 1)),
    }
    monkeypatch.setattr(module, 'load_weights', lambda name: weights)
    found = module.true_keypoints(heads, facekit, 1)
    head = heads.head(1)
    xyz = facekit.vertices(head.identity[None], head.expression[None])[0]
    uv = head.camera.runtime().project(rotations.apply(head.T_cam_head, xyz[corners])).uv
    np.testing.assert_allclose(found, uv, atol=1e-3)


def test_the_noise_is_that_of_the_stated_covariance(exported, monkeypatch):
    heads, _ = exported
    true = np.zeros((20000, 2))
    monkeypatch.setattr(module, 'true_keypoints', lambda *_: true)
    cov_uv = np.array([[4.0, 1.2], [1.2, 1.0]], np.float32)
    object.__setattr__(heads, 'cov_uv', np.tile(cov_uv, (2, 20000, 1, 1)))
    noisy = module.noisy_truth(heads, None, 0)
    np.testing.assert_allclose(np.cov(noisy.uv[0].T), cov_uv, atol=0.1)


def test_heads_of_another_head_frame_are_refused(rng):
    with pytest.raises(ValueError, match='another head frame'):
        made_up(rng).check_frame(Landmarks(0.001))


def test_known_pupils_are_those_of_the_head(exported):
    heads, _ = exported
    facekit = load_facekit()
    options = [module.known_pupils(heads, facekit, i) for i in range(2)]
    assert all(52 < o.interpupillary_mm < 72 for o in options)
    assert options[0].interpupillary_mm != options[1].interpupillary_mm
    assert options[0].interpupillary_sigma_mm == 0.5


def test_a_sheet_shows_each_head_and_below_it_what_was_found(tmp_path, rng, capsys):
    heads = made_up(rng)
    heads.head_presence[1] = 0.4
    heads.save(tmp_path / 'heads.npz')
    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    for i, (width, height) in enumerate(heads.size):
        cv2.imwrite(str(pictures / f'{i:05d}.png'), np.zeros((height, width, 3), np.uint8))
    args = [str(tmp_path / 'heads.npz'), '--pictures', str(pictures), '--out']
    rendered_sheet.main([*args, str(tmp_path / 'sheet.png')])
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    rows = -(-len(heads) // 6)
    assert sheet.shape == (2 * rows * 240, 6 * 240, 3)
    cells = (
        sheet.reshape(rows, 2, 240, 6, 240, 3)
        .transpose(0, 3, 1, 2, 4, 5)
        .reshape(-1, 2, 240, 240, 3)
    )
    for i, (plain, drawn) in enumerate(cells[: len(heads)]):
        assert plain.max() <= 96  # grey, outside of the picture
        # The head's origin is the middle of its cell.
        middle = drawn[80:160, 80:160]
        assert (middle.max() > 120) == (i != 1)
    with pytest.raises(SystemExit):
        rendered_sheet.main([*args, str(tmp_path / 'nowhere' / 'sheet.png')])
    assert 'sheet.png: cannot be written' in capsys.readouterr().err
    (pictures / '00000.png').unlink()
    with pytest.raises(SystemExit):
        rendered_sheet.main([*args, str(tmp_path / 'other.png')])
    assert '00000.png: no such picture' in capsys.readouterr().err
