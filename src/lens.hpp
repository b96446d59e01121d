// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Camera models: OpenCV's polynomial and fisheye, with skew and a tilted sensor.
//
// A lens maps a ray to a distorted point, from its intersection with the plane z = 1 (polynomial)
// or its angle to the axis (fisheye). A homography maps that point to the pixel: K, times the tilt
// of the sensor if there is one.
#pragma once

#include <array>

#include "arrays.hpp"

namespace face_pose {

struct Lens {
  std::array<double, 9> plane;    // row-major: homography from the distorted plane to pixels
  std::array<double, 9> inverse;  // its inverse
  std::array<double, 12> dist;    // k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4, or k1 k2 k3 k4 0 ... 0
  double range_max;               // end of the monotone range: |xy_norm|, or angle [rad] (fisheye)
  bool fisheye;
};

// Image of a point.
struct Pixel {
  double u, v;               // [px], finite also where invalid
  bool valid;                // within the model's range; for a pinhole, in front of it
  std::array<double, 6> J;   // d(u, v) / d(x, y, z) [px/m], row-major
};

// Image of the point x, y, z [m], camera frame.
Pixel project(const Lens& lens, double x, double y, double z);

// Replaces points (3, K) [m], camera frame, by u, v [px] and 1 if valid, else 0. Vectorised.
void project(const Lens& lens, View<double, 2> xyz);

// Unit rays of pixels uv (2, K), and the derivatives of project at these rays.
//   rays    (3, K), written; (0, 0, 1) for pixels without a ray.
//   J       (2, 3, K), written: d uv / d xyz at the unit ray [px].
//   usable  (K,), set to false for pixels without a ray.
void unproject(const Lens& lens, View<const double, 2> uv, View<double, 2> rays,
               View<double, 3> J, View<bool, 1> usable);

}  // namespace face_pose
