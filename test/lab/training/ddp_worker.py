# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One process of a distributed training of blob heads; started by test_distributed.py."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from lab.training.test_train import gradients, make_config, make_training, parameters


def main(out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    training = make_training(make_config(out, steps=4, accumulate=1))
    training.run_step()
    first = gradients(training)
    for _ in range(3):
        training.run_step()
    torch.save([first, parameters(training)], out / f'rank_{dist.get_rank()}.pt')
    dist.destroy_process_group()


if __name__ == '__main__':
    main(Path(sys.argv[1]))
