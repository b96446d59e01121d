"""Recorded bags: poses of every image, without a running node."""
