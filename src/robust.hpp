// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Robust kernels: cost, weight and slope of a squared, whitened residual.
//
// For a squared residual s and a scale k (in standard deviations) a kernel gives rho(s), which
// replaces s in the cost, w(s) = d rho / d s, the weight of iteratively re-weighted least squares,
// and w'(s) = d w / d s, which the covariance of an M-estimator needs.
#pragma once

#include <cmath>

namespace face_pose {

// In the order of `options.KERNELS`: least squares; Huber (1964), quadratic up to k and linear
// beyond; Cauchy, logarithmic; Geman and McClure (1985), bounded.
enum class Kernel { none, huber, cauchy, geman_mcclure };

constexpr double NORMAL_MEDIAN = 1.3862943611198906;  // of s for two standard normal numbers

struct Robust {
  double rho, weight, slope;
};

// rho, w and w' of one squared residual s >= 0.
inline Robust robust_kernel(Kernel kernel, double k, double s) {
  const double k_sq = k * k, inv = 1 / (1 + s / k_sq);
  if (kernel == Kernel::geman_mcclure)
    return {s * inv, inv * inv, -2 / k_sq * inv * inv * inv};
  if (kernel == Kernel::cauchy) return {k_sq * std::log1p(s / k_sq), inv, -inv * inv / k_sq};
  if (kernel == Kernel::huber && s > k_sq) {
    const double root = std::sqrt(s);
    return {2 * k * root - k_sq, k / root, -0.5 * k / (root * s)};
  }
  return {s, 1, 0};
}

}  // namespace face_pose
