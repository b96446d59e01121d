// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "numpy.hpp"

namespace face_pose {

void bind_pose(py::module_&) {}

}  // namespace face_pose
