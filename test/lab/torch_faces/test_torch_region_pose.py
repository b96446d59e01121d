# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the numbers of regions mean in torch, as in the runtime; the network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from face_pose_lab.torch_faces.region_pose import (
    read_keypoints,
    read_regions,
    region_cameras,
)
from face_pose_lab.torch_faces.single_shot import CellPoses, cells_of_poses
from face_pose_lab.torch_geometry import se3, so3
from helpers.cameras import make_torch_camera
from helpers.scene import R_CAM_FRONTAL, random_poses

from face_pose_ros.faces import region_pose as runtime
from face_pose_ros.faces.region_pose import FRONTAL_COLUMNS, REGION_PX, REGION_SCALE
from face_pose_ros.networks.region_pose import (
    MirrorAveraged,
    RegionPose,
    RegionPoseOptions,
    of_mirrored,
)

TINY = RegionPoseOptions((8, 8, 8, 8), (1, 1, 1, 1), 16)


def said_of(T, regions):
    """What the network should say (N, 16) of heads at T in these regions."""
    R = torch.from_numpy(regions.R_cam_crop)
    T_crop = se3.from_rt(R.mT, torch.zeros(len(T), 3).double()) @ T
    middle = torch.full((len(T), 2), 0.5 * (REGION_PX - 1), dtype=torch.float64)
    cameras = region_cameras(torch.from_numpy(regions.focal_px), middle, REGION_PX)
    cells, _ = cells_of_poses(T_crop[:, None], cameras)
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


@pytest.mark.parametrize('lens', ['none', 'plumb_bob_5', 'equidistant'])
def test_numbers_mean_what_they_mean_to_the_runtime(lens, generator):
    T = random_poses(100, make_torch_camera(lens), generator)
    regions = runtime.regions_of_poses(T.numpy())
    numbers = said_of(T, regions)
    cells, sigma = read_regions(numbers)
    of_runtime = runtime.read_regions(numbers.numpy())
    for found, expected in zip(
        (*cells, sigma), (*of_runtime.cells, of_runtime.sigma), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(
        runtime.poses_of_regions(of_runtime.cells, regions), T, rtol=0, atol=1e-9
    )


def test_the_output_for_a_mirror_image_is_mirrored(generator):
    network = MirrorAveraged(RegionPose(TINY).eval())
    torch.nn.init.normal_(network.network.last.weight, generator=generator)
    regions = torch.rand(3, 3, REGION_PX, REGION_PX, generator=generator)
    with torch.no_grad():
        said, of_mirror = network(regions), network(regions.flip(-1))
        alone = network.network(regions)
    assert torch.allclose(of_mirrored(of_mirror), said, atol=1e-5)
    assert not torch.allclose(said, alone, atol=1e-2)
    # A head mirrored about the picture's middle and its own: x of the camera, y of the head.
    T = random_poses(20, make_torch_camera('none'), generator)
    M = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
    H = torch.diag(torch.tensor([1.0, -1, 1, 1], dtype=torch.float64))
    straight = se3.from_rt(R_CAM_FRONTAL, torch.tensor([0.0, 0, 0.8]))
    straight = runtime.regions_of_poses(straight.expand(20, 4, 4).numpy())
    assert torch.allclose(
        of_mirrored(said_of(M @ T @ H, straight)), said_of(T, straight), atol=1e-9
    )


def test_the_untrained_network_predicts_frontal_heads():
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


def test_impossible_sizes_and_images_are_refused():
    with pytest.raises(ValueError, match=r'blocks must be 4 positive numbers, got \(1, 2\)'):
        RegionPoseOptions(blocks=(1, 2))
    with pytest.raises(ValueError, match='hidden must be at least 1, got 0'):
        RegionPoseOptions(hidden=0)
    with pytest.raises(ValueError, match='keypoints must not be negative, got -1'):
        RegionPoseOptions(keypoints=-1)
    with pytest.raises(ValueError, match=r'\(N, 3, 64, 64\), got \(1, 3, 32, 32\)'):
        RegionPose(TINY)(torch.rand(1, 3, 32, 32))
