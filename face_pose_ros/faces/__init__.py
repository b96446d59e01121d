"""Image -> Faces: where faces are."""
