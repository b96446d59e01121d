"""Poses of recordings, without a running node."""
