// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Square crops of an image, rendered by virtual pinhole cameras at the centre of the real one; see
// face_pose_ros/geometry/crops.py.
#pragma once

#include <cstdint>
#include <vector>

#include "arrays.hpp"
#include "lens.hpp"

namespace face_pose {

// Pixel maps are exact at nodes so many pixels apart and linear in between: over this distance a
// lens is linear to 0.01 px.
constexpr int NODE_SPACING_PX = 8;
// Largest step in the image between neighbouring crop pixels. Above it the image is halved before
// sampling, so that a close face is not aliased.
constexpr double MAX_STEP_PX = 1.5;

// An RGB image, whose rows need not be contiguous.
struct Picture {
  const std::uint8_t* pixels;
  Index height, width, row_bytes;
};

// The camera of a crop: its rotation in the real camera's frame, and its focal length.
struct Aim {
  Matrix<3, 3> R_cam_crop;
  double focal_px;
  bool valid;  // all points that define the crop have a ray
};

// Indices of the keypoints that define the roll of a crop; each group counts by its mean.
struct Upright {
  std::vector<Index> eye_right, eye_left, forehead, chin;
};

// Crop around the box (4,) left, top, right, bottom of an upright face [px].
Aim aim_at_box(View<const double, 1> box, const Lens& lens, double size_px, double margin);

// Crop around keypoints uv (K, 2) [px].
Aim aim_at_keypoints(View<const double, 2> uv, const Upright& upright, const Lens& lens,
                     double size_px, double margin);

// d uv / d uv_crop at the centre of a crop.
Matrix<2, 2> crop_jacobian(const Lens& lens, const Matrix<3, 3>& R_cam_crop, double focal_px);

// Renders a crop, (3, size, size) RGB in [0, 1]; outside the image its border is repeated.
void render_crop(Picture image, const Lens& lens, const Matrix<3, 3>& R_cam_crop, double focal_px,
                 View<float, 3> picture);

}  // namespace face_pose
