# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's status messages on /diagnostics: camera, poses, device."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from face_pose_ros.ros.plausibility import Finding

_WINDOW_S = 10.0  # of rates and latencies
_STALE_S = 2.0  # after this time without an image the camera is stale
_RECENT_S = 10.0  # an error is reported for this time

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass
class _Window:
    """Events of the last `_WINDOW_S` seconds."""

    events: deque[tuple[float, Any]] = field(default_factory=deque)

    def add(self, now_s: float, value: Any = None) -> None:
        self.events.append((now_s, value))
        self.drop_old(now_s)

    def drop_old(self, now_s: float) -> None:
        while self.events and now_s - self.events[0][0] > _WINDOW_S:
            self.events.popleft()

    def rate_hz(self, now_s: float) -> float:
        self.drop_old(now_s)
        return len(self.events) / _WINDOW_S


class Monitor:
    """Counts events; called by the executor's thread and by the worker's."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Use a monotonic clock."""
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._images, self._processed = _Window(), _Window()
        self._dropped: Counter[str] = Counter()
        self._last_image_s: float | None = None
        self._silence = ''
        self._camera = 'no CameraInfo yet'
        self._calibrated = False
        self._findings: tuple[Finding, ...] = ()
        self._depth: tuple[str, tuple[Finding, ...]] | None = None
        self._ids: tuple[str, ...] = ()
        self._faces = 0
        self._without_rays = 0
        self._error = ''
        self._error_s = -np.inf

    def image_received(self) -> None:
        """Count an image that has arrived."""
        with self._lock:
            self._last_image_s = self._clock_s()
            self._images.add(self._last_image_s)

    def no_image(self, reason: str) -> None:
        """Set the reason why no image has arrived."""
        with self._lock:
            self._silence = reason

    def frame_dropped(self, reason: str) -> None:
        """Count a frame without poses, by its reason."""
        with self._lock:
            self._dropped[reason] += 1

    def camera_state(self, text: str, calibrated: bool, findings: Sequence[Finding] = ()) -> None:
        """Set the state of the newest CameraInfo and its implausible values."""
        with self._lock:
            self._camera, self._calibrated = text, calibrated
            self._findings = tuple(findings)

    def depth_state(self, text: str, findings: Sequence[Finding]) -> None:
        """Set the state of the depth images and their problems."""
        with self._lock:
            self._depth = text, tuple(findings)

    def frame_processed(
        self, stages_s: Mapping[str, float], faces: int, ids: Sequence[str], without_rays: int = 0
    ) -> None:
        """Count a frame with poses.

        Args:
            stages_s: Duration of each stage [s], by name.
            faces: Number of faces.
            ids: Ids of all tracks.
            without_rays: Faces dropped since the start because the lens model has no ray there.
        """
        with self._lock:
            self._processed.add(self._clock_s(), dict(stages_s))
            self._faces, self._ids = faces, tuple(ids)
            self._without_rays = without_rays

    def failed(self, error: str) -> None:
        """Record an internal error."""
        with self._lock:
            self._error, self._error_s = error, self._clock_s()

    def statuses(self, name: str, state: str, about: Mapping[str, str]) -> list[DiagnosticStatus]:
        """Three status messages, and one more with a depth camera.

        Args:
            name: Name of the node; prefix of each status.
            state: State of the node; rates are checked only if it is 'active'.
            about: Values of the device and the topics.
        """
        now_s = self._clock_s()
        with self._lock:
            statuses = [
                self._camera_status(name, now_s, state, about),
                self._poses_status(name, now_s, state == 'active'),
                self._device_status(name, now_s, state, about),
            ]
            if self._depth is not None and state == 'active':
                text, findings = self._depth
                level = WARN if findings else OK
                values = {finding.key: finding.value for finding in findings}
                statuses.append(_status(f'{name}: depth', level, text, values))
            return statuses

    def _camera_status(
        self, name: str, now_s: float, state: str, about: Mapping[str, str]
    ) -> DiagnosticStatus:
        age_s = np.inf if self._last_image_s is None else now_s - self._last_image_s
        if state != 'active':
            level, message = OK, state
        elif self._last_image_s is None:
            level, message = WARN, f'no image on {about["image topic"]} yet'
            message += f': {self._silence}' if self._silence else ''
        elif not self._calibrated:
            level, message = ERROR, self._camera
        elif age_s > _STALE_S or self._findings:
            stale = [f'no image for {age_s:.1f} s'] if age_s > _STALE_S else []
            level, message = WARN, '; '.join(stale + [found.text for found in self._findings])
        else:
            level, message = OK, self._camera
        values = {
            'image topic': about['image topic'],
            'camera_info topic': about['camera_info topic'],
            'images per second': f'{self._images.rate_hz(now_s):.1f}',
            'CameraInfo': self._camera,
        }
        values |= {finding.key: finding.value for finding in self._findings}
        return _status(f'{name}: camera', level, message, values)

    def _poses_status(self, name: str, now_s: float, active: bool) -> DiagnosticStatus:
        rate_hz = self._processed.rate_hz(now_s)
        expected = active and self._images.rate_hz(now_s) > 0 and self._calibrated
        level = WARN if expected and rate_hz == 0 else OK
        message = f'{rate_hz:.1f} processed images per second, {self._faces} faces'
        values = {
            'processed images per second': f'{rate_hz:.1f}',
            'faces': str(self._faces),
            'ids': ' '.join(self._ids),
            'faces without ray': str(self._without_rays),
        }
        values |= {f'dropped: {reason}': str(n) for reason, n in sorted(self._dropped.items())}
        stages = [stages_s for _, stages_s in self._processed.events]
        for stage in stages[-1] if stages else ():
            p50, p95 = 1e3 * np.percentile([s[stage] for s in stages], [50, 95])
            values[f'{stage}, p50 / p95 [ms]'] = f'{p50:.1f} / {p95:.1f}'
        return _status(f'{name}: poses', level, message, values)

    def _device_status(
        self, name: str, now_s: float, state: str, about: Mapping[str, str]
    ) -> DiagnosticStatus:
        recent = now_s - self._error_s < _RECENT_S
        message = self._error if recent else state
        values = {k: v for k, v in about.items() if not k.endswith('topic')}
        values['last error'] = self._error or 'none'
        return _status(f'{name}: device', ERROR if recent else OK, message, values)


def _status(name: str, level: bytes, message: str, values: Mapping[str, str]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id='face_pose',
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
