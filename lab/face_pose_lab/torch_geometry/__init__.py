"""Geometry in torch, batched and differentiable, for networks, losses and renderers."""
