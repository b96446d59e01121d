# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Data, losses and validation of the stacked hourglass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from face_pose_lab.evaluation.aflw2000_samples import load_samples
from face_pose_lab.evaluation.data_error import DataError
from face_pose_lab.hourglass.network import StackedHourglass
from face_pose_lab.training.augment import move_crops, photometric
from face_pose_lab.training.batches import CropBatch, Crops, CropSource, epoch_indices
from face_pose_lab.training.config import TrainConfig
from face_pose_lab.training.evaluate_crops import evaluate_crops
from face_pose_lab.training.evaluate_photos import score_aflw2000
from face_pose_lab.training.head_shape import fit_head_shape, head_model
from face_pose_lab.training.losses import hourglass_losses
from face_pose_ros.keypoints import semantic

_MOVES = 1 << 39  # separates them from the seeds of the pictures' colours
_SHAPE_PICTURES, _SHAPE_MODES = 4000, 24


class HourglassTask:
    """Data, network and losses for `train`."""

    def __init__(
        self,
        config: TrainConfig,
        source: Crops | None = None,
        validation: dict[str, Crops] | None = None,
        mirror: NDArray[np.int64] | None = None,
        shape: dict[str, Tensor] | None = None,
    ) -> None:
        """Open the data of a configuration, or take what is given.

        Args:
            config: Of the training.
            source: Crops to train on.
            validation: Crops to validate on, by name.
            mirror: (K,) which keypoint of a mirrored head is which.
            shape: Of the heads, if it is known from an earlier part of the same training.
        """
        self.config = config
        self.network = StackedHourglass(config.hourglass)
        self._source = source or (CropSource(config.data.train) if config.data.train else None)
        if validation is None:
            limit = config.data.validation_pictures
            validation = {f: CropSource([f], limit) for f in config.data.validation}
        self._validation = validation
        photographs = config.data.photographs
        self._photographs = load_samples(Path(photographs)) if photographs else []
        self._mirror = torch.from_numpy(semantic.MIRROR if mirror is None else mirror)
        self._shape = shape or self._fit_shape()
        count = len(self._shape['mean'])
        if count != config.hourglass.keypoints:
            raise DataError(
                f'the heads have {count} keypoints, hourglass.keypoints says otherwise'
            )
        self._model = head_model(self._shape)

    def _fit_shape(self) -> dict[str, Tensor]:
        assert self._source is not None
        count = len(self._source)
        some = np.unique(np.linspace(0, count - 1, _SHAPE_PICTURES).astype(np.int64))
        xyz_head = self._source.batch(some).xyz_head
        whole = xyz_head[xyz_head.isfinite().all(-1).all(-1)]
        if len(whole) < 2:
            raise DataError('no head of the training data has all keypoints: add rendered ones')
        return fit_head_shape(whole, _SHAPE_MODES)

    def batch(self, micro_batch: int) -> CropBatch:
        """The crops of the n-th micro-batch of the whole training, moved at random, on the CPU."""
        assert self._source is not None
        config = self.config
        count, size_px = config.batch, self.network.options.input_px
        indices = epoch_indices(micro_batch * count, count, len(self._source), config.seed)
        generator = torch.Generator().manual_seed(_MOVES + (config.seed << 40) + micro_batch)
        crops = self._source.batch(indices)
        return move_crops(crops, self._mirror, config.augment, size_px, generator)

    def losses(
        self, network: nn.Module, batch: CropBatch, generator: torch.Generator, step: int
    ) -> dict[str, Tensor]:
        """Weighted terms of the loss of a batch on the network's device."""
        pictures = photometric(batch.pictures.float() / 255, self.config.augment, generator)
        with torch.autocast(batch.uv.device.type, torch.bfloat16, enabled=self.config.amp):
            output = network(pictures.contiguous(memory_format=torch.channels_last))
        config = self.config
        return hourglass_losses(
            output, batch, config.hourglass, config.hourglass_loss, self._model, step
        )

    def validate(self, network: nn.Module) -> dict[str, dict[str, dict[str, float]]]:
        """Tables of a network in evaluation mode: by data set, by bin, by figure."""
        assert isinstance(network, StackedHourglass)
        tables = {
            name: evaluate_crops(network, source, self._model, self._mirror, self.config)
            for name, source in self._validation.items()
        }
        if self._photographs:
            rows = score_aflw2000(network, self._model, self._photographs, self.config.amp)
            tables[self.config.data.photographs] = {
                row.name: {'mae_deg': row.mae_deg, 'geodesic_deg': row.geodesic_mean_deg}
                for row in rows
            }
        return tables

    def extra_state(self) -> dict[str, Tensor]:
        """Tensors that belong to the trained network besides its weights."""
        return {f'shape.{name}': value.float() for name, value in self._shape.items()}


def make_task(config: TrainConfig, extra: dict[str, Tensor] | None = None) -> HourglassTask:
    """The task of a configuration, with new weights; extra as in a checkpoint."""
    torch.manual_seed(config.seed)
    shape = {k.removeprefix('shape.'): v.double() for k, v in (extra or {}).items()}
    return HourglassTask(config, shape=shape or None)
