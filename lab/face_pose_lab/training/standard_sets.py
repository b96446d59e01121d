# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Standard data sets, where a user has them, as shards that the training reads.

    python -m face_pose_lab.training.standard_sets 300w-lp FOLDER --out SHARDS
    python -m face_pose_lab.training.standard_sets biwi FOLDER --out SHARDS
    python -m face_pose_lab.training.standard_sets wider FOLDER --annotations LIST --out SHARDS

Their terms are the user's business: most are for research only, and so are weights made of them.

- 300W-LP, AFLW2000-3D (Zhu et al. 2016): NAME.jpg beside NAME.mat with 68 points. The pose is
  fitted to the points with f = width + height. Crops, with the keypoints that the 68 points have.
- BIWI (Fanelli et al. 2013): NN/frame_*_rgb.png, *_pose.txt, rgb.cal. The pose is moved to the
  colour camera, in BIWI's own head frame, whose origin is inside the head: another than ours.
- WIDER FACE (Yang et al. 2016) with img2pose's annotations: LIST names JSON files with
  'image_path', 'bboxes' and 'landmarks' (five points, -1 where unknown). The pose is fitted to the
  points with f = width + height; faces without points are painted black, as in img2pose.

The last two become scenes: pictures of SCENE_PX x SCENE_PX, scaled and filled up with black.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.evaluation import biwi
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.training.shards import write_manifest, write_shard
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import crops_around_boxes, render_crops
from face_pose_ros.keypoints import semantic
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Keypoints
from face_pose_ros.samples import load_image
from face_pose_ros.virtual_camera import photo_camera

Array = NDArray[np.float64]

CROP_PX, SCENE_PX, SHARD_SIZE = 128, 640, 256
_MARGIN = 2.0
# Face Mesh points nearest to points of the 68, the ones that are defined alike in both.
MESH_OF_68 = {
    8: 152, 27: 6, 30: 4, 33: 2, 31: 129, 35: 358, 36: 33, 39: 133, 42: 362, 45: 263, 48: 61,
    54: 291, 51: 0, 57: 17, 62: 13, 66: 14, 17: 70, 19: 105, 21: 107, 22: 336, 24: 334, 26: 300,
}  # fmt: skip
# Eyes' middles, tip of the nose, corners of the mouth: means of Face Mesh points.
_MESH_OF_5 = ((33, 133), (362, 263), (4,), (61,), (291,))


@dataclass(frozen=True)
class Photo:
    """A labelled picture."""

    path: Path
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    camera: Camera
    T_cam_head: Array  # (F, 4, 4) m


@dataclass(frozen=True)
class Points68:
    """A labelled face of 300W-LP or AFLW2000-3D."""

    path: Path  # of the picture
    uv: Array  # (68, 2) px
    pitch_yaw_roll_deg: Array  # (3,)


def read_300w_lp(folder: Path) -> Iterator[Points68]:
    """Faces of all NAME.jpg with a NAME.mat in a folder and below.

    The points count pixels from 1, as MATLAB does.

    Raises:
        DataError: There is none, or a file is damaged.
    """
    from scipy.io import loadmat

    paths = sorted(p for p in folder.rglob('*.mat') if p.with_suffix('.jpg').is_file())
    if not paths:
        raise DataError(f'{folder}: no NAME.mat beside a NAME.jpg')
    for path in paths:
        try:
            content = loadmat(path)
            pose = np.asarray(content['Pose_Para'], dtype=np.float64).reshape(-1)[:3]
            points = content['pt3d_68'] if 'pt3d_68' in content else content['pt2d']
            uv = np.asarray(points, dtype=np.float64)[:2].T - 1
        except Exception as error:  # loadmat raises whatever the damaged bytes lead it to
            raise DataError(f'{path}: not a file of 300W-LP ({error})') from error
        if uv.shape != (68, 2) or pose.shape != (3,):
            raise DataError(f'{path}: {uv.shape} points and {pose.shape} angles')
        yield Points68(path.with_suffix('.jpg'), uv, np.rad2deg(pose))


def read_biwi(folder: Path) -> Iterator[Photo]:
    """Frames of all sequences, see `biwi.read_frames`.

    Raises:
        DataError: There is none, or a file is damaged.
    """
    for frame in biwi.read_frames(folder):
        yield Photo(frame.path, frame.image(), frame.camera, frame.T_cam_head[None])


def read_wider(folder: Path, annotations: Path) -> Iterator[Photo]:
    """Pictures of img2pose's list, below the folder of WIDER FACE's pictures.

    Raises:
        DataError: A file is missing or damaged.
    """
    try:
        entries = annotations.read_text().split()
    except OSError as error:
        raise DataError(f'{annotations}: {error}') from error
    mesh = deformable_face().xyz_head
    xyz = np.stack([mesh[list(points)].mean(0) for points in _MESH_OF_5])
    for entry in entries:
        path = annotations.parent / entry
        try:
            content = json.loads(path.read_text())
            image = load_image(folder / content['image_path']).copy()
            faces = list(zip(content['bboxes'], content['landmarks'], strict=True))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f'{path}: {error!r}') from error
        camera = photo_camera(image.shape[1], image.shape[0])
        poses = []
        for box, landmarks in faces:
            uv = np.asarray(landmarks, dtype=np.float64)[:, :2]
            T = None if (uv == -1).any() else _solve_five(xyz, uv, camera)
            if T is None:
                left, top, right, bottom = (max(int(v), 0) for v in box[:4])
                image[top:bottom, left:right] = 0
            else:
                poses.append(T)
        yield Photo(path, image, camera, np.array(poses).reshape(-1, 4, 4))


def _solve_five(xyz: Array, uv: Array, camera: Camera) -> Array | None:
    """T_cam_head (4, 4) of five points, or None where none lies in front of the camera."""
    found, rvec, t = cv2.solvePnP(xyz, uv, camera.K, np.zeros(4), flags=cv2.SOLVEPNP_SQPNP)
    if not found or t[2] <= 0:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(rvec)[0], t[:, 0]
    return T


def crop_labels(face: Points68) -> tuple[NDArray[np.uint8], dict[str, Any]] | None:
    """A crop of a face and its labels; keypoints that the 68 do not have are NaN.

    None where the points have no pose.
    """
    image = load_image(face.path)
    camera = photo_camera(image.shape[1], image.shape[0])
    model = deformable_face()
    known = np.full((1, len(model.xyz_head), 2), np.nan)
    known[0, list(MESH_OF_68.values())] = face.uv[list(MESH_OF_68)]
    sigma = 0.015 * float(np.ptp(face.uv, axis=0).max())
    cov = sigma**2 * np.tile(np.eye(2), (*known.shape[:2], 1, 1))
    measured = Keypoints(known, cov, np.ones(1))
    poses = fit_pose(measured, model, camera, PoseOptions(independent_keypoints=6.0)).poses
    if poses.failed[0]:
        return None
    low, high = face.uv.min(0), face.uv.max(0)
    low = np.array([low[0], low[1] - 0.25 * (high[1] - low[1])])  # the 68 end at the brows
    box = np.concatenate([low, high])[None]
    crops = crops_around_boxes(box, camera, CROP_PX, _MARGIN)
    picture = render_crops(image, crops, camera)[0]
    f, middle = float(crops.focal_px[0]), 0.5 * (CROP_PX - 1)
    R = crops.R_cam_crop[0].T
    T = np.eye(4)
    T[:3, :3] = R @ poses.T_cam_head[0, :3, :3]
    T[:3, 3] = R @ poses.T_cam_head[0, :3, 3]
    rays = camera.unproject(known[0]).rays @ crops.R_cam_crop[0]
    uv = f * rays[:, :2] / rays[:, 2:] + middle
    uv[np.isnan(known[0])] = np.nan
    mesh = semantic.FACE_MESH_INDEX
    has = mesh >= 0
    xyz = np.full((len(mesh), 3), np.nan, np.float32)
    xyz[has] = model.points(poses.shape)[0][mesh[has]]
    uv_all = np.full((len(mesh), 2), np.nan, np.float32)
    uv_all[has] = uv[mesh[has]]
    labels = {
        'K_crop': np.array([[f, 0, middle], [0, f, middle], [0, 0, 1]]),
        'T_crop_head': T,
        'uv': uv_all,
        'xyz_head': xyz,
        'visible': np.isfinite(uv_all).all(-1),
        'head_size_px': np.float32(0.24 * f / T[2, 3]),
    }
    return (255 * picture.transpose(1, 2, 0)).round().astype(np.uint8), labels


def scene_of(photo: Photo) -> tuple[NDArray[np.uint8], Array, Array]:
    """The picture in SCENE_PX x SCENE_PX, its K (3, 3) and distortion (5,)."""
    height, width = photo.image.shape[:2]
    scale = SCENE_PX / max(height, width)
    size = (max(round(scale * width), 1), max(round(scale * height), 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scene = np.zeros((SCENE_PX, SCENE_PX, 3), np.uint8)
    scene[: size[1], : size[0]] = cv2.resize(photo.image, size, interpolation=method)
    camera = photo.camera.resize(*size)
    return scene, camera.K, camera.dist[:5]


def write_crops(faces: Iterator[Points68], out: Path, name: str) -> None:
    """Shards of crops."""
    write_manifest(out, _manifest('crops', name, CROP_PX))
    done = (crop_labels(face) for face in tqdm(faces, desc=name, disable=None))
    rows = (row for row in done if row is not None)
    number = 0
    while part := list(islice(rows, SHARD_SIZE)):
        labels = {key: np.stack([row[1][key] for row in part]) for key in part[0][1]}
        write_shard(out / f'{number:05d}', np.stack([row[0] for row in part]), labels)
        number += 1


def write_scenes(photos: Iterator[Photo], out: Path, name: str) -> None:
    """Shards of scenes."""
    write_manifest(out, _manifest('scenes', name, SCENE_PX))
    photos = iter(tqdm(photos, desc=name, disable=None))
    number = 0
    while part := list(islice(photos, SHARD_SIZE)):
        scenes, K, dist = (list(column) for column in zip(*map(scene_of, part), strict=True))
        counts = [len(photo.T_cam_head) for photo in part]
        labels = {
            'K': np.stack(K),
            'dist': np.stack(dist),
            'image_index': np.repeat(np.arange(len(part)), counts),
            'T_cam_head': np.concatenate([photo.T_cam_head for photo in part]),
            'visible_fraction': np.ones(sum(counts), np.float32),
        }
        write_shard(out / f'{number:05d}', np.stack(scenes), labels)
        number += 1


def _manifest(kind: str, name: str, size_px: int) -> dict[str, Any]:
    return {
        'kind': kind,
        'split': 'train',
        'seed': 0,
        'count': 0,
        'size_px': size_px,
        'families': [name],
        'commit': 'standard_sets',
    }


def main(args: Sequence[str] | None = None) -> None:
    """Convert a data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('set', choices=('300w-lp', 'biwi', 'wider'))
    parser.add_argument('folder', type=Path)
    parser.add_argument('--annotations', type=Path, help="img2pose's list, for wider")
    parser.add_argument('--out', type=Path, required=True)
    options = parser.parse_args(args)
    if options.set == 'wider' and options.annotations is None:
        parser.error('wider needs --annotations')
    try:
        if options.set == '300w-lp':
            write_crops(read_300w_lp(options.folder), options.out, options.set)
        elif options.set == 'biwi':
            write_scenes(read_biwi(options.folder), options.out, options.set)
        else:
            photos = read_wider(options.folder, options.annotations)
            write_scenes(photos, options.out, options.set)
    except DataError as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
