"""The single-shot detector: from images through scaling and padding to poses and boxes."""

import pytest
import torch
import torch.nn.functional as F
from helpers.asserts import assert_poses_close
from helpers.scene import R_CAM_FRONTAL

from face_pose_ros.faces.detector import DetectorOptions
from face_pose_ros.faces.head_uncertainty import HeadUncertainty
from face_pose_ros.faces.region_pose import regions_of_poses
from face_pose_ros.faces.single_shot import FRONTAL_COLUMNS, HEAD_CENTRE, STRIDES, cells_of_poses
from face_pose_ros.faces.single_shot_detector import (
    SingleShotDetector,
    input_size,
    scaled_picture,
)
from face_pose_ros.faces.single_shot_levels import (
    LARGEST_HEAD_PX,
    level_sizes,
    padded,
)
from face_pose_ros.geometry import se3, so3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.crop import crops_around_boxes
from face_pose_ros.networks.region_pose import RegionPose
from face_pose_ros.networks.single_shot import SingleShot, SingleShotOptions
from face_pose_ros.pose.face_model import canonical_face

FACE = canonical_face().xyz_head
UNCERTAINTY = HeadUncertainty(
    torch.tensor(0.0),
    torch.tensor([20.0, 200.0]).log(),
    torch.stack([0.04 * torch.eye(6), 0.01 * torch.eye(6)]),
).to('cpu')
# An image's size and the least face [px]: scaled to a half and less, unevenly, with padding.
SIZES = [(640, 480, 40), (501, 333, 40), (333, 501, 20), (130, 97, 16)]


def make_camera(width, height):
    K = [0.9 * width, 0, 0.47 * width, 0, 0.93 * width, 0.55 * height, 0, 0, 1]
    return Camera.from_K(K, width, height, (-0.12, 0.03, 0.001, -0.002))


def make_pose(rotvec=(0.0, 0.0, 0.0), xyz=(0.07, -0.05, 0.8)):
    turn = so3.exp(torch.tensor(rotvec, dtype=torch.float64))
    return se3.from_rt(turn @ R_CAM_FRONTAL, torch.tensor(xyz, dtype=torch.float64))[None]


def picture_with_spot(T, camera):
    """An image that is bright around the middle of the head: where it is can be measured."""
    uv = camera.project(se3.apply(T, T.new_tensor([HEAD_CENTRE]))).uv[0, 0]
    rows, columns = torch.meshgrid(
        torch.arange(camera.height), torch.arange(camera.width), indexing='ij'
    )
    sq = (columns - uv[0]).square() + (rows - uv[1]).square()
    spot = 255 * (-sq / (2 * (0.02 * camera.width) ** 2)).exp()
    return spot[..., None].expand(-1, -1, 3).round().to(torch.uint8)


class Spotter:
    """Measures where the bright spot is; knows the size in the full image, and the rotation.

    It says nothing of all levels of an image but one.
    """

    def __init__(self, T, camera, options, level=0):
        self.truth, _ = cells_of_poses(T, camera)
        sizes = level_sizes(*input_size(camera.height, camera.width, options))
        self.zooms = [(h / camera.height * w / camera.width) ** 0.5 for h, w in sizes]
        self.level, self.calls = level, 0

    def __call__(self, pictures):
        level = self.calls % len(self.zooms)
        self.calls += 1
        height, width = pictures.shape[-2:]
        weight = pictures[0].double().mean(0)
        rows = torch.arange(height, dtype=torch.float64)
        columns = torch.arange(width, dtype=torch.float64)
        uv = torch.stack([(weight.sum(0) * columns).sum(), (weight.sum(1) * rows).sum()])
        uv /= weight.sum()
        outputs = []
        for stride in STRIDES:
            out = pictures.new_zeros(1, 10, height // stride, width // stride)
            out[:, 0] = -9
            outputs.append(out)
        # The cell that the spot lies in, of the grid of stride 8.
        column, row = ((uv + 0.5) / 8).floor().int().tolist()
        cell = outputs[0][0, :, row, column]
        cell[0] = 3
        cell[1:3] = (uv - (torch.tensor([column, row]) + 0.5) * 8 + 0.5) / 8
        cell[3] = self.truth.log_size[0] + torch.tensor(self.zooms[level] / 8).log()
        cell[4:] = self.truth.columns[0]
        if level != self.level:
            cell[0] = -9
        return tuple(outputs)


class Agrees:
    """A second look that finds the head where it was proposed, and knows its rotation."""

    def __init__(self, T):
        R = regions_of_poses(T).R_cam_crop.mT @ T[:, :3, :3]
        columns = R[..., :2].mT.flatten(-2) - torch.tensor(FRONTAL_COLUMNS).double()
        self.numbers = torch.cat([torch.zeros(1, 4), columns, torch.zeros(1, 6)], -1)

    def __call__(self, regions):
        return self.numbers.expand(len(regions), -1)


def detector_of(T, camera, options):
    spotter = Spotter(T, camera, options)
    return SingleShotDetector(spotter, Agrees(T), FACE, UNCERTAINTY, options)


@pytest.mark.parametrize(('width', 'height', 'min_face_px'), SIZES)
@pytest.mark.parametrize('rotvec', [(0.0, 0.0, 0.0), (0.2, -0.7, 0.5)])
def test_poses_are_those_of_the_full_image(width, height, min_face_px, rotvec):
    camera, T = make_camera(width, height), make_pose(rotvec)
    options = DetectorOptions(min_face_px=min_face_px)
    detector = detector_of(T, camera, options)
    heads = detector.detect(picture_with_spot(T, camera), camera)
    assert len(heads) == 1
    # Half a pixel of the input would be 3 to 10 mm; an uneven scale costs a thousandth.
    assert_poses_close(heads.coarse.T_cam_head, T, max_deg=0.3, max_mm=1.0)
    uv = camera.project(se3.apply(heads.coarse.T_cam_head, FACE)).uv
    middle = 0.5 * (uv.amin(1) + uv.amax(1))
    box = heads.boxes_xyxy
    assert torch.allclose(0.5 * (box[:, :2] + box[:, 2:]), middle.float(), atol=1e-3)
    assert heads.scores.tolist() == pytest.approx([0.9526], abs=1e-3)


@pytest.mark.parametrize('level', [0, 1])
def test_large_heads_may_be_found_in_a_smaller_picture(level):
    camera, T = make_camera(501, 333), make_pose((0.2, -0.7, 0.5), (0.03, 0.02, 0.4))
    options = DetectorOptions(min_face_px=16)
    spotter = Spotter(T, camera, options, level)
    detector = SingleShotDetector(spotter, Agrees(T), FACE, UNCERTAINTY, options)
    heads = detector.detect(picture_with_spot(T, camera), camera)
    assert spotter.calls == len(spotter.zooms) == 2
    assert len(heads) == 1
    assert_poses_close(heads.coarse.T_cam_head, T, max_deg=0.3, max_mm=1.0)


def test_levels_end_where_a_head_cannot_be_larger():
    assert level_sizes(140, 600) == [(140, 600)]
    assert level_sizes(384, 512) == [(384, 512), (128, 171)]
    assert min(level_sizes(2000, 3000)[-1]) <= LARGEST_HEAD_PX


def test_boxes_are_square_and_as_high_as_the_face():
    camera, T = make_camera(640, 480), make_pose()
    options = DetectorOptions()
    detector = detector_of(T, camera, options)
    (x1, y1, x2, y2) = detector.detect(picture_with_spot(T, camera), camera).boxes_xyxy[0]
    uv = camera.project(se3.apply(T, FACE[[10, 152]])).uv[0]  # hairline, chin
    assert float(x2 - x1) == pytest.approx(float(y2 - y1), rel=1e-5)
    assert float(y1) == pytest.approx(float(uv[0, 1]), abs=0.03 * float(y2 - y1))
    assert float(y2) == pytest.approx(float(uv[1, 1]), abs=0.03 * float(y2 - y1))


@pytest.mark.parametrize('roll_deg', [0.0, 60.0, -140.0])
def test_crops_stand_upright_by_the_anchors(roll_deg):
    camera = make_camera(640, 480)
    roll = torch.tensor(roll_deg).deg2rad().item()
    T = make_pose((0.0, 0.0, roll))
    options = DetectorOptions()
    detector = detector_of(T, camera, options)
    faces = detector.detect(picture_with_spot(T, camera), camera)
    # Right eye, left eye, nose tip, mouth, right ear, left ear.
    points = FACE[[33, 263, 1, 13, 234, 454]]
    uv = camera.project(se3.apply(T, points)).uv[0].float()
    width = float((uv[5] - uv[4]).norm())
    assert (faces.anchors_uv[0] - uv).norm(dim=-1).max() < 0.15 * width  # corners for middles
    crops = crops_around_boxes(faces.boxes_xyxy, faces.anchors_uv, camera, 256, 1.5)
    up = crops.R_cam_crop[0].mT @ T[0, :3, 2]
    assert float(torch.atan2(up[0], -up[1]).rad2deg()) == pytest.approx(0, abs=3)


def test_the_input_is_the_scaled_image_and_black_beyond_it(generator):
    image = torch.randint(0, 256, (101, 211, 3), generator=generator, dtype=torch.uint8)
    picture = padded(scaled_picture(image, (81, 169)))
    assert picture.shape == (1, 3, 96, 192)
    scaled = F.interpolate(
        image.permute(2, 0, 1)[None].float() / 255, (81, 169), mode='bilinear', antialias=True
    )
    assert (picture[..., :81, :169] - scaled).abs().max() < 1.1 / 255  # bytes are rounded
    assert picture[..., 81:, :].abs().max() == 0
    assert picture[..., 169:].abs().max() == 0


def test_images_are_not_enlarged():
    options = DetectorOptions(min_face_px=16, max_input_px=1000)
    assert input_size(120, 160, options) == (120, 160)
    assert input_size(1000, 2000, options) == (500, 1000)


def test_the_covariance_follows_the_size_in_the_image():
    """Whatever the size of the picture in which the head was proposed."""
    camera, T = make_camera(640, 480), make_pose()
    image = picture_with_spot(T, camera)
    size = float(cells_of_poses(T, camera)[0].log_size.exp())
    part = torch.tensor(size / 20).log() / torch.tensor(10.0).log()
    # The second look states 0.1 of each error, the table says how many times that it is.
    expected = 0.1 * torch.lerp(torch.tensor(0.04), torch.tensor(0.01), part).sqrt()
    for min_face_px in (16, 64):
        options = DetectorOptions(min_face_px=min_face_px, max_input_px=640)
        detector = detector_of(T, camera, options)
        covariance = detector.detect(image, camera).coarse.covariance[0]
        assert torch.linalg.eigvalsh(covariance).min() > 0
        sigma = covariance[3:, 3:].diagonal().mean().sqrt()
        assert float(sigma) == pytest.approx(float(expected), rel=0.01)


def test_a_face_smaller_than_those_looked_for_is_no_answer():
    camera, T = make_camera(640, 480), make_pose()
    image = picture_with_spot(T, camera)
    (x1, _, x2, _) = detector_of(T, camera, DetectorOptions()).detect(image, camera).boxes_xyxy[0]
    side = float(x2 - x1)
    for least, found in ((1.1 * side, 1), (1.4 * side, 0)):
        options = DetectorOptions(min_face_px=least, max_input_px=640)
        assert len(detector_of(T, camera, options).detect(image, camera)) == found


def test_the_score_offset_is_added_to_the_logits():
    camera, T = make_camera(640, 480), make_pose()
    options = DetectorOptions(score_threshold=0.9)
    image, spotter = picture_with_spot(T, camera), Spotter(T, camera, options)
    for offset, found in ((0.0, 1), (-1.0, 0)):  # logit 3 is 0.95, logit 2 is 0.88
        uncertainty = UNCERTAINTY._replace(score_offset=torch.tensor(offset))
        detector = SingleShotDetector(spotter, Agrees(T), FACE, uncertainty, options)
        assert len(detector.detect(image, camera)) == found


def test_an_untrained_network_finds_nobody():
    network = SingleShot(SingleShotOptions((8, 8, 8, 8, 8), 1, 8, 1)).eval()
    detector = SingleShotDetector(network, RegionPose().eval(), FACE, UNCERTAINTY)
    camera = make_camera(200, 150)
    heads = detector.detect(torch.zeros(150, 200, 3, dtype=torch.uint8), camera)
    assert heads.coarse.T_cam_head.shape == (0, 4, 4)
    assert heads.coarse.covariance.shape == (0, 6, 6)
    assert heads.anchors_uv.shape == (0, 6, 2)


@pytest.mark.parametrize(
    ('shape', 'dtype', 'message'),
    [
        ((150, 200), torch.uint8, r'H and W at least 64'),
        ((150, 200, 3), torch.float32, r'uint8; got shape .*float32'),
        ((150, 201, 3), torch.uint8, r'the image is 201 x 150 but .* for 200 x 150'),
    ],
)
def test_wrong_images_are_refused(shape, dtype, message):
    fails = lambda _: pytest.fail('was run')  # noqa: E731
    detector = SingleShotDetector(fails, fails, FACE, UNCERTAINTY)
    with pytest.raises(ValueError, match=message):
        detector.detect(torch.zeros(shape, dtype=dtype), make_camera(200, 150))
