"""Scenes, assertions and pictures that several test files use."""
