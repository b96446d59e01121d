// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// face_pose_ros._core: what must be fast, as a Python module.
#include <pybind11/pybind11.h>

namespace face_pose {

void bind_geometry(pybind11::module_& m);
void bind_pictures(pybind11::module_& m);
void bind_pose(pybind11::module_& m);
void bind_boxes(pybind11::module_& m);
void bind_heads(pybind11::module_& m);
void bind_surface(pybind11::module_& m);
void bind_tracking(pybind11::module_& m);
void bind_keypoints(pybind11::module_& m);

}  // namespace face_pose

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled part of face_pose_ros; its longer functions release the GIL.";
  face_pose::bind_geometry(m);
  face_pose::bind_pictures(m);
  face_pose::bind_pose(m);
  face_pose::bind_boxes(m);
  face_pose::bind_heads(m);
  face_pose::bind_surface(m);
  face_pose::bind_tracking(m);
  face_pose::bind_keypoints(m);
}
