"""Face detection: image -> Faces."""
