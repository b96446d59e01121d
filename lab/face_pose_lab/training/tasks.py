# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The trainings: what a batch is, what its losses are, and how good the network is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

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
from face_pose_lab.training.evaluate_scenes import (
    Detect,
    at_first_look,
    at_second_look,
    evaluate_scenes,
)
from face_pose_lab.training.head_shape import face_points, fit_head_shape, head_model
from face_pose_lab.training.losses import hourglass_losses
from face_pose_lab.training.region_losses import region_losses
from face_pose_lab.training.scenes import SceneBatch, SceneSource
from face_pose_lab.training.single_shot_losses import single_shot_losses
from face_pose_lab.training.windows import augment_scenes
from face_pose_ros.faces.region_pose import REGION_PX
from face_pose_ros.keypoints import semantic
from face_pose_ros.networks.region_pose import MirrorAveraged, RegionPose
from face_pose_ros.networks.single_shot import SingleShot, packaged_single_shot

_MOVES = 1 << 39  # apart from the seeds of how pictures look
_SHAPE_PICTURES, _SHAPE_MODES = 4000, 24


class Task(Protocol):
    """What `train` needs to know of a network and its data."""

    @property
    def network(self) -> nn.Module:
        """With new weights."""

    def batch(self, micro_batch: int) -> Any:
        """The pictures of the n-th micro-batch of the whole training, on the CPU."""

    def losses(
        self, network: nn.Module, batch: Any, generator: torch.Generator, step: int
    ) -> dict[str, Tensor]:
        """Weighted terms of the loss of a batch on the network's device."""

    def validate(self, network: nn.Module) -> dict[str, dict[str, dict[str, float]]]:
        """Tables of a network in evaluation mode: by data set, by bin, by figure."""

    def extra_state(self) -> dict[str, Tensor]:
        """Tensors that belong to the trained network besides its weights."""


class HourglassTask:
    """Keypoints of crops."""

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
            config: With an hourglass.
            source: Crops to train on.
            validation: Crops to validate on, by name.
            mirror: (K,) which keypoint of a mirrored head is which.
            shape: Of the heads, if it is known from an earlier part of the same training.
        """
        assert config.hourglass is not None
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
        """See `Task`."""
        assert self._source is not None
        size_px = self.network.options.input_px
        return moved_micro_batch(self._source, self.config, micro_batch, self._mirror, size_px)

    def losses(
        self, network: nn.Module, batch: CropBatch, generator: torch.Generator, step: int
    ) -> dict[str, Tensor]:
        """See `Task`."""
        sizes = self.config.hourglass
        assert sizes is not None
        pictures = photometric(batch.pictures.float() / 255, self.config.augment, generator)
        with torch.autocast(batch.uv.device.type, torch.bfloat16, enabled=self.config.amp):
            output = network(pictures.contiguous(memory_format=torch.channels_last))
        options, model = self.config.hourglass_loss, self._model
        return hourglass_losses(output, batch, sizes, options, model, step)

    def validate(self, network: nn.Module) -> dict[str, dict[str, dict[str, float]]]:
        """See `Task`."""
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
        """See `Task`."""
        return {f'shape.{name}': value.float() for name, value in self._shape.items()}


class SingleShotTask:
    """Faces and poses of whole pictures."""

    def __init__(
        self,
        config: TrainConfig,
        source: SceneSource | None = None,
        validation: dict[str, SceneSource] | None = None,
        xyz_head: NDArray[np.float64] | None = None,
    ) -> None:
        """Open the data of a configuration, or take what is given.

        Args:
            config: With a single-shot detector.
            source: Pictures to train on.
            validation: Pictures to validate on, by name.
            xyz_head: (P, 3) m, points whose bounds are a face's box; those of the mean face.
        """
        assert config.single_shot is not None
        self.config = config
        self.network = SingleShot(config.single_shot)
        self._source = source or (SceneSource(config.data.train) if config.data.train else None)
        if validation is None:
            limit = config.data.validation_pictures
            validation = {f: SceneSource([f], limit) for f in config.data.validation}
        self._validation = validation
        self._face = face_points() if xyz_head is None else xyz_head

    def batch(self, micro_batch: int) -> SceneBatch:
        """See `Task`."""
        assert self._source is not None
        return self._source.shuffled(micro_batch, self.config.batch, self.config.seed)

    def losses(
        self, network: nn.Module, batch: SceneBatch, generator: torch.Generator, step: int
    ) -> dict[str, Tensor]:
        """See `Task`."""
        config = self.config
        batch = augment_scenes(
            batch, config.augment, config.windows, config.single_shot_loss, generator
        )
        with torch.autocast(batch.f.device.type, torch.bfloat16, enabled=config.amp):
            outputs = network(batch.pictures.contiguous(memory_format=torch.channels_last))
        calibrated = torch.from_numpy(self._face[::8]).float().to(batch.f.device)
        return single_shot_losses(outputs, batch, calibrated, config.single_shot_loss)

    def validate(self, network: nn.Module) -> dict[str, dict[str, dict[str, float]]]:
        """See `Task`."""
        detect = at_first_look(network, self._face, self.config.amp)
        return _scene_tables(detect, network, self._validation, self.config)

    def extra_state(self) -> dict[str, Tensor]:
        """See `Task`."""
        return {}


class RegionTask:
    """Second looks at what the packaged single-shot network proposes."""

    def __init__(
        self,
        config: TrainConfig,
        source: Crops | None = None,
        validation: dict[str, SceneSource] | None = None,
        mirror: NDArray[np.int64] | None = None,
    ) -> None:
        """Open the data of a configuration, or take what is given.

        Args:
            config: With a region network.
            source: Crops and proposals to train on.
            validation: Scenes to validate on, by name.
            mirror: (K,) which keypoint of a mirrored head is which.
        """
        assert config.region_pose is not None
        self.config = config
        self.network = RegionPose(config.region_pose)
        self._source = source or (CropSource(config.data.train) if config.data.train else None)
        if validation is None:
            limit = config.data.validation_pictures
            validation = {f: SceneSource([f], limit) for f in config.data.validation}
        self._validation = validation
        self._mirror = torch.from_numpy(semantic.MIRROR if mirror is None else mirror)
        self._face = face_points()

    def batch(self, micro_batch: int) -> CropBatch:
        """See `Task`."""
        assert self._source is not None
        return moved_micro_batch(self._source, self.config, micro_batch, self._mirror, REGION_PX)

    def losses(
        self, network: nn.Module, batch: CropBatch, generator: torch.Generator, step: int
    ) -> dict[str, Tensor]:
        """See `Task`."""
        config = self.config
        pictures = photometric(batch.pictures.float() / 255, config.augment, generator)
        with torch.autocast(batch.uv.device.type, torch.bfloat16, enabled=config.amp):
            numbers = network(pictures.contiguous(memory_format=torch.channels_last))
        calibrated = torch.from_numpy(self._face[::8]).float().to(batch.f.device)
        return region_losses(numbers, batch, calibrated, config.region_pose_loss)

    def detector(self, network: nn.Module) -> Detect:
        """Both looks; the network in evaluation mode, on any device."""
        assert isinstance(network, RegionPose)
        first = packaged_single_shot(next(network.parameters()).device)
        return at_second_look(first, MirrorAveraged(network), self._face)

    def validate(self, network: nn.Module) -> dict[str, dict[str, dict[str, float]]]:
        """See `Task`."""
        return _scene_tables(self.detector(network), network, self._validation, self.config)

    def extra_state(self) -> dict[str, Tensor]:
        """See `Task`."""
        return {}


def _scene_tables(
    detect: Detect, network: nn.Module, validation: dict[str, SceneSource], config: TrainConfig
) -> dict[str, dict[str, dict[str, float]]]:
    """Tables of scenes by name, on the device of the network that detects."""
    device = str(next(network.parameters()).device)
    return {
        name: evaluate_scenes(detect, source.in_order(8), config.single_shot_loss, device)
        for name, source in validation.items()
    }


def moved_micro_batch(
    source: Crops, config: TrainConfig, number: int, mirror: Tensor, size_px: int
) -> CropBatch:
    """The n-th micro-batch of crops, moved at random."""
    count = config.batch
    indices = epoch_indices(number * count, count, len(source), config.seed)
    generator = torch.Generator().manual_seed(_MOVES + (config.seed << 40) + number)
    return move_crops(source.batch(indices), mirror, config.augment, size_px, generator)


def make_task(config: TrainConfig, extra: dict[str, Tensor] | None = None) -> Task:
    """The task of the configured network; extra as in a checkpoint."""
    torch.manual_seed(config.seed)
    if config.single_shot is not None:
        return SingleShotTask(config)
    if config.region_pose is not None:
        return RegionTask(config)
    shape = {k.removeprefix('shape.'): v.double() for k, v in (extra or {}).items()}
    return HourglassTask(config, shape=shape or None)
