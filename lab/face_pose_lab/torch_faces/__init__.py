"""The detectors' decoding in torch, batched and differentiable, for losses."""
