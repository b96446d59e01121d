"""Cameras with asymmetric numbers: no half-pixel slip or swapped axis can hide."""

from face_pose_lab.evaluation.cameras import DISTORTIONS, HEIGHT, WIDTH, K, make_camera

__all__ = ['DISTORTIONS', 'HEIGHT', 'WIDTH', 'K', 'make_camera']
