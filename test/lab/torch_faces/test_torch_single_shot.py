"""The single-shot detector: what cells say and where poses lie, boxes, suppression, sizes."""

import pytest
import torch
from face_pose_lab.torch_faces.single_shot import (
    HEAD_CENTRE,
    HEAD_SIZE_M,
    STRIDES,
    CellPoses,
    boxes_of_poses,
    cell_centres,
    cell_poses,
    cells_of_poses,
    decode_faces,
    poses_in_camera,
    stride_of_size,
)
from face_pose_lab.torch_geometry import se3, so3
from helpers.asserts import assert_poses_close
from helpers.cameras import DISTORTIONS, make_camera
from helpers.scene import random_poses

from face_pose_ros.networks.single_shot import SingleShot, SingleShotOptions
from face_pose_ros.pose.face_model import canonical_face

TINY = SingleShotOptions((8, 8, 16, 16, 16), blocks=1, neck_channels=8, head_blocks=1)


@pytest.mark.parametrize('lens', DISTORTIONS)
def test_cells_say_poses_exactly_whatever_the_lens(lens, generator):
    camera = make_camera(lens)
    T = random_poses(300, camera, generator)
    cells, visible = cells_of_poses(T, camera)
    again, valid = poses_in_camera(cells, camera)
    assert visible.all()
    assert valid.all()
    assert_poses_close(again, T, max_deg=1e-5, max_mm=1e-5)


def test_each_picture_may_have_a_camera_of_its_own(generator):
    from dataclasses import replace

    camera = make_camera('plumb_bob_5')
    T = random_poses(4, camera, generator)
    other = replace(camera, f=2 * camera.f, c=camera.c + 7)
    both = replace(
        camera,
        f=torch.stack([camera.f, other.f]),
        c=torch.stack([camera.c, other.c]),
        dist=camera.dist.expand(2, -1),
        range_max=camera.range_max.expand(2),
    )
    batch, _ = cells_of_poses(T.unflatten(0, (2, 2)), both)
    for i, one in enumerate((camera, other)):
        alone, _ = cells_of_poses(T[2 * i : 2 * i + 2], one)
        for a, b in zip(batch, alone, strict=True):
            assert torch.allclose(a[i], b)


def test_the_apparent_size_is_that_of_the_picture():
    camera = make_camera()
    T = torch.eye(4, dtype=torch.float64)[None]
    T[:, :3, 3] = torch.tensor([0.0, 0, 2.0]) - torch.tensor(HEAD_CENTRE)
    cells, _ = cells_of_poses(T, camera)
    f = (camera.f[0] * camera.f[1]).sqrt()
    assert float(cells.log_size.exp()) == pytest.approx(float(f) * HEAD_SIZE_M / 2.0)
    assert torch.allclose(cells.uv[0], camera.c)


def test_cells_lie_where_their_pixels_are():
    centres = cell_centres(3, 4, 8)
    assert centres[0].tolist() == [3.5, 3.5]  # pixels 0 to 7
    assert centres[-1].tolist() == [27.5, 19.5]


def test_the_grids_share_the_sizes():
    sizes = torch.tensor([10.0, 47, 49, 111, 113, 2000])
    assert stride_of_size(sizes).tolist() == [0, 0, 1, 1, 2, 2]


def test_every_cell_of_every_stride_answers_once():
    network = SingleShot(TINY).eval()
    outputs = network(torch.rand(2, 3, 96, 160))
    cells = cell_poses(outputs)
    assert [o.shape[2:] for o in outputs] == [(96 // s, 160 // s) for s in STRIDES]
    assert cells.score.shape == (2, sum(96 // s * 160 // s for s in STRIDES))
    # Untrained cells say: no face; if there were one, it would look into the camera.
    assert (cells.score.sigmoid() < 0.05).all()
    forward = so3.from_columns(cells.columns)[..., 0]
    assert (forward[..., 2] < -0.9).all()


def test_pictures_of_a_wrong_size_are_refused():
    with pytest.raises(ValueError, match=r'multiples of 32, got \(1, 3, 90, 160\)'):
        SingleShot(TINY)(torch.rand(1, 3, 90, 160))


def test_faces_have_the_boxes_of_their_poses_and_one_answer_each(generator):
    camera = make_camera('plumb_bob_4')
    face = canonical_face().xyz_head
    T = random_poses(2, camera, generator, (0.8, 0.9), yaw_deg=40)
    T[:, 0, 3] = torch.tensor([-0.3, 0.3])
    truth, _ = cells_of_poses(T, camera)
    # Each face is said by three cells, the middle one surest; one more cell says nothing.
    rows = torch.tensor([0, 0, 0, 1, 1, 1, 0])
    cells = CellPoses(*(field[rows] for field in truth))
    score = torch.tensor([1.0, 3, 2, 0.5, 2.5, 1, -6])
    shift = torch.tensor([-3.0, 0, 3, -3, 0, 3, 50])
    cells = cells._replace(score=score.double(), uv=cells.uv + shift[:, None])
    faces = decode_faces(cells, camera, face, score_threshold=0.3)
    assert_poses_close(faces.T_cam_head, T, max_deg=1e-5, max_mm=1e-5)
    assert faces.scores.tolist() == pytest.approx([0.9526, 0.9241], abs=1e-3)
    uv = camera.project(se3.apply(T, face)).uv
    assert torch.allclose(faces.boxes_xyxy, torch.cat([uv.amin(1), uv.amax(1)], -1))
    assert torch.equal(faces.boxes_xyxy, boxes_of_poses(faces.T_cam_head, face, camera))


def test_no_face_is_an_ordinary_answer():
    camera = make_camera()
    cells, _ = cells_of_poses(torch.eye(4, dtype=torch.float64)[None] + 1.0, camera)
    faces = decode_faces(cells, camera, canonical_face().xyz_head, score_threshold=0.6)
    assert faces.T_cam_head.shape == (0, 4, 4)
    assert faces.boxes_xyxy.shape == (0, 4)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match='channels must be 5 positive numbers'):
        SingleShotOptions(channels=(8, 8))
