# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recall of the head detector on the photographs of AFLW2000-3D, beside BlazeFace, in one run.

    python -m face_pose_lab.evaluation.detector_recall --data DIR

DIR is that of `evaluation.aflw2000`; so is the camera. A labelled face counts as found where a
box has an intersection over union of at least 0.3 with the bounds of its 68 points, and their
middle lies within the box. Boxes reach up to the hairline, so even a perfect one has about 0.55.
Only one face per image is labelled, so boxes elsewhere are counted but not all of them are false.

Three detectors: BlazeFace; the proposals of the head detector; and what the estimator reports,
proposals that keypoints confirm. The rows: the photographs as they are and turned by quarters;
scaled until the labelled face is so many pixels high from chin to hairline; and cut until it fills
nine tenths of the image's height. Then the errors of the coarse poses, by `evaluation.metrics`,
and the time of one detection.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from face_pose_lab.blazeface.detector import BlazeFaceDetector
from face_pose_lab.blazeface.network import blazeface_full_range
from face_pose_lab.evaluation import metrics
from face_pose_lab.evaluation.aflw2000_samples import Sample, load_samples
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.head_detector.load import packaged_detector
from face_pose_lab.openvino_reference import OpenVinoReference
from face_pose_ros.engines.networks import core_count
from face_pose_ros.estimator import FacePoseEstimator
from face_pose_ros.faces.nms import box_overlaps
from face_pose_ros.geometry.camera import Camera
from face_pose_ros.options import DetectorOptions, EstimatorOptions
from face_pose_ros.results import Faces
from face_pose_ros.samples import load_image
from face_pose_ros.virtual_camera import photo_camera

MIN_IOU = 0.3
# Height of a face from chin to hairline over that of the bounds of its 68 points, which end at
# the brows.
_FACE_OVER_BOUNDS = 1.24
_FACE_PX = (20.0, 28.0, 40.0, 80.0)
_FILLED = 0.9
_SIDE_PX = 450  # of photographs that are cut
_TIMED = 100  # images
_TIMED_SIZES = ((450, 450), (720, 1280))

Image = NDArray[np.uint8]
Detect = Callable[[Image, Camera], Faces]


class View(NamedTuple):
    """A photograph, and the bounds (4,) px of the labelled face's 68 points."""

    image: Image
    box_xyxy: NDArray[np.float64]


class Found(NamedTuple):
    """Detections in N images."""

    found: NDArray[np.bool_]  # (N,) whether there is a box on the labelled face
    R_cam_head: NDArray[np.float64]  # (N, 3, 3) of the best such box; NaN without a pose
    covariance: NDArray[np.float64]  # (N, 3, 3) of its rotation [rad^2]
    others: int  # boxes elsewhere


def is_on(boxes_xyxy: NDArray[np.floating], face_xyxy: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(N,) whether boxes (N, 4) count as the face (4,)."""
    iou, _ = box_overlaps(np.concatenate([face_xyxy[None], boxes_xyxy]))
    middle = 0.5 * (face_xyxy[:2] + face_xyxy[2:])
    within = (boxes_xyxy[:, :2] < middle) & (middle < boxes_xyxy[:, 2:])
    return (iou[0, 1:] >= MIN_IOU) & within.all(-1)


def find(detect: Detect, views: Sequence[View] | Iterator[View], count: int) -> Found:
    """Run a detector on `count` images."""
    found = np.zeros(count, bool)
    R, covariance = np.full((2, count, 3, 3), np.nan)
    others = 0
    for i, view in enumerate(tqdm(views, desc='pictures', total=count, disable=None)):
        height, width = view.image.shape[:2]
        faces = detect(view.image, photo_camera(width, height))
        on = is_on(faces.boxes_xyxy.astype(np.float64), view.box_xyxy)
        others += int(np.count_nonzero(~on))
        if on.any():
            best = int(np.where(on, faces.scores, -1).argmax())
            found[i] = True
            if faces.coarse is not None:
                R[i] = faces.coarse.T_cam_head[best, :3, :3]
                covariance[i] = faces.coarse.covariance[best, 3:, 3:]
    return Found(found, R, covariance, others)


def turned(view: View, quarters: int) -> View:
    """Turned counter-clockwise by so many quarters."""
    image, box = view.image, view.box_xyxy
    for _ in range(quarters):
        left, top, right, bottom = box
        last = image.shape[1] - 1
        image, box = np.rot90(image), np.array([top, last - right, bottom, last - left])
    return View(np.ascontiguousarray(image), box)


def scaled(view: View, face_px: float) -> View:
    """Scaled until the labelled face is so high, in the middle of a grey image of 450 px."""
    scale = face_px / (_FACE_OVER_BOUNDS * (view.box_xyxy[3] - view.box_xyxy[1]))
    middle = 0.5 * (view.box_xyxy[:2] + view.box_xyxy[2:])
    return _placed(view, scale, middle, np.full(2, 0.5 * _SIDE_PX))


def filling(view: View) -> View:
    """Cut and scaled until the labelled face fills most of the height of the image."""
    scale = _FILLED * _SIDE_PX / (_FACE_OVER_BOUNDS * (view.box_xyxy[3] - view.box_xyxy[1]))
    centre = 0.5 * (view.box_xyxy[:2] + view.box_xyxy[2:])
    forehead = 0.5 * (_FACE_OVER_BOUNDS - 1) * (view.box_xyxy[3] - view.box_xyxy[1])
    return _placed(view, scale, centre - (0, forehead), np.full(2, 0.5 * _SIDE_PX))


def _placed(view: View, scale: float, middle: NDArray, at: NDArray) -> View:
    """A square image in which a point of the photograph lies at another point, scaled."""
    image = view.image
    shrunk = min(scale, 1.0)
    if shrunk < 1:
        resized = cv2.resize(image, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
        image = np.asarray(resized, np.uint8)
    # Of continuous coordinates, whose origin is the corner of the image.
    offset = at + 0.5 - scale * (middle + 0.5)
    rest = scale / shrunk
    A = np.array(
        [[rest, 0, offset[0] + 0.5 * rest - 0.5], [0, rest, offset[1] + 0.5 * rest - 0.5]]
    )
    placed = cv2.warpAffine(image, A, (_SIDE_PX, _SIDE_PX), borderValue=(128, 128, 128))
    box = scale * (view.box_xyxy + 0.5) + np.tile(offset, 2) - 0.5
    return View(np.asarray(placed, np.uint8), box)


def rows_of() -> dict[str, tuple[Callable[[View], View], float]]:
    """For each row its change of a photograph, and the smallest face to detect [px]."""
    usual = DetectorOptions().min_face_px
    rows: dict[str, tuple[Callable[[View], View], float]] = {'as it is': (lambda v: v, usual)}
    for quarters in (1, 2, 3):
        rows[f'turned by {90 * quarters} deg'] = partial(turned, quarters=quarters), usual
    for px in _FACE_PX:
        rows[f'face of {px:g} px'] = partial(scaled, face_px=px), min(usual, px)
    rows[f'face of {_FILLED:.0%} of the height'] = filling, usual
    return rows


def median_ms(detect: Detect, images: Sequence[Image]) -> float:
    """Median time per image."""
    times_s = []
    for image in images:
        camera = photo_camera(image.shape[1], image.shape[0])
        begin_s = time.perf_counter()
        detect(image, camera)
        times_s.append(time.perf_counter() - begin_s)
    return 1000 * float(np.median(times_s))


def blazeface(options: DetectorOptions) -> Detect:
    """BlazeFace full range, in float32."""
    network = OpenVinoReference(blazeface_full_range(), core_count())
    detector = BlazeFaceDetector(network, options)
    return lambda image_rgb, _: detector.detect(image_rgb)


def head_detector(options: DetectorOptions) -> Detect:
    """The package's detector."""
    return packaged_detector(options).detect


def estimator(options: DetectorOptions) -> Detect:
    """Detections that keypoints confirm: the faces that the estimator reports."""
    whole = FacePoseEstimator('cpu', EstimatorOptions(detector=options))

    def detect(image_rgb: Image, camera: Camera) -> Faces:
        faces = whole.estimate(image_rgb, camera)
        if not faces:
            return Faces.of_boxes(np.zeros((0, 4)))
        return Faces(
            np.array([face.box_xyxy for face in faces], np.float32),
            np.array([face.score for face in faces], np.float32),
        )

    return detect


DETECTORS = {'blazeface': blazeface, 'head_detector': head_detector, 'estimator': estimator}


def read_views(samples: Sequence[Sample]) -> Iterator[View]:
    """The photographs.

    Raises:
        DataError: A photograph is missing.
    """
    for sample in samples:
        try:
            yield View(load_image(sample.path), sample.box_xyxy)
        except FileNotFoundError as error:
            raise DataError(str(error)) from None


def main(args: Sequence[str] | None = None) -> None:
    """Print recalls, the errors of the coarse poses, and times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, required=True, help='folder of pictures and labels')
    options = parser.parse_args(args)
    try:
        samples = load_samples(options.data)
        print_recalls(samples)
    except DataError as error:
        parser.error(str(error))
    images = [view.image for view in read_views(samples[:_TIMED])]
    for height, width in _TIMED_SIZES:
        sized = [np.asarray(cv2.resize(image, (width, height)), np.uint8) for image in images]
        for name, make in DETECTORS.items():
            detect = make(DetectorOptions())
            detect(sized[0], photo_camera(width, height))
            print(f'{name}, {width} x {height}: {median_ms(detect, sized):.1f} ms (p50)')


def print_recalls(samples: Sequence[Sample]) -> None:
    """A line per row and detector; errors of the coarse poses of the first row."""
    labels = np.stack([sample.pitch_yaw_roll_deg for sample in samples])
    bins = metrics.yaw_bins(labels[:, 1])
    title = 'recall [%] by |yaw| [deg]; others: boxes elsewhere per picture'
    print(f'{title:<64}' + ''.join(f'{b:>9}' for b in bins) + '   others')
    poses = None
    for row, (change, min_face_px) in rows_of().items():
        for name, make in DETECTORS.items():
            detect = make(DetectorOptions(min_face_px=min_face_px))
            views = (change(view) for view in read_views(samples))
            one = find(detect, views, len(samples))
            shares = [100 * one.found[mask].mean() for mask in bins.values() if mask.any()]
            print(
                f'{row}, {name}'.ljust(64)
                + ''.join(f'{share:>9.1f}' for share in shares)
                + f'{one.others / len(samples):>9.3f}'
            )
            poses = poses or (one if name == 'head_detector' else None)
    assert poses is not None
    rows = metrics.score(poses.R_cam_head, poses.covariance, poses.found, labels)
    print(metrics.text({'coarse poses of the head detector': rows}))


if __name__ == '__main__':
    main()
