"""The ROS 2 side: messages in, the estimator called, messages out."""
