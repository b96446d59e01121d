// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// The points of a face, and the rays and whitening of keypoints that were measured; see lm.hpp.
//
// Points are laid out as (3, K), so that the inner loops run along memory.
#pragma once

#include "arrays.hpp"
#include "lens.hpp"

namespace face_pose {

using Pose = Matrix<3, 4>;  // [R | t]

// K points of a face model and their M modes.
struct Points {
  Points(View<const double, 2> xyz_head, View<const double, 3> modes,
         View<const double, 2> normals);

  Index count() const { return xyz_head.columns(); }

  Buffer<double, 2> xyz_head;  // (3, K) m
  Buffer<double, 3> modes;     // (M, 3, K) m per prior standard deviation
  Buffer<double, 2> normals;   // (3, K) unit, out of the head
};

// K measured keypoints of one face.
struct Measured {
  explicit Measured(Index count) : rays(3, count), A(2, 3, count), weight(count) {}

  Index count() const { return weight.size(); }
  Index measured() const;  // how many of them were

  Buffer<double, 2> rays;    // (3, K) unit
  Buffer<double, 3> A;       // (2, 3, K) whitened residual per unit of deviation across the ray
  Buffer<double, 1> weight;  // (K,) of the closed form: 1 / rad^2; 0 where not measured
};

// Points of the face with the shape c (C,), but of mean size, into x (3, K).
void deform(const Points& points, View<const double, 1> c, View<double, 2> x);

// Rays and whitening of the first K keypoints uv (K, 2) px with covariances cov_uv (K, 2, 2) px^2.
//
// One that is not finite, without a ray, or whose covariance has no inverse is not measured.
void measure(View<const double, 2> uv, View<const double, 3> cov_uv, const Lens& lens,
             Measured& measured);

// Every stride-th of the keypoints, into `few`.
void take_every(Index stride, const Measured& measured, Measured& few);

// The same keypoints, uncertain where a head at T hides them from the camera, into `seen`.
void weigh_visible(const Measured& measured, const Points& points, const Pose& T, Measured& seen);

// Median of the first values, of an even number the lower one in the middle; 0 of none.
//
// The values are reordered.
double lower_median(View<double, 1> values, Index count);

}  // namespace face_pose
