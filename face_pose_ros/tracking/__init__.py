"""Tracking: ids, filtered poses, and the remembered shape of each person."""
