// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "covariance.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "linalg.hpp"

namespace face_pose {

FACE_POSE_WIDE bool information_of(View<const double, 2> covariance, CovarianceWork& work,
                                   View<double, 2> information) {
  return cholesky_inverse(covariance, work.product, information);
}

FACE_POSE_WIDE bool posterior_covariance(View<const double, 2> H,
                                         View<const double, 2> information,
                                         Efficiency efficiency, const Pose& T, double size,
                                         double size_sigma, const PoseCovariance& posterior,
                                         CovarianceWork& work) {
  const auto [alpha, beta] = efficiency;
  const Index count = information.rows(), unknowns = 6 + count;
  // L is the identity but for 1 / s of the translation, and -size_sigma t / s by the size.
  Buffer<double, 2>& moved = work.H;
  std::copy(H.begin(), H.end(), moved.begin());
  for (Index i = 0; i < unknowns; ++i)
    for (Index a = 0; a < 3; ++a) {
      moved(i, 6) -= size_sigma / size * T(a, 3) * moved(i, a);
      moved(i, a) /= size;
    }
  for (Index a = 0; a < 3; ++a)
    for (Index j = 0; j < unknowns; ++j) {
      moved(6, j) -= size_sigma / size * T(a, 3) * moved(a, j);
      moved(a, j) /= size;
    }
  Matrix<6, 6> H_pp, factor, of_pose;
  for (Index a = 0; a < 6; ++a)
    for (Index b = 0; b < 6; ++b) H_pp(a, b) = moved(a, b);
  if (!cholesky_inverse(H_pp, factor, of_pose)) return false;
  const View<double, 2> G = posterior.pose_of_shape;
  for (Index a = 0; a < 6; ++a) {
    for (Index m = 0; m < count; ++m) G(a, m) = 0;
    for (Index b = 0; b < 6; ++b)
      for (Index m = 0; m < count; ++m) G(a, m) -= of_pose(a, b) * moved(b, 6 + m);
  }
  for (Index m = 0; m < count; ++m)
    for (Index n = 0; n < count; ++n) {
      double S = moved(6 + m, 6 + n);
      for (Index a = 0; a < 6; ++a) S += moved(6 + m, a) * G(a, n);
      work.weak(m, n) = beta * S + information(m, n);
      work.middle(m, n) = alpha * S + information(m, n);
    }
  if (!cholesky_inverse(work.weak, work.product, work.inverse)) return false;
  congruent(work.inverse, work.middle, work.product, posterior.shape_covariance);
  multiply(G, posterior.shape_covariance, work.GC);
  double total = 0;
  for (Index a = 0; a < 6; ++a)
    for (Index b = 0; b < 6; ++b) {
      const double given_shape = alpha / (beta * beta) * of_pose(a, b);
      double value = given_shape;
      for (Index m = 0; m < count; ++m) value += work.GC(a, m) * G(b, m);
      posterior.covariance_given_shape(a, b) = given_shape;
      posterior.covariance(a, b) = value;
      total += value;
    }
  return std::abs(total) < std::numeric_limits<double>::infinity();
}

}  // namespace face_pose
