# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
r"""Write a trained keypoint network in the forms that engines read.

    python -m face_pose_lab.keypoint_net.export STATE --calibration calibration.npz \
        --photographs FOLDER --rendered FOLDER --out FOLDER

writes keypoint_network.safetensors (float16, vectors float32; batch normalisation folded in),
keypoint_network.onnx (float32, any number of crops), keypoint_network_int8.xml (OpenVINO), and
prints how far bfloat16 and int8 move the keypoints of held-out crops from float32.

Quantisation: convolutions alone; the matrices at the end stay as they are, for they write pixels.
The ranges of activations are the least and the greatest of all calibration crops: the default, a
mean over crops of each one's greatest, clips every second crop.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from face_pose_lab.keypoint_net.examples import Examples, photographs, rendered
from face_pose_lab.keypoint_net.network import CROP_PX, KeypointNetwork, read_head
from face_pose_lab.keypoint_net.predict import load_network
from face_pose_lab.keypoint_net.train import as_input, plain_batches
from face_pose_ros.engines.telemetry import no_openvino_telemetry

with no_openvino_telemetry():
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

NAME = 'keypoint_network'
_CALIBRATION_CROPS = 300  # of each kind
_JUDGED_CROPS = 500


def as_openvino(network: KeypointNetwork) -> ov.Model:
    """For any number of crops."""
    example = torch.zeros(1, 3, CROP_PX, CROP_PX)
    traced = torch.jit.trace(network, example, check_trace=False)
    frontend = FrontEndManager().load_by_framework('pytorch')
    decoder = TorchScriptPythonDecoder(traced)  # has to outlive the conversion
    model = frontend.convert(frontend.load(decoder))
    model.reshape([-1, 3, CROP_PX, CROP_PX])
    model.inputs[0].get_tensor().set_names({'crops'})
    model.outputs[0].get_tensor().set_names({'numbers'})
    return model


def quantised(model: ov.Model, crops: NDArray[np.float32]) -> ov.Model:
    """Convolutions in int8, with the ranges that crops (N, 3, 128, 128) have."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(
        model,
        nncf.Dataset([crop[None] for crop in crops]),
        subset_size=len(crops),
        ignored_scope=nncf.IgnoredScope(types=['MatMul']),
        advanced_parameters=AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
    )


def crops_of(examples: Examples, is_photograph: bool) -> NDArray[np.float32]:
    """(N, 3, 128, 128) as a follower shows them."""
    batches = plain_batches(examples, is_photograph)
    return np.concatenate([as_input(batch.pictures).numpy() for batch in batches])


def answers(model: ov.Model, crops: NDArray[np.float32], precision: str) -> torch.Tensor:
    """Numbers (N, 437) of crops."""
    properties = {'INFERENCE_PRECISION_HINT': precision, 'INFERENCE_NUM_THREADS': 1}
    request = ov.Core().compile_model(model, 'CPU', properties).create_infer_request()
    said = [request.infer([crop[None]])[0].copy() for crop in crops]
    return torch.from_numpy(np.concatenate(said))


def moved_px(a: torch.Tensor, b: torch.Tensor) -> NDArray[np.float32]:
    """(N,) mean distance of the keypoints of two answers."""
    return (read_head(a).uv - read_head(b).uv).norm(dim=-1).mean(1).numpy()


def main(args: Sequence[str] | None = None) -> None:
    """Write and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('state', type=Path, help='of a training')
    parser.add_argument('--calibration', type=Path, required=True, help='.npz of `calibrate`')
    parser.add_argument('--photographs', type=Path, required=True, help='labelled ones')
    parser.add_argument('--rendered', type=Path, required=True, help='crops, test split')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    options = parser.parse_args(args)
    options.out.mkdir(parents=True, exist_ok=True)
    network = load_network(options.state)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    calibration = np.load(options.calibration)['calibration']
    tensors = {
        name: value.half() if value.ndim > 1 else value.float()
        for name, value in network.state_dict().items()
    }
    # Every engine runs what is in the file: the rounded weights.
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    tensors['calibration'] = torch.from_numpy(calibration).float()
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        options.out / f'{NAME}.safetensors',
    )
    with torch.no_grad():
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, CROP_PX, CROP_PX),),
            options.out / f'{NAME}.onnx',
            input_names=['crops'],
            output_names=['numbers'],
            dynamic_axes={'crops': {0: 'count'}, 'numbers': {0: 'count'}},
            dynamo=False,
        )
    model = as_openvino(network)
    real, drawn = photographs([options.photographs]), rendered([options.rendered])
    ranges = np.concatenate(
        [
            crops_of(real.part(1000, 1000 + _CALIBRATION_CROPS), True),
            crops_of(drawn.part(0, _CALIBRATION_CROPS), False),
        ]
    )
    smaller = quantised(model, ranges)
    ov.save_model(smaller, options.out / f'{NAME}_int8.xml', compress_to_fp16=False)
    ov.save_model(model, options.out / f'{NAME}.xml', compress_to_fp16=True)
    for kind, crops in (
        ('photographs', crops_of(real.part(0, 400), True)),
        ('rendered', crops_of(drawn.part(1000, 1000 + _JUDGED_CROPS), False)),
    ):
        exact = answers(model, crops, 'f32')
        for name, other in (
            ('bf16', answers(model, crops, 'bf16')),
            ('int8', answers(smaller, crops, 'f32')),
        ):
            off = moved_px(exact, other)
            print(
                f'{kind:<12} {name}: keypoints moved by {off.mean():.3f} px on average, '
                f'{off.max():.3f} in the worst of {len(off)} crops'
            )


if __name__ == '__main__':
    main()
