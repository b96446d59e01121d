"""Rotations, cameras, crops and small linear algebra: numpy arrays, compiled where it counts."""
