"""Published formulations, to compare with."""
