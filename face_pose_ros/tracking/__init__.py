"""Which face of this image is which face of the images before."""
