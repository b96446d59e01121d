# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses of AFLW2000-3D's pictures by the keypoint network, as the product fits them.

    python -m face_pose_lab.keypoint_net.score_photographs RUN/last.pt --data AFLW2000

Boxes and camera as in `evaluation.aflw2000`: bounds of the 68 labelled points. No network is
trained on these pictures and nothing is chosen by them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from face_pose_lab.evaluation import metrics
from face_pose_lab.evaluation.aflw2000_samples import Sample, load_samples
from face_pose_lab.keypoint_net.network import read_head
from face_pose_lab.keypoint_net.predict import Calibration, HeadPredictor, Look, load_network
from face_pose_lab.torch_geometry import so3
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import semantic_head
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Faces, Keypoints
from face_pose_ros.samples import load_image
from face_pose_ros.virtual_camera import photo_camera

_BROWS_RISE = 0.12  # of the box: the face reaches further up than the 68 points
_FIRST_MARGIN = 1.9  # side of the first crop over that of the box
_SEEN = 0.5


def look_at(predictor: HeadPredictor, sample: Sample) -> tuple[Look, Camera]:
    """The last look at the head whose 68 points have the sample's bounds."""
    image = load_image(sample.path)
    camera = photo_camera(image.shape[1], image.shape[0])
    left, top, right, bottom = sample.box_xyxy
    rise = _BROWS_RISE * (bottom - top)
    faces = Faces.of_boxes([left, top - rise, right, bottom - rise])
    return predictor.predict(image, faces, camera, _FIRST_MARGIN), camera


def rotations_said(looks: Sequence[Look]) -> NDArray[np.float64]:
    """(N, 3, 3) R_cam_head that the network itself says."""
    R = so3.from_columns(read_head(torch.cat([look.numbers for look in looks])).columns)
    return np.concatenate([look.crops.R_cam_crop for look in looks]) @ R.double().numpy()


def main(args: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training')
    parser.add_argument('--data', type=Path, required=True, help='folder of AFLW2000-3D')
    parser.add_argument('--calibration', type=Path, help='.npz file of `calibrate`')
    parser.add_argument('--looks', type=int, default=2)
    parser.add_argument('--mirrored', action='store_true', help='mean with the mirror image')
    options = parser.parse_args(args)
    network, calibration = load_network(options.state), Calibration.load(options.calibration)
    predictor = HeadPredictor(network, calibration, options.looks, options.mirrored)
    samples = load_samples(options.data)
    looks, cameras = zip(*(look_at(predictor, sample) for sample in samples), strict=True)
    keypoints = Keypoints(
        *(
            np.concatenate([getattr(look.keypoints, name) for look in looks])
            for name in ('uv', 'cov_uv', 'presence')
        )
    )
    fit = PoseOptions(visibility=False, independent_keypoints=calibration.independent_keypoints)
    poses = fit_pose(keypoints, semantic_head(), cameras[0], fit).poses
    answered = (keypoints.presence > _SEEN) & ~poses.failed
    labels = np.stack([s.pitch_yaw_roll_deg for s in samples])
    covariance = poses.covariance[:, 3:, 3:]
    tables = {
        'fit': metrics.score(poses.T_cam_head[:, :3, :3], covariance, answered, labels),
        'rotation that the network says': metrics.score(
            rotations_said(looks), covariance, answered, labels
        ),
    }
    print(metrics.text(tables))
    errors = metrics.aligned_errors_deg(poses.T_cam_head[:, :3, :3], answered, labels)
    for name, mask in metrics.yaw_bins(labels[:, 1]).items():
        tail = np.nanpercentile(errors[mask], 95)
        print(f'{name}: 95th percentile of the aligned error {tail:.1f} deg')


if __name__ == '__main__':
    main()
