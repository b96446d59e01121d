# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses of rendered heads by the keypoint network: errors and calibration.

    python -m face_pose_lab.keypoint_net.score_rendered STATE --crops FOLDER
    python -m face_pose_lab.keypoint_net.score_rendered STATE --heads heads.npz --pictures PICTURES

Crops are of the renderer of the training data, with people, assets and places that are not in the
training data; each head is measured in one crop, centred as for a tracked face. Heads are of
another renderer (`evaluation.rendered_heads`), in whole images with all lenses; each head is
measured in two crops, starting from the true box.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from face_pose_lab.evaluation.heads_in_pictures import bins_of, heads_of_export, usable
from face_pose_lab.evaluation.pose_errors import (
    HEADING,
    PoseErrors,
    pose_errors,
    table_row,
    turn_deg,
)
from face_pose_lab.keypoint_net.predict import (
    Network,
    load_calibration,
    load_network,
    predictor_of,
    to_crop,
)
from face_pose_lab.training.losses import NORMALISED_CAMERA
from face_pose_lab.training.shards import open_shards
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.geometry.crops import Crops, render_crops
from face_pose_ros.keypoints.network_output import INPUT_PX, Calibration, read_keypoints
from face_pose_ros.keypoints.predictor import crops_around_heads
from face_pose_ros.keypoints.semantic import IS_FACE
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import FaceModel, semantic_head
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Faces, HeadPoses, Keypoints

Array = NDArray[np.float64]

_TURNS_DEG = ((0, 15), (15, 30), (30, 60), (60, 90), (0, 60), (0, 90))
_FIRST_MARGIN = 1.7  # side of the first crop over the side of a box around the whole face


def fit(
    keypoints: Keypoints, camera: Camera, calibration: Calibration, head: FaceModel
) -> HeadPoses:
    """Fit poses as the estimator does."""
    options = PoseOptions(independent_keypoints=calibration.independent_keypoints)
    return fit_pose(keypoints, head, camera, options).poses


@dataclass(frozen=True)
class MeasuredCrops:
    """Output of the network for N rendered heads, and the true values."""

    numbers: Tensor  # (N, 437)
    crops: Crops  # of the cameras of the rendered pictures
    uv_true: Array  # (N, K, 2) px of the crops
    T_cam_head: Array  # (N, 4, 4) m

    def __getitem__(self, rows: NDArray[np.intp]) -> MeasuredCrops:
        numbers = self.numbers[torch.from_numpy(rows)]
        return MeasuredCrops(numbers, self.crops[rows], self.uv_true[rows], self.T_cam_head[rows])

    def keypoints(self, calibration: Calibration) -> Keypoints:
        """Keypoints in the image of NORMALISED_CAMERA."""
        return read_keypoints(self.numbers.numpy(), self.crops, NORMALISED_CAMERA, calibration)

    def pose_errors(
        self, calibration: Calibration, head: FaceModel
    ) -> tuple[PoseErrors, NDArray[np.bool_]]:
        """Errors of the found heads, and which heads are found (N,)."""
        keypoints = self.keypoints(calibration)
        poses = fit(keypoints, NORMALISED_CAMERA, calibration, head)
        found = ~poses.failed & (keypoints.presence > 0.5)
        errors = pose_errors(
            poses.T_cam_head[found], poses.covariance[found], self.T_cam_head[found]
        )
        return errors, found


@torch.no_grad()
def measured_crops(network: Network, folder: Path) -> MeasuredCrops:
    """Measure each picture in one crop around its true keypoints."""
    numbers, every, xyz, T = [], [], [], []
    for shard in open_shards(folder):
        labels = shard.labels
        for i, picture in enumerate(shard.pictures):
            image = np.array(picture)
            camera = Camera.from_K(labels['K_crop'][i], image.shape[1], image.shape[0])
            uv = labels['uv'][i].astype(np.float64)[None]
            every.append(crops_around_heads(uv[:, IS_FACE], camera))
            pictures = torch.from_numpy(render_crops(image, every[-1], camera))
            numbers.append(network(pictures))
        T.append(labels['T_crop_head'].astype(np.float64))
        xyz.append(labels['xyz_head'].astype(np.float64))
    crops = Crops(
        np.concatenate([one.R_cam_crop for one in every]),
        np.concatenate([one.focal_px for one in every]),
        np.concatenate([one.valid for one in every]),
        INPUT_PX,
    )
    T_all = np.concatenate(T)
    xyz_cam = np.concatenate(xyz) @ T_all[:, :3, :3].swapaxes(1, 2) + T_all[:, None, :3, 3]
    return MeasuredCrops(torch.cat(numbers), crops, to_crop(xyz_cam, crops), T_all)


def print_table(errors: PoseErrors, found: NDArray[np.bool_], bins: dict[str, NDArray]) -> None:
    """Print a row for each bin (N,) of heads; errors are of the found heads only."""
    print(HEADING.replace('|yaw|', 'turn '))
    for name, mask in bins.items():
        print(table_row(name, int(mask.sum()), errors[mask[found]]))


def main(args: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--crops', type=Path, help='folder of rendered crops')
    source.add_argument('--heads', type=Path, help='.npz file of evaluation.rendered_heads')
    parser.add_argument('--pictures', type=Path, help='folder of the pictures of these heads')
    parser.add_argument('--calibration', type=Path, help='.npz file of `calibrate`')
    options = parser.parse_args(args)
    network, calibration = load_network(options.state), load_calibration(options.calibration)
    model = semantic_head()
    if options.crops:
        heads = measured_crops(network, options.crops)
        turn = turn_deg(heads.T_cam_head)
        bins = {f'{a}-{b}': (turn >= a) & (turn < b) for a, b in _TURNS_DEG}
        errors, found = heads.pose_errors(calibration, model)
        print_table(errors, found, bins)
        return
    every, boxes = usable(heads_of_export(options.heads, options.pictures))
    predictor = predictor_of(network, calibration, max_crops=2)
    T, covariance, seen = [], [], []
    for head, box in zip(every, boxes, strict=True):
        keypoints = predictor.predict(
            head.picture, Faces.of_boxes(box), head.camera, _FIRST_MARGIN
        )
        poses = fit(keypoints, head.camera, calibration, model)
        seen.append(bool(keypoints.presence[0] > 0.5 and not poses.failed[0]))
        if seen[-1]:
            T.append(poses.T_cam_head)
            covariance.append(poses.covariance)
    is_found = np.array(seen)
    truth = np.stack([head.T_cam_head for head in every])[is_found]
    errors = pose_errors(np.concatenate(T), np.concatenate(covariance), truth)
    print_table(errors, is_found, bins_of(every, boxes))


if __name__ == '__main__':
    main()
