// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Rotation vectors [rad], (3, 3) rotation matrices and (4, 4) transforms, as in
// face_pose_ros/geometry/rotations.py. Arguments are Matrix, View or Vector.
#pragma once

#include <algorithm>
#include <cmath>

#include "arrays.hpp"

namespace face_pose {

constexpr double SMALL_ANGLE_SQ = 1e-8;  // [rad^2]; below it the series are exact to double

// I + first hat(omega) + second hat(omega)^2.
inline Matrix<3, 3> rotation_series(double x, double y, double z, double first, double second) {
  return {{1 - second * (y * y + z * z), second * x * y - first * z, second * x * z + first * y,
           second * x * y + first * z, 1 - second * (x * x + z * z), second * y * z - first * x,
           second * x * z - first * y, second * y * z + first * x, 1 - second * (x * x + y * y)}};
}

// Rotation matrix of a rotation vector (3,) (Rodrigues' formula).
template <class V>
inline Matrix<3, 3> rotation_exp(const V& omega) {
  const double x = omega[0], y = omega[1], z = omega[2], angle_sq = x * x + y * y + z * z;
  if (angle_sq < SMALL_ANGLE_SQ)
    return rotation_series(x, y, z, 1 - angle_sq / 6, 0.5 - angle_sq / 24);
  const double angle = std::sqrt(angle_sq);
  return rotation_series(x, y, z, std::sin(angle) / angle, (1 - std::cos(angle)) / angle_sq);
}

// J_l with exp(omega + d) = exp(J_l d) exp(omega) to first order in d (Sola, Deray, Atchuthan
// 2018, "A micro Lie theory", eq. 145).
template <class V>
inline Matrix<3, 3> left_jacobian(const V& omega) {
  const double x = omega[0], y = omega[1], z = omega[2], angle_sq = x * x + y * y + z * z;
  if (angle_sq < SMALL_ANGLE_SQ) return rotation_series(x, y, z, 1. / 2, 1. / 6);
  const double angle = std::sqrt(angle_sq);
  return rotation_series(x, y, z, (1 - std::cos(angle)) / angle_sq,
                         (angle - std::sin(angle)) / (angle_sq * angle));
}

// Rotation from its first two columns (6,), orthonormalised by Gram and Schmidt.
template <class V>
inline Matrix<3, 3> rotation_of_columns(const V& columns) {
  const auto unit = [](double x, double y, double z) {
    const double inv = 1 / std::max(std::sqrt(x * x + y * y + z * z), 1e-12);
    return Vector<3>{x * inv, y * inv, z * inv};
  };
  const Vector<3> x = unit(columns[0], columns[1], columns[2]);
  const double along = x[0] * columns[3] + x[1] * columns[4] + x[2] * columns[5];
  const Vector<3> y =
      unit(columns[3] - along * x[0], columns[4] - along * x[1], columns[5] - along * x[2]);
  return {{x[0], y[0], x[1] * y[2] - x[2] * y[1], x[1], y[1], x[2] * y[0] - x[0] * y[2], x[2],
           y[2], x[0] * y[1] - x[1] * y[0]}};
}

// The pose T (4, 4) perturbed on the left by delta (6,), dt [m] and omega [rad], into T_moved,
// which may be T.
template <class MT, class V, class MM>
inline void move_pose(const MT& T, const V& delta, MM&& T_moved) {
  const Matrix<3, 3> turn = rotation_exp(Vector<3>{delta[3], delta[4], delta[5]});
  for (Index j = 0; j < 3; ++j) {
    const double x = T(0, j), y = T(1, j), z = T(2, j);
    for (Index i = 0; i < 3; ++i)
      T_moved(i, j) = turn(i, 0) * x + turn(i, 1) * y + turn(i, 2) * z;
  }
  for (Index i = 0; i < 3; ++i) {
    T_moved(i, 3) = T(i, 3) + delta[i];
    T_moved(3, i) = 0;
  }
  T_moved(3, 3) = 1;
}

// Unit quaternion x, y, z, w with w >= 0 of a rotation matrix; divides by the largest element
// (Shepperd 1978).
template <class MR>
inline Vector<4> quat_xyzw(const MR& R) {
  Vector<4> quat{};
  Index i = 0;
  for (Index j = 1; j < 3; ++j)
    if (R(j, j) > R(i, i)) i = j;
  const Index j = (i + 1) % 3, k = (i + 2) % 3;
  const double trace = R(0, 0) + R(1, 1) + R(2, 2);
  if (trace > R(i, i)) {
    quat = {R(2, 1) - R(1, 2), R(0, 2) - R(2, 0), R(1, 0) - R(0, 1), 1 + trace};
  } else {
    quat[i] = 1 + R(i, i) - R(j, j) - R(k, k);
    quat[j] = R(i, j) + R(j, i);
    quat[k] = R(i, k) + R(k, i);
    quat[3] = R(k, j) - R(j, k);
  }
  double total = 0;
  for (double value : quat) total += value * value;
  const double scale = (quat[3] < 0 ? -1 : 1) / std::sqrt(total);
  for (double& value : quat) value *= scale;
  return quat;
}

// Rotation vector of a rotation matrix, angle in [0, pi].
template <class MR>
inline Vector<3> rotation_log(const MR& R) {
  const auto [x, y, z, w] = quat_xyzw(R);
  const double sine = std::sqrt(x * x + y * y + z * z);  // of half the angle
  const bool small = sine * sine < 0.25 * SMALL_ANGLE_SQ;
  // Angle over the sine of its half; for small angles to second order.
  const double scale = small ? 2 + sine * sine / 3 : 2 * std::atan2(sine, w) / sine;
  return {scale * x, scale * y, scale * z};
}

}  // namespace face_pose
