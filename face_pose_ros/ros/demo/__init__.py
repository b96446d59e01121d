"""The demo: a virtual or real camera, the pose node, and a checker."""
