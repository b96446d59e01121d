"""What the figures of a benchmark were taken on."""

from __future__ import annotations

import os
import platform
import subprocess

import torch


def machine(device: torch.device) -> dict[str, object]:
    """What the figures were taken on."""
    commit = subprocess.run(
        ['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True
    )
    cuda = device.type == 'cuda'
    return {
        'processor': torch.cuda.get_device_name(device) if cuda else platform.machine(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'commit': commit.stdout.strip(),
    }
