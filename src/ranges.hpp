// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// What a depth image measures of one face: ranges to points of its surface.
//
// The points are read where the fitted head shows them, each as the median of a few pixels, with
// the standard deviation
//
//     sigma^2 = (noise z^2)^2 + SURFACE_M^2 + (SIDEWAYS_M tan(angle))^2:
//
// stereo's noise grows with the square of the depth z, here at most that of the largest face, since
// what lies behind it is no range of the face; the model's surface is not the person's own;
// and a point that lies beside the measured one differs in range by the surface's angle to the ray.
#pragma once

#include <cstdint>

#include "lm.hpp"

namespace face_pose {

// A depth image with its camera; one of the two pixel arrays is empty.
struct DepthView {
  View<const std::uint16_t, 2> z_mm;  // (H, W)
  View<const float, 2> z_m;           // (H, W)
  Lens lens;                          // of the depth camera
  Matrix<3, 3> R_depth_cam;
  Vector<3> t_depth_cam;  // m

  bool in_mm() const { return z_mm.size() > 0; }
  Index height() const { return in_mm() ? z_mm.rows() : z_m.rows(); }
  Index width() const { return in_mm() ? z_mm.columns() : z_m.columns(); }
  double z(Index row, Index column) const {
    return in_mm() ? 1e-3 * z_mm(row, column) : z_m(row, column);
  }
};

// How a depth camera errs.
struct RangeNoise {
  double noise_per_m;  // standard deviation of a pixel's depth z: this times z^2 [m]
  double bias_per_m;   // likewise of all pixels of a face together
};

// Memory of `read_ranges` for N points.
struct RangeWork {
  explicit RangeWork(Index count)
      : xyz(3, count),
        p(3, count),
        n(3, count),
        image(3, count),
        uv(2, count),
        rays(3, count),
        J(2, 3, count),
        sigma(count),
        along(count),
        usable(count) {}

  Buffer<double, 2> xyz, p, n, image, uv, rays;
  Buffer<double, 3> J;
  Buffer<double, 1> sigma, along;
  Buffer<bool, 1> usable;
};

// The measured ranges of one face, into `ranges`, and which size of it they agree on; 0 where they
// are not those of this face.
//   T         pose of the head of mean size.
//   c         (C,) shape.
//   size      what is expected of its size, relative.
//   evidence  (4,) see `HeadPoses.depth`, written.
double read_ranges(const Pose& T, View<const double, 1> c, double size, const DepthView& depth,
                   const RangeNoise& noise, View<double, 1> evidence, RangeWork& work,
                   Ranges& ranges);

}  // namespace face_pose
