"""The second look: regions stand upright around heads, and say poses exactly."""

import math
from dataclasses import replace

import pytest
import torch
from face_pose_lab.torch_faces.region_pose import (
    MOST_REGIONS,
    REGION_PX,
    REGION_SCALE,
    look_again,
    poses_of_regions,
    read_keypoints,
    read_regions,
    region_cameras,
    regions_of_poses,
)
from face_pose_lab.torch_faces.single_shot import (
    FRONTAL_COLUMNS,
    HEAD_CENTRE,
    CellPoses,
    PosedFaces,
    cells_of_poses,
)
from face_pose_lab.torch_geometry import se3, so3
from face_pose_lab.torch_geometry.crops import render_crops
from helpers.asserts import assert_poses_close
from helpers.cameras import DISTORTIONS, make_camera
from helpers.scene import R_CAM_FRONTAL, random_poses

from face_pose_ros.networks.region_pose import (
    MirrorAveraged,
    RegionPose,
    RegionPoseOptions,
    of_mirrored,
)

TINY = RegionPoseOptions((8, 8, 8, 8), (1, 1, 1, 1), 16)


def said_of(T, regions):
    """What the network should say (N, 16) of heads at T in these regions."""
    T_crop = se3.from_rt(regions.R_cam_crop.mT, torch.zeros(len(T), 3).double()) @ T
    middle = torch.full((len(T), 2), 0.5 * (REGION_PX - 1), dtype=torch.float64)
    cells, _ = cells_of_poses(T_crop[:, None], region_cameras(regions.focal_px, middle, REGION_PX))
    return numbers_of(CellPoses(*(field[:, 0] for field in cells)))


def numbers_of(cells, score=3.0):
    half = 0.5 * REGION_PX
    return torch.cat(
        [
            torch.full_like(cells.log_size[:, None], score),
            (cells.uv - half + 0.5) / half,
            (cells.log_size - math.log(REGION_PX / REGION_SCALE))[:, None],
            cells.columns - cells.columns.new_tensor(FRONTAL_COLUMNS),
            torch.zeros(len(cells.uv), 6),
        ],
        -1,
    )


def disturbed(T, generator):
    """Proposals near heads: turned by up to half a radian, moved, too near or too far."""
    omega = torch.randn(len(T), 3, generator=generator, dtype=torch.float64) * 0.2
    shift = torch.randn(len(T), 3, generator=generator, dtype=torch.float64) * 0.02
    R = so3.exp(omega) @ T[:, :3, :3]
    return se3.from_rt(R, T[:, :3, 3] + shift)


@pytest.mark.parametrize('lens', DISTORTIONS)
def test_regions_say_poses_exactly_whatever_the_lens(lens, generator):
    T = random_poses(200, make_camera(lens), generator)
    regions = regions_of_poses(disturbed(T, generator))
    cells, sigma = read_regions(said_of(T, regions))
    assert_poses_close(poses_of_regions(cells, regions), T, max_deg=1e-5, max_mm=1e-5)
    assert torch.allclose(sigma, torch.full_like(sigma, 0.1))


@pytest.mark.parametrize('lens', ['none', 'plumb_bob_5', 'equidistant'])
def test_heads_stand_upright_in_the_middle_at_one_size(lens, generator):
    T = random_poses(100, make_camera(lens), generator)
    regions = regions_of_poses(T)
    cells, _ = read_regions(said_of(T, regions))
    middle = torch.full_like(cells.uv, 0.5 * (REGION_PX - 1))
    assert torch.allclose(cells.uv, middle, atol=1e-6)
    size = REGION_PX / REGION_SCALE
    assert torch.allclose(cells.log_size.exp(), torch.full_like(cells.log_size, size), rtol=1e-6)
    up = regions.R_cam_crop.mT @ T[:, :3, 2:3]
    assert up[:, 0].abs().max() < 1e-9
    assert (up[:, 1] < 0).all()
    assert torch.allclose(torch.linalg.det(regions.R_cam_crop), torch.ones(100).double())


def test_a_head_seen_from_above_has_a_region_too():
    T = torch.eye(4, dtype=torch.float64)[None].clone()
    # Its z axis points at the camera.
    T[:, :3, :3] = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    T[:, :3, 3] = torch.tensor([0.0, 0, 1.0]) - T[0, :3, :3] @ torch.tensor(HEAD_CENTRE).double()
    regions = regions_of_poses(T)
    assert regions.R_cam_crop.isfinite().all()
    cells, _ = read_regions(said_of(T, regions))
    assert_poses_close(poses_of_regions(cells, regions), T, max_deg=1e-5, max_mm=1e-5)


def test_what_is_said_of_a_mirror_image_is_mirrored(generator):
    network = MirrorAveraged(RegionPose(TINY).eval())
    torch.nn.init.normal_(network.network.last.weight, generator=generator)
    regions = torch.rand(3, 3, REGION_PX, REGION_PX, generator=generator)
    with torch.no_grad():
        said, of_mirror = network(regions), network(regions.flip(-1))
        alone = network.network(regions)
    assert torch.allclose(of_mirrored(of_mirror), said, atol=1e-5)
    assert not torch.allclose(said, alone, atol=1e-2)
    # A head mirrored about the picture's middle and its own: x of the camera, y of the head.
    T = random_poses(20, make_camera('none'), generator)
    M = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
    H = torch.diag(torch.tensor([1.0, -1, 1, 1], dtype=torch.float64))
    straight = regions_of_poses(se3.from_rt(R_CAM_FRONTAL, torch.tensor([0.0, 0, 0.8]))[None])
    straight = straight.repeat(20)
    assert torch.allclose(
        of_mirrored(said_of(M @ T @ H, straight)), said_of(T, straight), atol=1e-9
    )


def spot(T, camera):
    """An image that is bright at the middle of the head."""
    uv = camera.project(se3.apply(T[None], T.new_tensor([HEAD_CENTRE]))).uv[0, 0]
    rows, columns = torch.meshgrid(
        torch.arange(camera.height), torch.arange(camera.width), indexing='ij'
    )
    sq = (columns - uv[0]).square() + (rows - uv[1]).square()
    return (255 * (-sq / 50).exp())[..., None].expand(-1, -1, 3).round().byte().contiguous()


def finds_the_spot(columns):
    """A network that says where a region is bright, and these columns."""

    def network(regions):
        weight = regions.double().mean(1)
        places = torch.arange(REGION_PX).double()
        total = weight.sum((-2, -1))
        uv = torch.stack([weight.sum(-2) @ places, weight.sum(-1) @ places], -1) / total[:, None]
        size = torch.full((len(uv),), math.log(REGION_PX / REGION_SCALE)).double()
        return numbers_of(CellPoses(total, uv, size, columns.expand(len(uv), -1))).float()

    return network


def proposed_at(T, score):
    return PosedFaces(T, torch.zeros(len(T), 4), torch.full((len(T),), score).double())


@pytest.mark.parametrize('lens', ['none', 'plumb_bob_5', 'equidistant'])
def test_a_second_look_finds_the_head_beside_the_proposal(lens):
    camera = make_camera(lens)
    t = torch.tensor([0.15, -0.1, 0.8], dtype=torch.float64)
    T = se3.from_rt(R_CAM_FRONTAL, t)
    beside = T.clone()
    beside[:2, 3] += torch.tensor([0.03, -0.02])
    columns = torch.tensor(FRONTAL_COLUMNS).double()
    proposals = torch.stack([T, beside])
    proposed = proposed_at(proposals, 0.6)
    seen = look_again(finds_the_spot(columns), spot(T, camera), proposed, camera)
    # Both proposals are the same head, once.
    assert len(seen.logits) == 1
    # 3 of the second look and 0.405 of the first.
    assert seen.logits.tolist() == pytest.approx([3.405], abs=1e-3)
    middle = se3.apply(seen.T_cam_head, seen.T_cam_head.new_tensor([HEAD_CENTRE]))[0, 0]
    expected = T[:3, :3] @ T.new_tensor(HEAD_CENTRE) + T[:3, 3]
    across = middle / middle.norm() - expected / expected.norm()
    assert across.norm() < 0.004


@pytest.mark.parametrize(('score', 'regions'), [(0.6, 2), (0.005, 1)])
def test_what_seems_to_be_a_head_is_looked_at_again_from_where_it_is(score, regions):
    """The stand-in's answer is wrong by a tenth of how far the head is from the middle."""
    camera = make_camera('none')
    T = se3.from_rt(R_CAM_FRONTAL, torch.tensor([0.1, 0.05, 0.8], dtype=torch.float64))
    beside = T.clone()[None]
    beside[:, 0, 3] += 0.02
    finds, shown = finds_the_spot(torch.tensor(FRONTAL_COLUMNS).double()), []

    def network(pictures):
        shown.append(len(pictures))
        numbers = finds(pictures)
        return torch.cat([numbers[:, :1], 0.9 * numbers[:, 1:3], numbers[:, 3:]], -1)

    seen = look_again(network, spot(T, camera), proposed_at(beside, score), camera)
    assert shown == [1] * regions
    truth, _ = cells_of_poses(T[None], camera)
    said, _ = cells_of_poses(seen.T_cam_head, camera)
    off_px = float((said.uv - truth.uv).norm())
    assert (off_px < 0.5) == (regions == 2), off_px


def test_a_head_beyond_the_border_is_none():
    camera = make_camera('none')
    T = se3.from_rt(R_CAM_FRONTAL, torch.tensor([0.0, 0, 0.8], dtype=torch.float64)).repeat(
        2, 1, 1
    )
    half = 0.8 * 0.5 * camera.width / float(camera.f[0])
    T[1, 0, 3] = 1.2 * half
    middle, image = torch.zeros(2, 16), spot(T[0], camera)
    seen = look_again(lambda regions: middle[: len(regions)], image, proposed_at(T, 0.5), camera)
    assert len(seen.logits) == 1
    assert seen.T_cam_head[0, 0, 3].abs() < 0.01


def test_nothing_is_no_question():
    camera = make_camera('none')
    T = se3.from_rt(R_CAM_FRONTAL, torch.tensor([0.0, 0, 0.8], dtype=torch.float64))[None]
    nobody = look_again(
        lambda _: pytest.fail('was run'), spot(T[0], camera), proposed_at(T[:0], 0.5), camera
    )
    assert nobody.T_cam_head.shape == (0, 4, 4)
    assert nobody.sigma.shape == (0, 6)


def test_a_picture_full_of_proposals_takes_no_longer_than_its_best_ones():
    camera = make_camera('none')
    T = se3.from_rt(R_CAM_FRONTAL, torch.tensor([0.0, 0, 0.8], dtype=torch.float64))
    many, shown = T.repeat(3 * MOST_REGIONS, 1, 1), []

    def network(pictures):
        shown.append(len(pictures))
        return torch.full((len(pictures), 16), -9.0)

    look_again(network, spot(T, camera), proposed_at(many, 0.5), camera)
    assert shown == [MOST_REGIONS]


def test_untrained_it_says_that_heads_look_into_their_cameras():
    with torch.no_grad():
        cells, _ = read_regions(RegionPose(TINY).eval()(torch.rand(2, 3, REGION_PX, REGION_PX)))
    assert (so3.from_columns(cells.columns)[:, 2, 0] < -0.9).all()


def test_the_detector_does_not_read_keypoints():
    network = RegionPose(replace(TINY, keypoints=5)).eval()
    regions = torch.rand(2, 3, REGION_PX, REGION_PX)
    with torch.no_grad():
        said, averaged = network(regions), MirrorAveraged(network)(regions)
        torch.nn.init.constant_(network.keypoints.bias, 7.0)
        assert torch.equal(MirrorAveraged(network)(regions), averaged)
    assert said.shape == (2, 16 + 2 * 5)
    assert averaged.shape == (2, 16)
    assert torch.equal(read_regions(said).sigma, read_regions(said[:, :16]).sigma)
    # Half of the region's side from its middle.
    ahead = torch.cat([torch.zeros(1, 16), torch.tensor([[1.0, -1.0]])], 1)
    assert read_keypoints(ahead).tolist() == [[[63.5, -0.5]]]


def test_impossible_sizes_and_pictures_are_refused():
    with pytest.raises(ValueError, match=r'blocks must be 4 positive numbers, got \(1, 2\)'):
        RegionPoseOptions(blocks=(1, 2))
    with pytest.raises(ValueError, match='hidden must be at least 1, got 0'):
        RegionPoseOptions(hidden=0)
    with pytest.raises(ValueError, match='keypoints must not be negative, got -1'):
        RegionPoseOptions(keypoints=-1)
    with pytest.raises(ValueError, match=r'\(N, 3, 64, 64\), got \(1, 3, 32, 32\)'):
        RegionPose(TINY)(torch.rand(1, 3, 32, 32))


def test_a_region_shows_what_its_camera_sees():
    """A picture through a distorting lens and the region's pinhole agree about the spot."""
    camera = make_camera('plumb_bob_5')
    T = se3.from_rt(R_CAM_FRONTAL, torch.tensor([0.2, 0.1, 0.9], dtype=torch.float64))[None]
    regions = regions_of_poses(T)
    picture = render_crops(spot(T[0], camera), regions, camera)[0, 0]
    row, column = divmod(int(picture.argmax()), REGION_PX)
    assert abs(row - 0.5 * (REGION_PX - 1)) <= 1
    assert abs(column - 0.5 * (REGION_PX - 1)) <= 1
