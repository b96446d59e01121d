# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Time of a forward pass compared with Face Mesh V2, interleaved in one process.

python -m face_pose_lab.keypoint_net.speed --threads 1
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from face_pose_lab.face_mesh.network import face_mesh_v2
from face_pose_lab.face_mesh.points import CROP_SIZE_PX as FACE_MESH_PX
from face_pose_lab.openvino_reference import converted
from face_pose_ros.engines.telemetry import no_openvino_telemetry
from face_pose_ros.weights import read_graph

with no_openvino_telemetry():
    import openvino as ov


def main(args: Sequence[str] | None = None) -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=300)
    options = parser.parse_args(args)
    core = ov.Core()

    own = core.read_model(*read_graph('keypoint_network'))
    mesh = converted(face_mesh_v2(), [1, 3, FACE_MESH_PX, FACE_MESH_PX])
    requests = {}
    for name, model, precision in (
        ('Face Mesh V2, f32', mesh, 'f32'),
        ('Face Mesh V2, bf16', mesh, 'bf16'),
        ('keypoint network, f32', own, 'f32'),
        ('keypoint network, bf16', own, 'bf16'),
    ):
        properties = {
            'INFERENCE_NUM_THREADS': options.threads,
            'NUM_STREAMS': 1,
            'INFERENCE_PRECISION_HINT': precision,
            'ENABLE_CPU_PINNING': False,
        }
        request = core.compile_model(model, 'CPU', properties).create_infer_request()
        picture = np.random.default_rng(0).random(model.input(0).shape, np.float32)
        request.set_input_tensor(ov.Tensor(picture))
        requests[name] = request
    times: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(options.rounds + 20):
        for name, request in requests.items():
            began = time.perf_counter()
            request.infer()
            times[name].append(1e3 * (time.perf_counter() - began))
    # On a busy machine the 10th percentile is more meaningful than the median.
    print(f'{"p10, p50 [ms], and the speed-up over Face Mesh in f32":>60}')
    first = np.percentile(times['Face Mesh V2, f32'][20:], (10, 50))
    for name, values in times.items():
        fast, middle = np.percentile(values[20:], (10, 50))
        print(f'{name:<24}{fast:8.2f}{middle:8.2f}{first[0] / fast:8.1f}{first[1] / middle:8.1f}')


if __name__ == '__main__':
    main()
