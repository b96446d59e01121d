"""Where people's heads are and where they point, from a calibrated camera."""

from face_pose_ros.estimator import EstimatorOptions, FacePose, FacePoseEstimator
from face_pose_ros.geometry.camera import Camera

__all__ = ['Camera', 'EstimatorOptions', 'FacePose', 'FacePoseEstimator']
