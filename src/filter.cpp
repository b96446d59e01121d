// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "filter.hpp"

#include <algorithm>
#include <cmath>

#include "linalg.hpp"
#include "rotations.hpp"

namespace face_pose {
namespace {

constexpr int RESTART_AFTER = 3;  // measurements in a row beyond the gate restart the filter

// Standard deviations of the velocity of a new head.
constexpr double START_SPEED_M_S = 1, START_TURN_RAD_S = 2;

// The state after the first measurement; arguments as in `PoseFilter.update`.
PoseState started(const Matrix<4, 4>& T_cam_head, const Matrix<6, 6>& covariance, double stamp_s,
                  const FilterOptions& options) {
  PoseState state{T_cam_head, {}, {}, stamp_s};
  for (Index i = 0; i < 6; ++i) {
    for (Index j = 0; j < 6; ++j)
      state.covariance(i, j) = (1 - options.correlated_noise_share) * covariance(i, j);
    const double sigma = i < 3 ? START_SPEED_M_S : START_TURN_RAD_S;
    state.covariance(6 + i, 6 + i) = sigma * sigma;
  }
  return state;
}

// Effect of a velocity change that has lasted for a part of dt, in which the head moves by motion.
Matrix<12, 6> effect_of_velocity(const Vector<6>& motion, double dt, double part) {
  const Matrix<3, 3> J =
      left_jacobian(Vector<3>{part * motion[3], part * motion[4], part * motion[5]});
  Matrix<12, 6> B{};
  for (Index i = 0; i < 3; ++i) {
    B(i, i) = part * dt;
    B(6 + i, i) = B(9 + i, 3 + i) = 1;
    for (Index j = 0; j < 3; ++j) B(3 + i, 3 + j) = part * dt * J(i, j);
  }
  return B;
}

}  // namespace

FACE_POSE_WIDE
PoseState predict(const PoseState& state, double stamp_s, const FilterOptions& options) {
  const double dt = std::min(stamp_s - state.stamp_s, options.max_gap_s);
  PoseState later;
  later.stamp_s = stamp_s;
  const Matrix<4, 4>& T = state.T_cam_head;
  Vector<6> motion;
  for (Index i = 0; i < 6; ++i) motion[i] = dt * state.velocity[i];
  move_pose(T, motion, later.T_cam_head);
  later.velocity = state.velocity;
  Matrix<12, 12> F{};
  for (Index i = 0; i < 3; ++i) {
    F(i, i) = 1;
    for (Index j = 0; j < 3; ++j)  // exp(motion), the rotation of the pose
      for (Index k = 0; k < 3; ++k) F(3 + i, 3 + j) += later.T_cam_head(i, k) * T(j, k);
  }
  const Matrix<12, 6> B = effect_of_velocity(motion, dt, 1);
  for (Index i = 0; i < 12; ++i)
    for (Index j = 0; j < 6; ++j) F(i, 6 + j) = B(i, j);
  later.covariance = congruent(F, state.covariance);
  // Two-point Gauss quadrature over the duration of the noise, exact for a head that does not
  // rotate.
  const double half = 0.5 / std::sqrt(3.0);
  Matrix<6, 6> noise{};
  for (Index k = 0; k < 6; ++k) {
    const double sigma =
        k < 3 ? options.acceleration_noise : options.angular_acceleration_noise;
    noise(k, k) = 0.5 * dt * sigma * sigma;
  }
  for (double part : {0.5 - half, 0.5 + half}) {
    const Matrix<12, 12> added = congruent(effect_of_velocity(motion, dt, part), noise);
    for (Index i = 0; i < 144; ++i) later.covariance.values[i] += added.values[i];
  }
  return later;
}

namespace {

// Factor of the noise that brings the innovation to the gate, by its prediction's covariance P; 1
// within the gate.
//
// Chang 2014, "Robust Kalman filtering based on Mahalanobis distance as outlier judging
// criterion", section 3: Newton's method, here on the inverse of the squared distance. That is
// almost linear in the factor, and concave: steps come from below.
double factor_to_gate(const Matrix<6, 1>& innovation, const Matrix<12, 12>& P,
                      const Matrix<6, 6>& noise, double gate) {
  double factor = 1;
  for (int step = 0; step < 20; ++step) {
    Matrix<6, 1> whitened = innovation;
    Matrix<6, 6> S;
    for (Index i = 0; i < 6; ++i)
      for (Index j = 0; j < 6; ++j) S(i, j) = P(i, j) + factor * noise(i, j);
    eliminate(S, whitened);
    double distance_sq = 0, slope = 0;
    for (Index i = 0; i < 6; ++i) {
      distance_sq += innovation(i, 0) * whitened(i, 0);
      for (Index j = 0; j < 6; ++j) slope += whitened(i, 0) * noise(i, j) * whitened(j, 0);
    }
    const double excess = distance_sq / gate - 1;
    if (excess <= 1e-3) break;
    factor += excess * distance_sq / slope;
  }
  return factor;
}

}  // namespace

// The measurement's error d acts on the measured rotation. In the innovation, to first order in d,
// it is J_l^-1 d: log(exp(d) exp(innovation)) = innovation + J_l^-1 d.
FACE_POSE_WIDE
bool correct(const PoseState& state, const Matrix<4, 4>& T_measured,
             const Matrix<6, 6>& covariance, double correlated_share, double gate,
             PoseState& corrected, Matrix<6, 6>& of_pose) {
  corrected.stamp_s = state.stamp_s;
  const Matrix<4, 4>& T = state.T_cam_head;
  const Matrix<12, 12>& P = state.covariance;
  Matrix<6, 1> innovation{};
  Matrix<3, 3> turn{};
  for (Index i = 0; i < 3; ++i) {
    innovation(i, 0) = T_measured(i, 3) - T(i, 3);
    for (Index j = 0; j < 3; ++j)
      for (Index k = 0; k < 3; ++k) turn(i, j) += T_measured(i, k) * T(j, k);
  }
  const Vector<3> omega = rotation_log(turn);
  const Matrix<3, 3> J_inv = inverse_3x3(left_jacobian(omega));
  Matrix<6, 6> of_error{};
  for (Index i = 0; i < 3; ++i) {
    innovation(3 + i, 0) = omega[i];
    of_error(i, i) = 1;
    for (Index j = 0; j < 3; ++j) of_error(3 + i, 3 + j) = J_inv(i, j);
  }
  Matrix<6, 6> noise = congruent(of_error, covariance);
  for (double& value : noise.values) value *= 1 - correlated_share;
  const double factor = factor_to_gate(innovation, P, noise, gate);
  Matrix<6, 6> S;
  Matrix<6, 12> gain_T;
  for (Index i = 0; i < 6; ++i) {
    for (Index j = 0; j < 6; ++j) {
      noise(i, j) *= factor;
      S(i, j) = P(i, j) + noise(i, j);
    }
    for (Index j = 0; j < 12; ++j) gain_T(i, j) = P(i, j);
  }
  eliminate(S, gain_T);
  Vector<12> error{};
  Matrix<12, 6> gain;
  Matrix<12, 12> A{};
  for (Index i = 0; i < 12; ++i) {
    A(i, i) = 1;
    for (Index j = 0; j < 6; ++j) {
      gain(i, j) = gain_T(j, i);
      A(i, j) -= gain(i, j);
      error[i] += gain(i, j) * innovation(j, 0);
    }
  }
  // Joseph's form stays symmetric and positive definite whatever the rounding.
  Matrix<12, 12> joseph = congruent(A, P);
  const Matrix<12, 12> of_noise = congruent(gain, noise);
  for (Index i = 0; i < 144; ++i) joseph.values[i] += of_noise.values[i];
  // The error is counted from the corrected rotation from here on.
  const Matrix<3, 3> J = left_jacobian(Vector<3>{error[3], error[4], error[5]});
  Matrix<12, 12> reset{};
  for (Index i = 0; i < 12; ++i) reset(i, i) = 1;
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 3; ++j) reset(3 + i, 3 + j) = J(i, j);
  corrected.covariance = congruent(reset, joseph);
  move_pose(T, error, corrected.T_cam_head);
  for (Index i = 0; i < 6; ++i) {
    corrected.velocity[i] = state.velocity[i] + error[6 + i];
    for (Index j = 0; j < 6; ++j)
      of_pose(i, j) = corrected.covariance(i, j) + correlated_share * covariance(i, j);
  }
  return factor > 1;
}

PoseFilter::PoseFilter(const Matrix<4, 4>& T_cam_head, const Matrix<6, 6>& covariance,
                       double stamp_s, const FilterOptions& options)
    : options(options), state(started(T_cam_head, covariance, stamp_s, options)) {}

void PoseFilter::shift(const Vector<6>& delta) {
  move_pose(state.T_cam_head, delta, state.T_cam_head);
}

Matrix<6, 6> PoseFilter::update(const Matrix<4, 4>& T_cam_head, const Matrix<6, 6>& covariance,
                                double stamp_s) {
  const double gap_s = stamp_s - state.stamp_s;
  Matrix<6, 6> of_pose = covariance;
  if (0 <= gap_s && gap_s <= options.max_gap_s) {
    const bool is_outlier = correct(predict(state, stamp_s, options), T_cam_head, covariance,
                                    options.correlated_noise_share, GATE, state, of_pose);
    outliers = is_outlier ? outliers + 1 : 0;
  } else {
    outliers = RESTART_AFTER;
  }
  if (outliers < RESTART_AFTER) return of_pose;
  state = started(T_cam_head, covariance, stamp_s, options);
  outliers = 0;
  return covariance;
}

}  // namespace face_pose
