# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recall of both detectors on the images of AFLW2000-3D, in one run.

    python -m face_pose_lab.evaluation.detector_recall --data DIR

DIR is that of `evaluation.aflw2000`; so is the camera. A labelled face counts as found where a
box has an intersection over union of at least 0.3 with the bounds of its 68 points, and their
middle lies within the box. The detectors' boxes reach up to the hairline, so even a perfect one
has about 0.55. Faces beside the labelled one are not labelled: other boxes are counted, but not
all of them are false. The coarse poses of the single-shot detector are compared with the labels
by `evaluation.metrics`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.evaluation import metrics
from face_pose_lab.evaluation.aflw2000_samples import Sample, load_samples
from face_pose_lab.evaluation.data_error import DataError
from face_pose_ros.engines.networks import load_networks, load_single_shot
from face_pose_ros.faces.detector import DetectorOptions, FaceDetector
from face_pose_ros.faces.head_uncertainty import packaged_uncertainty
from face_pose_ros.faces.nms import box_overlaps
from face_pose_ros.faces.single_shot_detector import SingleShotDetector
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.pose.face_model import deformable_face
from face_pose_ros.results import Faces
from face_pose_ros.samples import load_image
from face_pose_ros.virtual_camera import photo_camera

MIN_IOU = 0.3
_NOBODY = 0.01  # the lowest score threshold that there is, for the curve
_MIN_SCORES = (0.3, 0.5, 0.7)
_TIMED = 100  # images

Detect = Callable[[NDArray[np.uint8], Camera], Faces]


class Found(NamedTuple):
    """Detections in N images."""

    score: NDArray[np.float64]  # (N,) of the best box on the labelled face, 0 without one
    R_cam_head: NDArray[np.float64]  # (N, 3, 3) of that box; NaN without a pose
    covariance: NDArray[np.float64]  # (N, 3, 3) of its rotation [rad^2]
    others: NDArray[np.float64]  # scores of all other boxes


def is_on(boxes_xyxy: NDArray[np.floating], face_xyxy: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(N,) whether boxes (N, 4) count as the face (4,)."""
    iou, _ = box_overlaps(np.concatenate([face_xyxy[None], boxes_xyxy]))
    middle = 0.5 * (face_xyxy[:2] + face_xyxy[2:])
    within = (boxes_xyxy[:, :2] < middle) & (middle < boxes_xyxy[:, 2:])
    return (iou[0, 1:] >= MIN_IOU) & within.all(-1)


def find(detect: Detect, samples: Sequence[Sample]) -> Found:
    """Run a detector on the images.

    Raises:
        DataError: A picture is missing.
    """
    score = np.zeros(len(samples))
    R, covariance = np.full((2, len(samples), 3, 3), np.nan)
    others: list[float] = []
    for i, sample in enumerate(tqdm(samples, desc='pictures', disable=None)):
        try:
            image = load_image(sample.path)
        except FileNotFoundError as error:
            raise DataError(str(error)) from None
        camera = photo_camera(image.shape[1], image.shape[0])
        heads = detect(image, camera)
        on = is_on(heads.boxes_xyxy.astype(np.float64), sample.box_xyxy)
        scores = heads.scores
        others += scores[~on].tolist()
        if on.any():
            best = int(np.where(on, scores, -1).argmax())
            score[i] = scores[best]
            if heads.coarse is not None:
                R[i] = heads.coarse.T_cam_head[best, :3, :3]
                covariance[i] = heads.coarse.covariance[best, 3:, 3:]
    return Found(score, R, covariance, np.array(others))


def median_ms(detect: Detect, samples: Sequence[Sample]) -> float:
    """Median time per image."""
    times_s = []
    for sample in samples:
        image = load_image(sample.path)
        camera = photo_camera(image.shape[1], image.shape[0])
        begin_s = time.perf_counter()
        detect(image, camera)
        times_s.append(time.perf_counter() - begin_s)
    return 1000 * float(np.median(times_s))


def recall_lines(found: dict[str, Found], yaw_deg: NDArray[np.float64]) -> list[str]:
    """A line per detector and score threshold: recall by |yaw|, other boxes per image."""
    bins = metrics.yaw_bins(yaw_deg)
    lines = [f'{"recall [%] by |yaw| [deg]":<32}' + ''.join(f'{b:>9}' for b in bins) + '  others']
    for name, one in found.items():
        for least in _MIN_SCORES:
            counts = [(one.score[mask] > least).sum() for mask in bins.values()]
            shares = [
                100 * n / max(mask.sum(), 1) for n, mask in zip(counts, bins.values(), strict=True)
            ]
            others = (one.others > least).sum() / len(yaw_deg)
            lines.append(
                f'{name}, score > {least:<10}'.ljust(32)
                + ''.join(f'{share:>9.1f}' for share in shares)
                + f'{others:>8.3f}'
            )
    return lines


def blazeface(options: DetectorOptions) -> Detect:
    """The default detector, without poses."""
    detector = FaceDetector(load_networks('cpu').detector, options)

    return lambda image_rgb, _: detector.detect(image_rgb)


def single_shot(options: DetectorOptions) -> Detect:
    """The single-shot detector."""
    return SingleShotDetector(
        *load_single_shot('cpu'), deformable_face().xyz_head, packaged_uncertainty(), options
    ).detect


def main(args: Sequence[str] | None = None) -> None:
    """Print recalls, and the errors of the coarse poses at a score of 0.5."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='folder of pictures and labels')
    parser.add_argument('--min-face-px', type=float, default=DetectorOptions().min_face_px)
    options = parser.parse_args(args)
    try:
        detector_options = DetectorOptions(
            score_threshold=_NOBODY, min_face_px=options.min_face_px
        )
        usual = DetectorOptions(min_face_px=options.min_face_px)
        samples = load_samples(options.data)
        found = {
            'blazeface': find(blazeface(detector_options), samples),
            'single_shot': find(single_shot(detector_options), samples),
        }
    except (DataError, ValueError) as error:
        parser.error(str(error))
    print_found(found, samples)
    for name, make in (('blazeface', blazeface), ('single_shot', single_shot)):
        print(f'{name}: {median_ms(make(usual), samples[:_TIMED]):.1f} ms per picture (p50)')


def print_found(found: dict[str, Found], samples: Sequence[Sample]) -> None:
    """Print tables of detectors; the last one has poses."""
    labels = np.stack([sample.pitch_yaw_roll_deg for sample in samples])
    print('\n'.join(recall_lines(found, labels[:, 1])))
    name, one = list(found.items())[-1]
    rows = metrics.score(one.R_cam_head, one.covariance, one.score > 0.5, labels)
    print(metrics.text({f'coarse poses of {name}, score > 0.5': rows}))


if __name__ == '__main__':
    main()
