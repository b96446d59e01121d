"""Rendered heads: pictures through any lens, whose 6-DoF truth is exact and metric."""
