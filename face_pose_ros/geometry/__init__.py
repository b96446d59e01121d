"""Pure, batched, differentiable geometry: rotations, rigid transforms, cameras, kernels."""
