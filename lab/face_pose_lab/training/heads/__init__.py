"""Rendered heads of two families, with exact truth."""
