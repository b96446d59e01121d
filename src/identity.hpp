// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// A fitted face, conditional on the identity of the person.
//
// The pose of a fit depends on its shape: above all, the size moves the head along its ray. That
// error is the same in every image of a person. So it stays outside the filter and the association:
// poses are compared and averaged for one and the same identity.
#pragma once

#include "arrays.hpp"
#include "shape_memory.hpp"

namespace face_pose {

// What the fit of one face says, as `results.FacePose` and `results.Fit` have it.
struct FittedFace {
  Matrix<4, 4> T_cam_head;
  Matrix<6, 6> covariance_given_shape;
  View<const double, 2> pose_of_shape;  // (6, C)
  Normal shape;                         // C
};

// A fitted face for a known distribution of the identity.
struct ForIdentity {
  Matrix<4, 4> T_cam_head;   // best pose
  Matrix<6, 6> covariance;   // what the uncertainty of the identity adds to that of the pose
  Shape shape;               // C
};

// The joint normal distribution of pose and shape of a fit, factored by identity.
struct FaceGivenIdentity {
  FaceGivenIdentity(const FittedFace& face, const Kinds& kinds);

  // Pose and shape for another distribution of the identity (I,).
  ForIdentity for_identity(const Normal& other, const Kinds& kinds) const;

  Matrix<4, 4> T_cam_head;             // for the fitted identity
  Matrix<6, 6> covariance;             // of the pose for a known identity; without expressions
  Buffer<double, 2> pose_of_identity;  // (6, I) derivative of the best pose
  Shape identity;                      // fitted, I
  Buffer<double, 1> expression;        // (E,) for the fitted identity
  Buffer<double, 2> expression_of_identity;  // (E, I)
  Buffer<double, 2> expression_covariance;   // (E, E) for a known identity
};

}  // namespace face_pose
