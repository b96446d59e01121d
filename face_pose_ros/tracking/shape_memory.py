"""What is remembered of one person's shape: who it is stays, expressions fade.

The coefficients c of the face model split into the person's identity (size included) and
expressions. Both are remembered as independent normal distributions, in prior standard deviations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from face_pose_ros.geometry import linalg
from face_pose_ros.options import ShapeMemoryOptions

Array = NDArray[np.float64]

_MAX_SIGMAS = 3.0  # what lies further off its prediction pulls no harder


class Shape(NamedTuple):
    """Normal distribution of shape coefficients."""

    mean: Array  # (C,) prior standard deviations
    covariance: Array  # (C, C) positive definite

    def part(self, which: NDArray[np.intp]) -> Shape:
        """Marginal distribution of some of the coefficients (M,)."""
        return Shape(self.mean[which], self.covariance[which[:, None], which])


class ShapeMemory:
    """The shape of one person, as far as the images so far tell."""

    def __init__(
        self,
        prior: Shape,
        expressions: NDArray[np.bool_],
        stamp_s: float,
        options: ShapeMemoryOptions,
    ) -> None:
        """Remember nothing but the prior.

        Args:
            prior: Of anybody; identity and expressions independent.
            expressions: (C,) the coefficients that are expressions.
            stamp_s: When the person was first seen [s].
            options: See `ShapeMemoryOptions`.
        """
        self.options = options
        self.shape = prior  # at the stamp of the last `advance`
        self._prior = prior
        self._identity = np.flatnonzero(~expressions)
        self._expression = np.flatnonzero(expressions)
        self._stamp_s, self._seen_s = stamp_s, -np.inf
        # Of the identity: the sum over images of what they say, and the most that one has said.
        count = len(self._identity)
        self._learned = _Information(np.zeros((count, count)), np.zeros(count))
        self._most = 0.0

    def advance(self, stamp_s: float) -> None:
        """Let expressions fade towards the prior (Ornstein-Uhlenbeck process) up to a stamp [s].

        Raises:
            ValueError: The stamp lies before the last one.
        """
        if stamp_s < self._stamp_s:
            raise ValueError(f'shape memory of {self._stamp_s} s asked for {stamp_s} s')
        if stamp_s == self._stamp_s:
            return
        fade = np.exp(-(stamp_s - self._stamp_s) / self.options.expression_time_s)
        self._stamp_s = stamp_s
        prior, now = self._prior.part(self._expression), self.shape.part(self._expression)
        self._store(
            self._expression,
            Shape(
                prior.mean + fade * (now.mean - prior.mean),
                prior.covariance + fade**2 * (now.covariance - prior.covariance),
            ),
        )

    def update(self, fitted: Shape, prior: Shape) -> None:
        """Take in one image of the last `advance`.

        A fit contains its prior. What the image itself says is the difference of information.
        It counts in full only the first time: n images of a constant, with errors correlated by
        exp(-dt / correlation_time), are worth m = 1 + (n - 1) tanh(dt / (2 correlation_time))
        independent ones; and m images that share a part s of their error's variance are worth
        m / (1 + s (m - 1)). Images are counted in units of the one that has said most.

        Args:
            fitted: Shape in the image.
            prior: What the fit was given.
        """
        share = np.tanh(0.5 * (self._stamp_s - self._seen_s) / self.options.correlation_time_s)
        self._seen_s = self._stamp_s
        said = _said(fitted.part(self._identity), prior.part(self._identity))
        self._learned = self._learned.plus(said, share)
        self._most = max(self._most, float(np.trace(said.matrix)))
        images = np.trace(self._learned.matrix) / self._most if self._most > 0 else 1.0
        worth = 1 / (1 + self.options.shared_variance * (max(images, 1.0) - 1))
        anybody = self._prior.part(self._identity)
        self._store(self._identity, _fused(anybody, self._learned, worth))

        said = _said(fitted.part(self._expression), prior.part(self._expression))
        now = self.shape.part(self._expression)
        self._store(self._expression, _fused(now, said, share))

    def _store(self, which: NDArray[np.intp], shape: Shape) -> None:
        mean, covariance = self.shape.mean.copy(), self.shape.covariance.copy()
        mean[which], covariance[which[:, None], which] = shape
        self.shape = Shape(mean, covariance)


class _Information(NamedTuple):
    """What measurements say, apart from any prior; it may be nothing in some directions."""

    matrix: Array  # (M, M) positive semidefinite, inverse of their covariance
    vector: Array  # (M,) matrix times measured value

    def plus(self, other: _Information, share: float) -> _Information:
        return _Information(self.matrix + share * other.matrix, self.vector + share * other.vector)


def _said(fitted: Shape, prior: Shape) -> _Information:
    """What a fit learned beyond its prior."""
    # In these axes the prior is N(0, 1) and the fit's covariance is diagonal.
    L_inv = linalg.inverse(np.linalg.cholesky(prior.covariance))
    variance, axes = np.linalg.eigh(L_inv @ fitted.covariance @ L_inv.T)
    A = L_inv.T @ axes
    # A fit that is less certain than its prior, for its residuals were large, has learned nothing.
    learned = (1 / variance - 1).clip(0)
    # Information times measured value; |value| exceeds sqrt(1 + 1 / learned) once in a while.
    limit = _MAX_SIGMAS * np.sqrt(learned * (1 + learned))
    pull = ((1 + learned) * (A.T @ (fitted.mean - prior.mean))).clip(-limit, limit)
    return _Information((A * learned) @ A.T, A @ (learned * (A.T @ prior.mean) + pull))


def _fused(known: Shape, said: _Information, share: float) -> Shape:
    """What is known with a share of what was said."""
    information = linalg.inverse(known.covariance)
    covariance = linalg.inverse(information + share * said.matrix)
    return Shape(covariance @ (information @ known.mean + share * said.vector), covariance)
