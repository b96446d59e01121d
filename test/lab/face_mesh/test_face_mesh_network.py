# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network against LiteRT, and which pixel convention its numbers follow."""

import cv2
import numpy as np
import pytest
import torch
from face_pose_lab.face_mesh.network import face_mesh_v2
from face_pose_lab.face_mesh.points import CROP_SIZE_PX
from helpers.published_models import published_model, run_litert

from face_pose_ros.keypoints.face_mesh import POINTS
from face_pose_ros.samples import load_portraits
from face_pose_ros.weights import load_weights

# Square crops (left, top, side) px around the faces, 1.5 times as large as these.
CROPS = {'grace_hopper': (111, 77, 300), 'astronaut': (144, 41, 162)}


@pytest.fixture(scope='module')
def network():
    return face_mesh_v2()


def face_crop(name):
    """(1, 256, 256, 3) float32 in [0, 1]."""
    left, top, side = CROPS[name]
    crop = load_portraits()[name][top : top + side, left : left + side]
    crop = cv2.resize(crop, (CROP_SIZE_PX, CROP_SIZE_PX), interpolation=cv2.INTER_LINEAR)
    return crop.astype(np.float32)[None] / 255


def to_torch(crop):
    return torch.from_numpy(crop).permute(0, 3, 1, 2)


@pytest.mark.parametrize('name', list(CROPS))
@torch.inference_mode()
def test_same_output_as_the_published_graph(network, name):
    model = published_model('face_landmarks_detector.tflite')
    crop = face_crop(name)
    landmarks, presence_logit, _ = run_litert(model, crop)
    xyz = torch.from_numpy(landmarks).view(1, POINTS, 3)
    ours = network(to_torch(crop))
    assert ours.presence.item() > 0.99
    # 2e-4 px measured; the published graph counts from the corner, we from the pixel's centre
    torch.testing.assert_close(ours.uv, xyz[..., :2] - 0.5, rtol=0, atol=2e-3)
    torch.testing.assert_close(ours.z, xyz[..., 2], rtol=0, atol=2e-3)
    expected = torch.from_numpy(presence_logit).sigmoid().flatten()
    torch.testing.assert_close(ours.presence, expected, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_a_mirrored_face_has_mirrored_points(network):
    # Mirroring an image sends pixel u to 255 - u. Over 129 photographs the mean of u + mirrored u
    # was 255.02 +- 0.06; had we kept the graph's own numbers it would be 256.02.
    xyz_head = torch.tensor(load_weights('canonical_face')['xyz_head'])
    other_side = torch.cdist(xyz_head, xyz_head * torch.tensor([1.0, -1.0, 1.0])).argmin(dim=0)
    sums = []
    for name in CROPS:
        crop = to_torch(face_crop(name))
        u = network(crop).uv[0, :468, 0]
        u_mirrored = network(crop.flip(-1)).uv[0, :468, 0]
        sums.append((u + u_mirrored[other_side]).mean())
    assert torch.stack(sums).mean().item() == pytest.approx(CROP_SIZE_PX - 1, abs=0.4)


@pytest.mark.parametrize('shift', [(3, 0), (0, 5)])
@torch.inference_mode()
def test_points_follow_the_image(network, shift):
    crop = to_torch(face_crop('grace_hopper'))
    moved = crop.roll(shift, dims=(3, 2))
    offset = (network(moved).uv - network(crop).uv).mean(dim=(0, 1))
    assert offset.tolist() == pytest.approx(shift, abs=0.5)


@torch.inference_mode()
def test_presence_tells_a_face_from_none(network, generator):
    noise = torch.rand(1, 3, 256, 256, generator=generator)
    crops = torch.cat([to_torch(face_crop('astronaut')), noise, torch.full_like(noise, 0.5)])
    presence = network(crops).presence
    assert presence[0] > 0.99
    assert presence[1:].max() < 0.1


@torch.inference_mode()
def test_shapes_for_no_face_and_several(network):
    for count in (0, 1, 3):
        points = network(torch.zeros(count, 3, 256, 256))
        assert points.uv.shape == (count, POINTS, 2)
        assert points.z.shape == (count, POINTS)
        assert points.presence.shape == (count,)


@torch.inference_mode()
def test_a_face_gives_the_same_whatever_shares_its_batch(network, generator):
    crop = to_torch(face_crop('astronaut'))
    batch = torch.cat([torch.rand(2, 3, 256, 256, generator=generator), crop])
    torch.testing.assert_close(network(batch).uv[2:], network(crop).uv, rtol=0, atol=5e-3)


@pytest.mark.parametrize('shape', [(3, 256, 256), (1, 3, 192, 192), (1, 4, 256, 256)])
def test_other_shapes_are_refused(network, shape):
    with pytest.raises(ValueError, match=r'\(N, 3, 256, 256\)'):
        network(torch.zeros(shape))
