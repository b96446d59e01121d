# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of a training: YAML plus `key=value`, checked, into frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from face_pose_lab.hourglass.network import HourglassOptions
from face_pose_lab.training.augment import AugmentOptions
from face_pose_lab.training.losses import HourglassLossOptions

_Options = TypeVar('_Options')


class ConfigError(ValueError):
    """A configuration that cannot be: the file or argument, the key and what was expected."""


@dataclass(frozen=True)
class DataOptions:
    """Data sets."""

    train: Sequence[str] = ()  # folders of shards
    validation: Sequence[str] = ()
    validation_pictures: int = 1000  # of each folder, the first ones
    photographs: str = ''  # folder of AFLW2000-3D as evaluation.aflw2000 wants it, to validate on
    workers: int = 0  # processes that read ahead


@dataclass(frozen=True)
class OptimiserOptions:
    """AdamW: the learning rate climbs linearly, then falls along half a cosine to a hundredth."""

    learning_rate: float = 1e-3
    warmup_steps: int = 300
    weight_decay: float = 0.02
    clip_norm: float = 1.0  # longest gradient
    ema_decay: float = 0.999  # of the averaged weights, which are what is validated and exported


@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    out: str  # folder of checkpoints, log and exports
    steps: int
    batch: int  # pictures per micro-batch: per process and per gradient accumulation
    hourglass: HourglassOptions
    hourglass_loss: HourglassLossOptions = field(default_factory=HourglassLossOptions)
    data: DataOptions = field(default_factory=DataOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    accumulate: int = 1  # micro-batches per step
    # Checkpoint or exported .safetensors to begin with: its weights, where layers are the same.
    initial: str = ''
    seed: int = 0
    device: str = 'cpu'
    amp: bool = False  # bfloat16 where it is safe
    overfit_one_batch: bool = False  # the first one again and again: the loss must go to its floor
    log_every: int = 50  # steps
    validate_every: int = 1000
    checkpoint_every: int = 500
    keep_checkpoints: int = 2  # the newest; those of validations stay

    def __post_init__(self) -> None:
        for name in ('steps', 'batch', 'accumulate', 'log_every', 'validate_every'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file and change it by `key=value` or `group.key=value`.

    Raises:
        ConfigError: The file or an override is damaged, or a key or value is unknown.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f'{path}: {error.strerror}') from None
    except yaml.YAMLError as error:
        raise ConfigError(f'{path}: not YAML ({error})') from error
    if not isinstance(tree, dict):
        raise ConfigError(f'{path}: expected keys and values')
    for override in overrides:
        _override(tree, override)
    return config_from_dict(tree, str(path))


def config_from_dict(tree: Mapping[str, Any], where: str) -> TrainConfig:
    """The configuration of a tree of plain values, as YAML or a checkpoint holds it."""
    return _build(TrainConfig, tree, where)


def config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """A tree of plain values, of which `config_from_dict` makes the same configuration."""
    return dataclasses.asdict(config, dict_factory=_plain)


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple | list) else v for k, v in items}


def _override(tree: dict[str, Any], override: str) -> None:
    key, found, text = override.partition('=')
    if not found:
        raise ConfigError(f"'{override}': expected key=value")
    *groups, name = key.split('.')
    for group in groups:
        tree = tree.setdefault(group, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"'{override}': {group} is no group")
    tree[name] = yaml.safe_load(text)


def _build(cls: type[_Options], tree: Any, where: str) -> _Options:
    if not isinstance(tree, Mapping):
        raise ConfigError(f'{where}: expected keys and values, got {tree!r}')
    hints = get_type_hints(cls)
    if unknown := set(tree) - set(hints):
        raise ConfigError(
            f'{where}: unknown {", ".join(sorted(map(str, unknown)))}; '
            f'expected some of {", ".join(hints)}'
        )
    required = [f.name for f in dataclasses.fields(cls) if _has_no_default(f)]  # type: ignore[arg-type]
    if missing := [name for name in required if name not in tree]:
        raise ConfigError(f'{where}: {", ".join(missing)} must be given')
    try:
        return cls(**{key: _value(hints[key], v, f'{where}: {key}') for key, v in tree.items()})
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f'{where}: {error}') from error


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _value(hint: Any, value: Any, where: str) -> Any:
    """The value in the hinted type: an option group, a tuple, or a number of the right kind."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if args := get_args(hint):
        if not isinstance(value, list):
            raise ConfigError(f'{where}: expected a list, got {value!r}')
        return tuple(_value(args[0], v, where) for v in value)
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as a word
        except ValueError:
            pass
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f'{where}: expected {hint.__name__}, got {value!r}')
    return value
