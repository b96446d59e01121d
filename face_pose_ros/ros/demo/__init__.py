"""A virtual or real camera, the node, and a checker."""
