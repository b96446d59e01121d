"""The packaged weights: what each file must be, and reading them.

A card beside each file says where it comes from, under which licence, and how it was made.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar('Network', bound=nn.Module)

SHA256 = {
    'blazeface_full_range': 'd4077990f7da3190d69bd4a0ddca836c1bc076745806e511fea922d5f755f5e0',
    'canonical_face': 'ac57567bf46f854e60cd1a8ce97fe78f33d0f27161be11d64652c66e676231be',
    'face_mesh_v2': '61649ae36b34ef60b0cc41ac3b586633b063f5df92513d359b5bf90626cdb0f2',
    'keypoint_uncertainty': 'bdf2cfddda7c36bdf82f4c48e56e0aa364e134f5aba097f19940f083e246c5ed',
    'face_model': '25cca34757987ce33d250ad8368c3180dc0e8dffc88df1afd4b20d82566799b7',
    'hourglass': 'dd9017b1766748c59c67e8fa4347f764ba17e5ad582cd70e84b6374b15b59c84',
    'region_pose': '7a163a2e644dd76ef1647d833999ec1776db4e30e201208aeea6d66aa2d3c7a5',
    'semantic_head': 'f7d7d4f6d2ea66179fa382ed23d3851fd6fd3be85fd03adc7034448869a9b80e',
    'single_shot': '664a42bb39d6ba5ef321d9deb28cc70c1b4c70f0397db0c4a6619252bd2c6972',
}


class WeightsError(RuntimeError):
    """A weights file is missing, truncated or altered."""


def load_weights(name: str, directory: Path | str | None = None) -> dict[str, Tensor]:
    """Read one weights file after checking that it is the pinned one.

    Args:
        name: a key of SHA256.
        directory: where `<name>.safetensors` lies; the package's own folder by default.

    Returns:
        CPU tensors by name, in the type they are stored in (float16 where the source has it).

    Raises:
        ValueError: no weights of that name are known.
        WeightsError: the file cannot be read, or is not the pinned one.
    """
    if name not in SHA256:
        raise ValueError(f'unknown weights {name!r}, expected one of {sorted(SHA256)}')
    path = Path(directory or Path(__file__).parent) / f'{name}.safetensors'
    expected = SHA256[name]
    remedy = f'Restore the file from the repository, or make it again as {name}.md says.'
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f'{path}: {error.strerror}; a file of sha256 {expected} belongs there. {remedy}'
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise WeightsError(
            f'{path} ({len(content)} bytes) is damaged or was changed: '
            f'sha256 {found} found, {expected} expected. {remedy}'
        )
    return read_safetensors(content)


def with_packaged_weights(network: Network, name: str, device: torch.device | str) -> Network:
    """The network with the tensors `network.*` of a file, for inference only.

    Raises:
        WeightsError: as in `load_weights`.
    """
    prefix = 'network.'
    tensors = load_weights(name).items()
    network.load_state_dict(
        {key.removeprefix(prefix): value for key, value in tensors if key.startswith(prefix)}
    )
    network.requires_grad_(False).eval()
    # torch's stubs lack this argument.
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


_DTYPES = {'F16': torch.float16, 'F32': torch.float32, 'I32': torch.int32}


def read_safetensors(content: bytes) -> dict[str, Tensor]:
    """Tensors by name of a file: header length (8 bytes, little-endian), JSON header, tensors.

    The library that writes these files has no rosdep key, and a robot needs no more than this.
    """
    length = int.from_bytes(content[:8], 'little')
    header = json.loads(content[8 : 8 + length])
    data = bytearray(content[8 + length :])  # writable, as torch wants its memory
    return {
        name: torch.frombuffer(
            data[slice(*entry['data_offsets'])], dtype=_DTYPES[entry['dtype']]
        ).view(entry['shape'])
        for name, entry in header.items()
        if name != '__metadata__'
    }
