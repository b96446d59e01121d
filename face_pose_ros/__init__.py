"""Where people's heads are and where they point, from a calibrated camera."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from face_pose_ros.estimator import EstimatorOptions, FacePoseEstimator
    from face_pose_ros.face_pose import FacePose
    from face_pose_ros.geometry.camera import Camera

__all__ = ['Camera', 'EstimatorOptions', 'FacePose', 'FacePoseEstimator']


def __getattr__(name: str) -> Any:
    """Load torch with the first of these names, not with the package: small nodes do without."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    module = 'geometry.camera' if name == 'Camera' else 'estimator'
    return getattr(import_module(f'{__name__}.{module}'), name)
