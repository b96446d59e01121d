// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Boxes in the image.
#pragma once

#include <algorithm>
#include <limits>

#include "arrays.hpp"

namespace face_pose {

// Bounding box of points: left, top, right, bottom.
struct Box {
  double left = std::numeric_limits<double>::infinity(), top = left, right = -left, bottom = -left;

  void add(double u, double v) {
    left = std::min(left, u);
    top = std::min(top, v);
    right = std::max(right, u);
    bottom = std::max(bottom, v);
  }
  double width() const { return right - left; }
  double height() const { return bottom - top; }
  double area() const { return std::max(0.0, width()) * std::max(0.0, height()); }
  void write(View<double, 1> box) const {
    box[0] = left;
    box[1] = top;
    box[2] = right;
    box[3] = bottom;
  }
};

// Bounding box of the first `count` points (K, 2).
inline Box box_around(View<const double, 2> uv, Index count) {
  Box box;
  for (Index k = 0; k < count; ++k) box.add(uv(k, 0), uv(k, 1));
  return box;
}

inline Box common_part(const Box& a, const Box& b) {
  return {std::max(a.left, b.left), std::max(a.top, b.top), std::min(a.right, b.right),
          std::min(a.bottom, b.bottom)};
}

}  // namespace face_pose
