# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the pose pipeline over one recording; resumes after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from face_pose_ros.ros.bag.partial_output import PartialOutput, messages_of
from face_pose_ros.ros.bag.reader import BagError, Recording
from face_pose_ros.ros.declaring import ParameterError
from face_pose_ros.ros.parameters import Parameters
from face_pose_ros.ros.pipeline import FrameError, FramePipeline
from face_pose_ros.tracking.snapshot import VERSION, restore, snapshot

COMMIT_EVERY = 50  # images between commits; an interruption loses at most these


@dataclass(frozen=True)
class Job:
    """One recording to process."""

    recording: Path
    output: Path
    image_topic: str  # empty: select by type
    info_topic: str
    parameters: Parameters
    threads: int | None = None  # CPU threads if `parameters` have 0; None: all cores

    def fingerprint(self) -> str:
        """Text of everything that the output depends on, without reading the recording."""
        path = self.recording.resolve()
        stat = (path / 'metadata.yaml' if path.is_dir() else path).stat()
        topics = self.image_topic, self.info_topic
        return repr((VERSION, path, stat.st_size, stat.st_mtime_ns, topics, self.parameters))


@dataclass
class Progress:
    """Progress and state of a job."""

    pairs: int = 0  # images with their CameraInfo, read so far
    unusable: int = 0  # number of those that are unusable
    why: str = ''  # error of the first unusable one
    remarks: dict[str, str] = field(default_factory=dict)  # warnings, the first of each cause
    ids: list[str] = field(default_factory=list)  # of all tracks
    tracker: dict[str, Any] = field(default_factory=dict)  # snapshot of the pipeline's tracker


def convert(job: Job, advance: Callable[[int], object] = lambda images: None) -> str:
    """Process one recording, or the rest of it after an interrupted run.

    Args:
        job: The recording and its parameters.
        advance: Called with the number of images since the last call.

    Returns:
        A summary in one line.

    Raises:
        BagError: The recording, or every image in it, is unusable.
        ParameterError: There is no such device.
        WeightsError: A weights file is missing or damaged.
    """
    progress = Progress()

    def remark(cause: str, text: str) -> None:
        progress.remarks.setdefault(cause, text)

    with Recording(job.recording, job.image_topic, job.info_topic) as recording:
        pipeline = _pipeline(job, recording, remark)
        with PartialOutput(job.output, job.fingerprint()) as output:
            progress = _left_by(output, pipeline)
            try:
                _work(pipeline, job.parameters, recording, output, progress, advance)
            except BagError:
                output.discard()
                raise
            output.finish()
        advance(recording.image_count - progress.pairs)
        return _summary(job, recording, progress)


def _pipeline(job: Job, recording: Recording, remark: Callable[[str, str], None]) -> FramePipeline:
    try:
        return FramePipeline(
            job.parameters,
            recording.image_topic,
            recording.info_topic,
            remark,
            threads=job.threads,
        )
    except ValueError as error:
        raise ParameterError(str(error)) from error


def _left_by(output: PartialOutput, pipeline: FramePipeline) -> Progress:
    """Progress of an interrupted run; restores the pipeline's tracker."""
    if not output.state:
        return Progress()
    try:
        progress = Progress(**json.loads(output.state))
        restore(pipeline.estimator.tracker, progress.tracker)
    except (ValueError, TypeError, AttributeError) as error:
        raise output.foreign() from error
    return progress


def _work(
    pipeline: FramePipeline,
    parameters: Parameters,
    recording: Recording,
    output: PartialOutput,
    progress: Progress,
    advance: Callable[[int], object],
) -> None:
    advance(progress.pairs)
    pairs = recording.pairs(parameters.camera_info_is_latched)
    for time_ns, image, info in islice(pairs, progress.pairs, None):
        progress.pairs += 1
        try:
            faces = pipeline.answer(image, info, parameters).faces
        except FrameError as error:
            progress.unusable += 1
            progress.why = progress.why or str(error)
        else:
            progress.ids += [face.id for face in faces if face.id not in progress.ids]
            for topic, msg in messages_of(faces, image.header, parameters.publish_tf):
                output.add(time_ns, topic, msg)
        if progress.pairs % COMMIT_EVERY == 0:
            # A resumed run does not have it, and its output must be the same.
            pipeline.estimator.drop_pending_detection()
            progress.tracker = snapshot(pipeline.estimator.tracker)
            output.commit(json.dumps(asdict(progress)))
        advance(1)
    if progress.unusable == progress.pairs:
        raise BagError(f'{recording.path}: {_nothing_usable(recording, progress)}')


def _nothing_usable(recording: Recording, progress: Progress) -> str:
    if progress.unusable:
        return progress.why
    return (
        f'no image on {recording.image_topic} has a CameraInfo of the same stamp on '
        f'{recording.info_topic}; if it is latched, set camera_info_is_latched in --config'
    )


def _summary(job: Job, recording: Recording, progress: Progress) -> str:
    text = (
        f'{job.recording}: {progress.pairs - progress.unusable} of {recording.image_count} '
        f'images, {len(progress.ids)} ids -> {job.output}'
    )
    if unpaired := recording.image_count - progress.pairs:
        text += f'; {unpaired} without CameraInfo of the same stamp'
    if progress.unusable:
        text += f'; {progress.unusable} unusable, the first: {progress.why}'
    return '; '.join([text, *progress.remarks.values()])
