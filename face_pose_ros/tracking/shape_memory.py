# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of the shape of one person: the identity is kept, expressions fade.

The coefficients c of the face model split into the person's identity (size included) and
expressions. Both are remembered as independent normal distributions, in prior standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros import _core
from face_pose_ros.options import ShapeMemoryOptions

Array = NDArray[np.float64]

# What one image's keypoints add to a size measured by depth, in prior standard deviations.
_SIZE_NOISE = 0.25


class Shape(NamedTuple):
    """Normal distribution of shape coefficients."""

    mean: Array  # (C,) prior standard deviations
    covariance: Array  # (C, C) positive definite

    def part(self, which: NDArray[np.intp]) -> Shape:
        """Marginal distribution of some of the coefficients (M,)."""
        return Shape(self.mean[which], self.covariance[which[:, None], which])


class Kinds(NamedTuple):
    """Which shape coefficients belong to the person, and which to the moment."""

    identity: NDArray[np.intp]  # (I,) indices
    expression: NDArray[np.intp]  # (E,) all others

    @classmethod
    def of(cls, is_expression: Sequence[bool] | NDArray[np.bool_]) -> Kinds:
        """Of a mask (C,)."""
        mask = np.asarray(is_expression, dtype=bool)
        return cls(np.flatnonzero(~mask), np.flatnonzero(mask))


class ShapeMemory:
    """Estimates the shape of one person from all images so far."""

    def __init__(
        self,
        prior: Shape,
        kinds: Kinds,
        stamp_s: float,
        options: ShapeMemoryOptions,
    ) -> None:
        """Start with the prior.

        Args:
            prior: Of the population; identity and expressions independent.
            kinds: Which of its coefficients are expressions.
            stamp_s: When the person was first seen [s].
            options: See `ShapeMemoryOptions`.
        """
        self.options = options
        self._kinds = kinds
        self._population = self._expected = prior.part(kinds.identity)
        self._at_rest = prior.part(kinds.expression)
        # At the stamp of the last `advance`.
        self.identity, self.expression = self._expected, self._at_rest
        self._stamp_s, self._seen_s = stamp_s, -math.inf
        self._size = MeasuredSize(-math.inf, 0.0, 0.0)
        # Of the identity: the sum of the information of all images, and the largest of one image.
        count = len(kinds.identity)
        self._learned = Information(np.zeros((count, count)), np.zeros(count))
        self._most = 0.0
        self._shape: Shape | None = None  # identity and expression together, if known by now

    @property
    def shape(self) -> Shape:
        """Identity and expression together, C coefficients."""
        if self._shape is None:
            joined = _core.joined_shape(*self.identity, *self.expression, *self._kinds)
            self._shape = Shape(*joined)
        return self._shape

    def advance(self, stamp_s: float) -> None:
        """Let expressions fade towards the prior (Ornstein-Uhlenbeck process) up to a stamp [s].

        Raises:
            ValueError: The stamp lies before the last one.
        """
        if stamp_s < self._stamp_s:
            raise ValueError(f'the stamp {stamp_s} s lies before the last one, {self._stamp_s} s')
        if stamp_s == self._stamp_s:
            return
        fade = math.exp(-(stamp_s - self._stamp_s) / self.options.expression_time_s)
        self._stamp_s, self._shape = stamp_s, None
        self.expression = Shape(*_core.faded_shape(*self._at_rest, *self.expression, fade))

    def measure_size(self, coefficient: float) -> None:
        """Take the size measured by a depth image at the last `advance`; call it before `update`.

        It becomes part of the person's prior, because images without depth have no information
        about the size, however many follow. Images are counted as in `update`.
        """
        last = self._size
        share = math.tanh(0.5 * (self._stamp_s - last.seen_s) / self.options.correlation_time_s)
        images, total = last.images + share, last.total + share * coefficient
        self._size = MeasuredSize(self._stamp_s, images, total)
        self._expect_size()

    def _expect_size(self) -> None:
        """Fuse the measured size into the person's prior."""
        size, population = self._size, self._population
        if size.images == 0:
            return
        images, shared = max(size.images, 1.0), self.options.shared_variance
        variance = _SIZE_NOISE**2 * (1 + shared * (images - 1)) / images
        mean, covariance = population.mean.copy(), population.covariance.copy()
        gain = covariance[0, 0] / (covariance[0, 0] + variance)
        mean[0] += gain * (size.total / size.images - mean[0])
        covariance[0, 0] *= 1 - gain
        self._expected = Shape(mean, covariance)

    def update(self, fitted: Shape, prior: Shape) -> None:
        """Update with one image of the last `advance`.

        The information of an image is that of the fit less that of its prior. It counts in full
        only the first time: n images of a constant, with errors correlated by exp(-dt /
        correlation_time), are worth m = 1 + (n - 1) tanh(dt / (2 correlation_time)) independent
        ones; and m images that share a part s of their error's variance are worth m / (1 + s (m -
        1)). Images are counted in units of the most informative one.

        Args:
            fitted: Shape fitted to the image.
            prior: Prior of that fit.
        """
        share = math.tanh(0.5 * (self._stamp_s - self._seen_s) / self.options.correlation_time_s)
        self._seen_s = self._stamp_s
        identity, expression, self._most = _core.update_shape(
            *fitted,
            *prior,
            *self._kinds,
            *self._expected,
            *self.expression,
            *self._learned,
            self._most,
            share,
            self.options.shared_variance,
        )
        self.identity, self.expression, self._shape = Shape(*identity), Shape(*expression), None


class MeasuredSize(NamedTuple):
    """A person's size coefficient, by depth images."""

    seen_s: float  # stamp of the last one
    images: float  # how many independent ones there were
    total: float  # of their coefficients


class Information(NamedTuple):
    """Information of measurements without any prior; may be 0 in some directions."""

    matrix: Array  # (M, M) positive semidefinite, inverse of their covariance
    vector: Array  # (M,) matrix times measured value
