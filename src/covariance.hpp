// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Covariance of a pose with the shape marginalised, from the optimiser's last system.
#pragma once

#include "lm.hpp"

namespace face_pose {

// The observed Hessian of a redescending kernel may vanish on keypoints that are all far off.
constexpr double MIN_RELATIVE_BETA = 0.1;

// Fields as in `HeadPoses`, of one face.
struct PoseCovariance {
  View<double, 2> covariance;              // (6, 6)
  View<double, 2> covariance_given_shape;  // (6, 6)
  View<double, 2> pose_of_shape;           // (6, C)
  View<double, 2> shape_covariance;        // (C, C)
};

// Memory of `posterior_covariance` for C coefficients.
struct CovarianceWork {
  explicit CovarianceWork(Index shape)
      : H(6 + shape, 6 + shape),
        weak(shape, shape),
        middle(shape, shape),
        inverse(shape, shape),
        product(shape, shape),
        GC(6, shape) {}

  Buffer<double, 2> H, weak, middle, inverse, product, GC;
};

// The inverse (C, C) of the covariance of a prior; false if it is not positive definite.
bool information_of(View<const double, 2> covariance, CovarianceWork& work,
                    View<double, 2> information);

// Covariance of a robust maximum a posteriori estimate; false where the keypoints do not fix the
// pose.
//
// The gradient of the cost of what was measured has the covariance alpha H, its expected Hessian
// is beta H (see `robust.Efficiency`); alpha grows with residuals that are larger than their sigma
// promised, and never falls below what normal noise gives. With S the Schur complement of the
// shape in H and P its prior, the shape has the covariance of an M-estimator with a prior,
//
//     (beta S + P)^-1 (alpha S + P) (beta S + P)^-1,
//
// and the pose follows the shape by G = -H_pp^-1 H_pc. This holds for redundant keypoints too:
// their information is scaled down in H, by as much as their errors move together.
//
// H is that of a head of mean size at t. For the head of size s at s t it is L^T H L with
// dt = (d(s t) - t ds) / s and ds = size_sigma dc_0: what is not known of the size moves the head
// along its ray.
//   H            (6 + C, 6 + C) of all that was measured, at the minimum.
//   information  (C, C) P.
//   efficiency   alpha at least that of the kernel under normal noise, beta in (0, 1].
//   T            pose of the head of mean size.
//   size         s, relative.
//   size_sigma   relative standard deviation of the size over adults.
//   posterior    written.
bool posterior_covariance(View<const double, 2> H, View<const double, 2> information,
                          Efficiency efficiency, const Pose& T, double size, double size_sigma,
                          const PoseCovariance& posterior, CovarianceWork& work);

}  // namespace face_pose
