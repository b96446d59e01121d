# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images of faces at known poses."""

import numpy as np
import torch
from face_pose_lab.synthetic.rasterizer import rasterize
from face_pose_lab.torch_geometry.camera import torch_camera

from face_pose_ros.geometry import rotations


def depth_of(xyz_cam, triangles, camera):
    """(H, W) float32 m, z of the nearest surface in each pixel; 0 where there is none.

    Args:
        xyz_cam: (V, 3) m in the depth camera's frame.
        triangles: (F, 3).
        camera: The depth camera.
    """
    xyz, faces = torch.from_numpy(xyz_cam), torch.from_numpy(triangles)
    seen = rasterize(xyz[None], faces, torch_camera(camera))
    z = np.zeros(camera.height * camera.width, np.float32)
    z[seen.pixel.numpy()] = seen.interpolate(xyz[:, 2:].float(), faces)[:, 0].numpy()
    return z.reshape(camera.height, camera.width)


def face_depth(face, shape, T_depth_head, camera):
    """The same of a face model's shape (C,) at a pose (4, 4)."""
    points = face.points(np.asarray(shape, float)[None])[0]
    return depth_of(rotations.apply(T_depth_head, points), face.triangles, camera)
