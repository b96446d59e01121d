# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Label photographs with the network itself, for self-training (mean teacher).

    python -m face_pose_lab.keypoint_net.self_label STATE fairface REPOSITORY --out FOLDER

A first crop follows the face box. Six more follow its keypoints, slightly scaled, shifted and
rolled, every second one mirrored. The label is the mean of these six measurements: its error is
smaller than that of a single one. Their spread shows which labels are unreliable.

A shard has the labels of rendered crops (`uv`, `T_crop_head`, `K_crop`), and `name`, `presence`
(the minimum over the crops), and `apart` (mean distance of keypoints from their mean over the
crops, divided by the side of the face).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from face_pose_lab.head_detector.load import packaged_detector
from face_pose_lab.jittered import jittered
from face_pose_lab.keypoint_net.label_photographs import (
    MARGIN as PICTURE_MARGIN,
)
from face_pose_lab.keypoint_net.label_photographs import (
    PICTURE_PX,
    Placed,
    label_source,
    picture_of,
)
from face_pose_lab.keypoint_net.predict import (
    Network,
    load_calibration,
    load_network,
    predictor_of,
    to_crop,
)
from face_pose_lab.keypoint_net.sources import SOURCES
from face_pose_lab.training.shards import write_manifest
from face_pose_ros.geometry.crops import render_crops
from face_pose_ros.keypoints import semantic
from face_pose_ros.keypoints.network_output import (
    INPUT_PX,
    MARGIN,
    Calibration,
    read_keypoints,
)
from face_pose_ros.keypoints.predictor import crops_around_heads
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import semantic_head
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Faces, Keypoints

_CROPS = 6
_SEEN = 0.5


class Student:
    """Labels pictures with the network itself."""

    def __init__(self, network: Network, calibration: Calibration) -> None:
        self._network, self._calibration = network, calibration
        self._predictor = predictor_of(network, calibration, max_crops=1)
        self._head = semantic_head()

    @torch.no_grad()
    def label(self, placed: Placed) -> tuple[NDArray[np.uint8], dict[str, NDArray]] | None:
        """The picture and its labels, or None if no face is measured."""
        camera = placed.camera
        faces = Faces.of_boxes(placed.box_xyxy)
        first = self._predictor.predict(placed.image, faces, camera)
        if first.presence[0] < _SEEN:
            return None
        around = crops_around_heads(first.uv[:, semantic.IS_FACE], camera)
        crops, mirrored = jittered(around, _CROPS)
        numbers = self._network(torch.from_numpy(render_crops(placed.image, crops, camera)))
        found = read_keypoints(numbers.numpy(), crops, camera, self._calibration)
        if found.presence.min() < _SEEN:
            return None
        # Coordinates of mirrored crops are already mirrored back; swap right and left.
        uv, cov = found.uv.copy(), found.cov_uv.copy()
        uv[mirrored] = uv[mirrored][:, semantic.MIRROR]
        cov[mirrored] = cov[mirrored][:, semantic.MIRROR]
        mean = uv.mean(0)
        side = INPUT_PX / MARGIN * math.sqrt(abs(np.linalg.det(around.jacobian(camera)[0])))
        apart = np.linalg.norm(uv - mean, axis=-1).mean() / side
        options = PoseOptions(independent_keypoints=self._calibration.independent_keypoints)
        keypoints = Keypoints(mean[None], cov.mean(0)[None], np.ones(1))
        poses = fit_pose(keypoints, self._head, camera, options).poses
        if poses.failed[0]:
            return None
        face = mean[None, semantic.IS_FACE]
        crop = crops_around_heads(face, camera, PICTURE_PX, PICTURE_MARGIN)
        rays, _ = camera.unproject(mean[None])
        T = poses.T_cam_head[0].copy()
        T[:3] = crop.R_cam_crop[0].T @ T[:3]
        f, c = float(crop.focal_px[0]), 0.5 * (PICTURE_PX - 1)
        return (
            picture_of(placed.image, crop, camera),
            {
                'name': np.array(placed.name, dtype='U80'),
                'uv': to_crop(rays, crop)[0].astype(np.float32),
                'T_crop_head': T.astype(np.float32),
                'K_crop': np.array([[f, 0, c], [0, f, c], [0, 0, 1]], np.float32),
                'presence': np.array(found.presence.min(), np.float32),
                'apart': np.array(apart, np.float32),
            },
        )


def main(args: Sequence[str] | None = None) -> None:
    """Label the pictures that are not labelled yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training')
    parser.add_argument('source', choices=tuple(SOURCES))
    parser.add_argument('repository', type=Path, help='a clone of the source')
    parser.add_argument('--calibration', type=Path, help='.npz file of `calibrate`')
    parser.add_argument('--first', type=int, default=0, help='shard to begin with')
    parser.add_argument('--out', type=Path, required=True, help='folder of the shards')
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    student = Student(load_network(options.state), load_calibration(options.calibration))
    detector = packaged_detector()
    write_manifest(options.out, {'source': options.source, 'state': options.state.name})
    label_source(
        options.source, options.repository, options.out, student.label, detector, options.first
    )


if __name__ == '__main__':
    main()
