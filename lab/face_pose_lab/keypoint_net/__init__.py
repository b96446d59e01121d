"""The keypoint network: its data, its training, and what it is worth."""
