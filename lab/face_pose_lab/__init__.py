"""Training, renderers and evaluation of face_pose_ros; robots do not need it."""
