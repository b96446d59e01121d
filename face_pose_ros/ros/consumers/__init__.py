"""Small nodes that use the poses: with rclpy, numpy and scipy, without torch and OpenCV."""
