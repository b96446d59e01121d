"""The poses in 3-D, with rerun."""
