# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights of reference networks: what each file must be, and how to read it."""

from __future__ import annotations

from pathlib import Path

from face_pose_ros.weights import Tensors, read_pinned, read_safetensors

SHA256 = {
    'blazeface_full_range': 'd4077990f7da3190d69bd4a0ddca836c1bc076745806e511fea922d5f755f5e0',
    'face_mesh_v2': '61649ae36b34ef60b0cc41ac3b586633b063f5df92513d359b5bf90626cdb0f2',
    'hourglass': 'dd9017b1766748c59c67e8fa4347f764ba17e5ad582cd70e84b6374b15b59c84',
    'keypoint_uncertainty': 'bdf2cfddda7c36bdf82f4c48e56e0aa364e134f5aba097f19940f083e246c5ed',
}
FOLDER = Path(__file__).parent


def load_weights(name: str) -> Tensors:
    """Arrays by name, read-only, in the type they are stored in.

    Raises:
        WeightsError: The file cannot be read, or is not the pinned one.
    """
    return read_safetensors(read_pinned(FOLDER / f'{name}.safetensors', SHA256[name]))
