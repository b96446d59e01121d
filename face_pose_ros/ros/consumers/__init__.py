"""Example nodes that use the poses, with rclpy, numpy and scipy only."""
