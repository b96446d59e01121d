# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The public interface as people meet it: names, one-line answers, arrays of their own."""

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.portraits import portrait_view

import face_pose_ros
from face_pose_ros import Camera, FacePoseEstimator


@pytest.fixture(scope='module')
def estimator():
    return FacePoseEstimator('cpu')


def test_completion_and_help_show_the_public_names():
    assert dir(face_pose_ros) == [
        'Camera', 'DepthImage', 'EstimatorOptions', 'FacePose', 'FacePoseEstimator', '__version__',
    ]  # fmt: skip
    for name in dir(face_pose_ros):
        assert getattr(face_pose_ros, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Kamera'"):
        face_pose_ros.Kamera  # noqa: B018


def test_the_version_is_the_packages(request):
    xml = (request.config.rootpath / 'package.xml').read_text()
    assert f'<version>{face_pose_ros.__version__}</version>' in xml


def test_a_face_a_camera_and_an_estimator_print_in_one_line(estimator):
    rgb, camera = portrait_view()
    (face,) = estimator.track(rgb, camera, 0.0)
    for thing, start in ((face, "FacePose(id='f00001', position=("), (camera, 'Camera('),
                         (estimator, "FacePoseEstimator(device='cpu'")):  # fmt: skip
        assert repr(thing).startswith(start)
        assert len(repr(thing)) < 160
        assert '\n' not in repr(thing)
    estimator.tracker.reset()


def test_a_face_tells_where_it_is_and_points_beside_its_matrices(estimator):
    rgb, camera = portrait_view()
    (face,) = estimator.estimate(rgb, camera)
    np.testing.assert_array_equal(face.position, face.T_cam_head[:3, 3])
    np.testing.assert_array_equal(face.forward, face.T_cam_head[:3, 0])
    assert face.distance == pytest.approx(np.linalg.norm(face.position))
    np.testing.assert_allclose(face.sigma**2, np.diag(face.covariance))


def test_faces_and_cameras_can_be_compared(estimator):
    rgb, camera = portrait_view()
    one, other = estimator.estimate(rgb, camera), estimator.estimate(rgb, camera)
    assert one[0] == one[0]
    assert one[0] != other[0]  # another answer
    assert camera == Camera.from_K(camera.K, camera.width, camera.height)
    assert camera != camera.resize(100, 100)
    assert len({camera, camera.resize(100, 100)}) == 2


def test_arrays_of_an_answer_are_the_callers_own(estimator):
    rgb, camera = portrait_view()
    kept, spoilt = FacePoseEstimator('cpu'), FacePoseEstimator('cpu')
    for i in range(4):
        (expected,) = kept.track(rgb, camera, i / 30)
        (face,) = spoilt.track(rgb, camera, i / 30)
        np.testing.assert_array_equal(face.T_cam_head, expected.T_cam_head)
        np.testing.assert_array_equal(face.covariance, expected.covariance)
        assert face.id == 'f00001'
        face.T_cam_head[:3, 3] *= 1000
        face.keypoints_uv[:] = 0
        for array in (face.covariance, face.shape, face.shape_covariance, face.box_xyxy):
            array[:] = np.nan


READ_ONLY = portrait_view()[0].tobytes()


@pytest.mark.parametrize(
    'view',
    [
        lambda rgb: np.ascontiguousarray(rgb[..., ::-1])[..., ::-1],
        lambda rgb: np.rot90(np.ascontiguousarray(np.rot90(rgb)), -1),
        lambda rgb: np.ascontiguousarray(rgb[::-1])[::-1],
        lambda rgb: np.frombuffer(READ_ONLY, np.uint8).reshape(rgb.shape),
        lambda rgb: np.dstack([rgb, rgb[..., :1]])[..., :3],
        lambda rgb: np.hstack([rgb, rgb])[:, : rgb.shape[1]],
        np.asfortranarray,
    ],
    ids=['bgr reversed', 'turned', 'flipped', 'read-only', 'of rgba', 'part', 'fortran'],
)
def test_any_view_of_an_array_is_taken(estimator, view):
    rgb, camera = portrait_view()
    image = view(rgb)
    np.testing.assert_array_equal(image, rgb)
    (expected,) = estimator.estimate(rgb, camera)
    (face,) = estimator.estimate(image, camera)
    np.testing.assert_array_equal(face.T_cam_head, expected.T_cam_head)
    assert len(FacePoseEstimator.track(estimator, image, camera, 0.0)) == 1


def test_an_image_may_change_right_after_the_call():
    rgb, camera = portrait_view()
    kept, reused = FacePoseEstimator('cpu'), FacePoseEstimator('cpu')
    buffer = np.empty_like(rgb)
    for i in range(12):  # detections fall in between
        buffer[:] = rgb
        (expected,) = kept.track(rgb, camera, i / 30)
        (face,) = reused.track(buffer, camera, i / 30)
        buffer[:] = 255
        np.testing.assert_array_equal(face.T_cam_head, expected.T_cam_head)


def test_on_a_cpu_nothing_imports_torch():
    code = """
import sys
from face_pose_ros import FacePoseEstimator
from face_pose_ros.samples import load_portraits
from face_pose_ros.virtual_camera import photo_camera

rgb = load_portraits()['astronaut']
estimator = FacePoseEstimator('cpu')
print(len(estimator.track(rgb, photo_camera(*rgb.shape[1::-1]), 0.0)), 'torch' in sys.modules)
"""
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)
    assert run.stdout.split() == ['1', 'False'], run.stderr


def test_the_example_of_the_readme_runs(request, capsys):
    readme = (request.config.rootpath / 'README.md').read_text()
    (example,) = re.findall(r'^```python\n(.*?)^```', readme, re.MULTILINE | re.DOTALL)
    exec(compile(example, 'README.md', 'exec'), {})
    assert re.match(r'f00001 1\.\d\d m away\n', capsys.readouterr().out)


def modules():
    return [
        info.name
        for info in pkgutil.walk_packages(face_pose_ros.__path__, 'face_pose_ros.')
        if not info.name.startswith(('face_pose_ros.ros', 'face_pose_ros.networks'))
        and not info.name.endswith(('engines.cuda', 'engines.torch_engine'))
    ]


@pytest.mark.parametrize('name', modules())
def test_the_examples_in_docstrings_are_true(name):
    result = doctest.testmod(importlib.import_module(name), extraglobs={'np': np})
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    found = [
        test
        for name in ('face_pose_ros.geometry.camera', 'face_pose_ros.estimator')
        for test in finder.find(importlib.import_module(name))
        if test.examples
    ]
    assert len(found) >= 7
