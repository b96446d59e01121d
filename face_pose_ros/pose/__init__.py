"""Keypoints + camera + face model -> head poses with covariance."""
