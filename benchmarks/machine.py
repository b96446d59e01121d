# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Description of the machine of a benchmark."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version


def machine(device: str = 'cpu') -> dict[str, object]:
    """Processor, versions and commit of this run."""
    commit = subprocess.run(
        ['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True
    )
    processor = platform.machine()
    if device.startswith('cuda'):
        import torch

        processor = torch.cuda.get_device_name(device)
    return {
        'processor': processor,
        'cores': os.cpu_count(),
        'python': platform.python_version(),
        **{name: _version(name) for name in ('numpy', 'openvino')},
        'commit': commit.stdout.strip(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return 'absent'
