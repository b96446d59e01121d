// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Closed-form start of the pose: no previous frame, no guess, any central camera.
//
// The object-space cost of SQPnP (Terzakis and Lourakis, ECCV 2020, eq. 3-8) written for unit rays
// instead of normalised coordinates, so that a fisheye's rays beyond 90 deg count like any other:
// sum_i w_i ((I - f_i f_i^T) (R x_i + t))^2. The optimal t is linear in R, which leaves
// r^T Omega r with r = vec(R). Omega's smallest eigenvectors, made rotations, are the starts of a
// few Gauss-Newton steps on SO(3); the best one in front of the camera wins.
#pragma once

#include <array>
#include <cstdint>

#include "lm.hpp"

namespace face_pose {

constexpr double MAX_TRACE_APART = 2.88;  // of the rotation between two minima: more than 20 deg

// Memory of `solve_pnp` for K keypoints.
struct PnpWork {
  explicit PnpWork(Index count) : error(count), sorted_error(count), sample(count) {}

  Buffer<double, 1> error, sorted_error, sample;
};

// Two poses from 3-D points and the rays on which the camera sees them.
//
// Where the solution of all points does not fit half of them, that of a small sample may: the one
// with the least median error wins (Rousseeuw 1984), unless one more solve with all its inliers, by
// Geman-McClure weights, is better still. The second pose is the best one that is turned far from
// it, or the first where there is none: a face that is small in the picture is nearly flat, and has
// nearly the same projection from two sides. With fewer than six points of non-zero weight, or all
// of them on one line, the answers are finite but meaningless.
//
// xyz_head (3, K) are points in the head frame [m]; `order` (S, K) says which keypoints each of S
// samples prefers.
std::array<Pose, 2> solve_pnp(const Buffer<double, 2>& xyz_head, const Measured& measured,
                              View<const std::int64_t, 2> order, PnpWork& work);

}  // namespace face_pose
