# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Metric 6-DoF poses of human heads from a calibrated camera.

    from face_pose_ros import Camera, FacePoseEstimator
    camera = Camera.from_fov(1280, 720, horizontal_fov_deg=69)  # better: Camera.from_yaml(path)
    faces = FacePoseEstimator().track(image_rgb, camera, stamp_s)

Names are imported on first use, so that small ROS nodes do not load the estimator.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from face_pose_ros.estimator import FacePoseEstimator
    from face_pose_ros.geometry.camera import Camera
    from face_pose_ros.geometry.depth import DepthImage
    from face_pose_ros.options import EstimatorOptions
    from face_pose_ros.results import FacePose

__version__ = '0.1.0'
__all__ = [
    'Camera',
    'DepthImage',
    'EstimatorOptions',
    'FacePose',
    'FacePoseEstimator',
    '__version__',
]
_MODULES = {
    'Camera': 'geometry.camera',
    'DepthImage': 'geometry.depth',
    'EstimatorOptions': 'options',
    'FacePose': 'results',
    'FacePoseEstimator': 'estimator',
}

if find_spec(f'{__name__}._core') is None:
    raise ImportError(
        f'{__path__[0]} has no module _core for Python {sys.version_info[0]}.'
        f'{sys.version_info[1]}: build it with make setup, colcon build, or '
        'python3 setup.py build_ext --inplace'
    )


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)


def __dir__() -> list[str]:
    return list(__all__)
