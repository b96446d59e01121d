// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// face_pose_ros._core: what must be fast, as a Python module.
//
// Bindings cost the compiler six seconds for each translation unit, and one or two for what is in
// these files: they are one unit.
#include "boxes.cpp"
#include "geometry.cpp"
#include "heads.cpp"
#include "keypoints.cpp"
#include "pictures.cpp"
#include "surface.cpp"

namespace face_pose {

void bind_pose(py::module_& m);
void bind_tracking(py::module_& m);

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
