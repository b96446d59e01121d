"""Heatmaps and regression in torch, for losses."""
