// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Maximum a posteriori pose and shape of N faces: what `pose.fit.fit_pose` calls.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lm.hpp"
#include "ranges.hpp"

namespace face_pose {

// What all faces of many calls have in common.
struct Problem {
  Points points;
  Points coarse;   // every stride-th of them: enough to know roughly where the head is
  Points surface;  // of the skin, where a depth image is read
  Index stride;
  Buffer<std::int64_t, 2> order;  // see `solve_pnp`
  double size_sigma;
  Kernel kernel;
  double kernel_scale;
  bool visibility;
  double independent_keypoints;
  Tolerances tolerances, coarse_tolerances;
  Efficiency efficiency;  // of the kernel under normal noise
  double range_alpha;     // as alpha, for ranges
  RangeNoise noise;

  Index modes() const { return points.modes.rows(); }
  // The same memory is read twice where both are all points.
  const Points& few() const { return stride == 1 ? points : coarse; }
  // See `Cost.information`.
  double share(Index measured) const {
    return std::min(independent_keypoints / std::max<Index>(measured, 1), 1.);
  }
};

// N faces.
struct Input {
  View<const double, 3> uv;                // (N, K, 2) px, or more of each
  View<const double, 4> cov_uv;            // (N, K, 2, 2) px^2
  const Lens& lens;
  View<const double, 2> mean;              // (N or 1, C) of the shape prior
  View<const double, 3> prior_covariance;  // (N or 1, C, C)
  View<const double, 3> T_init;            // (N, 4, 4), or empty
  const DepthView* depth;                  // may be null
};

// Of all faces, see `HeadPoses` and `PoseResult`.
struct Results {
  View<double, 3> T_cam_head, covariance, covariance_given_shape, pose_of_shape;
  View<double, 2> shape;
  View<double, 3> shape_covariance;
  View<double, 1> cost;
  View<std::int64_t, 1> iterations, stop;
  View<double, 2> depth;
};

// Solves all faces, each thread some of them.
void fit_faces(const Problem& problem, const Input& input, const Results& results, Index threads);

}  // namespace face_pose
