"""The networks in torch, for training, GPUs, and machines without OpenVINO."""
