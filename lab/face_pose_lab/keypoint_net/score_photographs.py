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
from functools import reduce
from pathlib import Path

import numpy as np

from face_pose_lab.evaluation import metrics
from face_pose_lab.evaluation.aflw2000 import MARGIN, measured
from face_pose_lab.evaluation.aflw2000_samples import Sample, load_samples
from face_pose_lab.keypoint_net.predict import load_calibration, load_network, predictor_of
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.keypoints.predictor import KeypointPredictor
from face_pose_ros.options import PoseOptions
from face_pose_ros.pose.face_model import semantic_head
from face_pose_ros.pose.fit import fit_pose
from face_pose_ros.results import Keypoints
from face_pose_ros.samples import load_image
from face_pose_ros.virtual_camera import photo_camera

_SEEN = 0.5


def look_at(predictor: KeypointPredictor, sample: Sample) -> tuple[Keypoints, Camera]:
    """Keypoints of the head whose 68 points have the sample's bounds."""
    image = load_image(sample.path)
    camera = photo_camera(image.shape[1], image.shape[0])
    return measured(predictor, image, sample, camera, MARGIN), camera


def main(args: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training')
    parser.add_argument('--data', type=Path, required=True, help='folder of AFLW2000-3D')
    parser.add_argument('--calibration', type=Path, help='.npz file of `calibrate`')
    parser.add_argument('--max-crops', type=int, default=2)
    options = parser.parse_args(args)
    calibration = load_calibration(options.calibration)
    predictor = predictor_of(load_network(options.state), calibration, options.max_crops)
    samples = load_samples(options.data)
    faces, cameras = zip(*(look_at(predictor, sample) for sample in samples), strict=True)
    keypoints = reduce(Keypoints.join, faces)
    fit = PoseOptions(independent_keypoints=calibration.independent_keypoints)
    poses = fit_pose(keypoints, semantic_head(), cameras[0], fit).poses
    found = (keypoints.presence > _SEEN) & ~poses.failed
    labels = np.stack([s.pitch_yaw_roll_deg for s in samples])
    covariance = poses.covariance[:, 3:, 3:]
    R = poses.T_cam_head[:, :3, :3]
    print(metrics.text({'fit': metrics.score(R, covariance, found, labels)}))
    errors = metrics.aligned_errors_deg(R, found, labels)
    for name, mask in metrics.yaw_bins(labels[:, 1]).items():
        tail = np.nanpercentile(errors[mask], 95)
        print(f'{name}: 95th percentile of the aligned error {tail:.1f} deg')


if __name__ == '__main__':
    main()
