"""Image and Faces -> Keypoints: where the points of each face are."""
