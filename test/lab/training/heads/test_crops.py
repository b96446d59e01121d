# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Labels of rendered crops: exact, the same for every run, of both families alike."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip('moderngl', reason='moderngl is not installed')

from face_pose_lab.similarity import similarity
from face_pose_lab.synthetic.sampling import R_FACING, attitude, view_angles_deg
from face_pose_lab.training.heads import crops
from face_pose_lab.training.heads.frame import mean_face
from face_pose_lab.training.heads.makehuman_people import MakeHumanPeople
from face_pose_lab.training.heads.renderer import Renderer
from face_pose_lab.training.heads.staging import Lens, Pose
from face_pose_lab.training.heads.studio import FAMILIES
from face_pose_lab.training.heads.surface import SurfacePoints
from face_pose_lab.training.heads.views import facing_pose, look, random_attitude
from face_pose_lab.training.heads.wardrobe import Wardrobe

from face_pose_ros.keypoints.semantic import IS_FACE, MIRROR, NAMES
from face_pose_ros.weights import load_weights

SIZE = 96


@pytest.fixture(scope='module')
def rendered(studio):
    return crops.render_range(studio, range(5, 19), SIZE)


def test_keypoints_are_projected_exactly(rendered):
    _, labels = rendered
    for K, T, xyz, uv in zip(
        labels['K_crop'], labels['T_crop_head'], labels['xyz_head'], labels['uv'], strict=True
    ):
        cam = xyz.astype(float) @ T[:3, :3].T + T[:3, 3]
        np.testing.assert_allclose((cam @ K.T)[:, :2] / cam[:, 2:], uv, atol=1e-3)
        np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(T[:3, :3]) > 0
        assert cam[:, 2].min() > 0.1


def test_visible_keypoints_lie_in_the_image(rendered):
    pictures, labels = rendered
    assert pictures.shape == (14, SIZE, SIZE, 3)
    inside = ((labels['uv'] >= -0.5) & (labels['uv'] <= SIZE - 0.5)).all(-1)
    assert not (labels['visible'] & ~inside).any()
    assert labels['visible'].sum(1).mean() > 20


def test_images_show_something(rendered):
    pictures, _ = rendered
    assert (pictures.std((1, 2, 3)) > 5).all()
    assert (np.abs(np.diff(pictures.mean((1, 2, 3)))) > 0).all()


def test_an_image_depends_on_its_number_alone(studio, rendered):
    pictures, labels = rendered
    again, of_again = crops.render_range(studio, range(9, 11), SIZE)
    np.testing.assert_array_equal(again, pictures[4:6])
    for name, values in of_again.items():
        np.testing.assert_array_equal(values, labels[name][4:6], err_msg=name)


def test_the_crop_is_centred_on_the_face_before_the_jitter(rendered, rng):
    _, labels = rendered
    face = labels['xyz_head'][0][IS_FACE]
    T, focal = crops.crop_camera(labels['T_crop_head'][0], face, SIZE, 2.0)
    cam = face @ T[:3, :3].T + T[:3, 3]
    uv = focal * cam[:, :2] / cam[:, 2:] + 0.5 * (SIZE - 1)
    low, high = uv.min(0), uv.max(0)
    np.testing.assert_allclose(0.5 * (low + high), 0.5 * (SIZE - 1), atol=0.3)
    assert (high - low).max() == pytest.approx(SIZE / 2, rel=0.02)


def test_both_families_stand_in_the_frame_of_the_face_model(models):
    """The packaged mean face, laid onto neutral people, gives their head frames."""
    mean, rng = mean_face(), np.random.default_rng(0)
    weights = load_weights('face_model')
    on_ict = SurfacePoints(
        weights['ict_vertices'].astype(np.int64), weights['ict_barycentric'].astype(np.float64)
    )
    heads = models.facekit.vertices(rng.standard_normal((40, 100)), np.zeros((40, 57)))
    faces = {'ict_facekit': [on_ict.of(head) for head in heads], 'makehuman': []}
    model = models.makehuman
    people = MakeHumanPeople(model, _NoPictures(model))
    for _ in range(40):
        head = model.shape(people.neutral(rng)[0])
        faces['makehuman'].append(model.frame(head).apply(model.face.of(head)))
    for family, of_family in faces.items():
        motions = [similarity(mean, face) for face in of_family]
        angle = np.degrees([Rotation.from_matrix(R).magnitude() for _, R, _ in motions])
        shift = 1e3 * np.array([t for _, _, t in motions])
        scale = np.array([s for s, _, _ in motions])
        assert angle.max() < 2.0, family  # deg
        assert np.abs(shift.mean(0)).max() < 4.0, family  # mm: the nasal roots differ in depth
        assert 0.93 < np.median(scale) < 1.05, family


class _NoPictures(Wardrobe):
    """A wardrobe without textures: shapes need none."""

    def __init__(self, model):
        self.reference = model.frame(model.reference).apply(model.reference)


@pytest.mark.parametrize('angles', [(20, -70, 10), (-50, 130, 40), (80, -175, -55), (-5, 95, 0)])
def test_view_angles_reach_round_the_head(angles):
    T = facing_pose(attitude(*angles), np.array([0.3, -0.2, 1.0]), 2.0)
    np.testing.assert_allclose(view_angles_deg(T), angles, atol=1e-9)


def test_heads_lean_in_profile_too():
    rng = np.random.default_rng(0)
    R = np.stack([random_attitude(rng) for _ in range(4000)])
    in_profile = np.abs(R[:, 0, 0]) > 0.8  # look along the picture's rows
    lean_deg = np.degrees(np.arcsin(R[in_profile, 2, 2]))
    assert lean_deg.std() > 15


@pytest.mark.parametrize('family', FAMILIES)
def test_people_are_upright_metric_and_symmetric(studio, family):
    place = np.median(
        [studio.of_family(family).person(i, studio.rng(9, i)).keypoints for i in range(9)], 0
    )
    at = dict(zip(NAMES, 1e3 * place, strict=True))
    assert 80 < at['tragion_left'][1] - at['tragion_right'][1] + 10 < 190
    assert at['nose_tip'][0] > 10
    assert -140 < at['menton'][2] < -95
    assert 70 < at['vertex'][2] < 150
    assert -230 < at['occiput_180'][0] < -150
    mirrored = place[MIRROR] * (1, -1, 1)
    assert 1e3 * np.abs(mirrored - place).max() < 6


@pytest.mark.parametrize('family', FAMILIES)
def test_twelve_keypoints_are_visible_at_any_yaw(studio, family):
    lens = Lens(np.array([[400.0, 0, 63.5], [0, 400, 63.5], [0, 0, 1]]), 128, 128)
    counts = []
    for number in range(3):
        someone = studio.of_family(family).person(number, studio.rng(8, number))
        with studio.renderer.load(someone) as loaded:
            for yaw in range(-180, 180, 20):
                R = R_FACING @ Rotation.from_euler('z', yaw, degrees=True).as_matrix()
                T = facing_pose(R, np.array([0, 0, 1.0]), 1.2)
                counts.append(look(studio.renderer, loaded, Pose(T), lens).visible.sum())
    assert min(counts) >= 12


def test_a_renderer_keeps_its_textures(renderer: Renderer, studio):
    assert 'white' in renderer._textures
    assert 'hair/bob02' not in renderer._textures  # held out
