// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Error-state Kalman filter of the pose of one head, with constant velocity.
//
// The state is the pose T_cam_head and its velocity (v, omega) along and about the camera's axes.
// The error has 12 numbers, in this order: dt [m], dtheta [rad], dv [m/s], domega [rad/s], with
//
//     t_true = t + dt,  R_true = exp(dtheta) R,  v_true = v + dv,  omega_true = omega + domega.
//
// Between images R(s) = exp(omega s) R and t(s) = t + v s; white noise drives both velocities
// (Bar-Shalom, Li, Kirubarajan 2001, "Estimation with applications", eq. 6.2.2-12). Retraction and
// reset as in Sola 2017, "Quaternion kinematics for the error-state Kalman filter", sections 6-7.
#pragma once

#include "arrays.hpp"

namespace face_pose {

// As `options.FilterOptions`.
struct FilterOptions {
  double acceleration_noise, angular_acceleration_noise, correlated_noise_share, max_gap_s;
};

// State of the filter at one stamp.
struct PoseState {
  Matrix<4, 4> T_cam_head;    // m
  Vector<6> velocity;         // m/s and rad/s along and about the camera's axes
  Matrix<12, 12> covariance;  // of the error described above
  double stamp_s;
};

// One measurement in ten thousand is this far from its prediction, in squared standard deviations:
// chi^2 with 6 degrees of freedom.
constexpr double GATE = 27.856;

// The state at a later stamp [s].
//
// The prediction moves for `max_gap_s` at most, and is constant after that.
PoseState predict(const PoseState& state, double stamp_s, const FilterOptions& options);

// The state after a measurement of the pose, of which a share of the covariance is not averaged
// out: `corrected` is without that share, of_pose, the covariance of the pose, with it. Returns
// whether the measurement was beyond the gate and brought to it.
bool correct(const PoseState& state, const Matrix<4, 4>& T_measured,
             const Matrix<6, 6>& covariance, double correlated_share, double gate,
             PoseState& corrected, Matrix<6, 6>& of_pose);

// Filters the pose of one head; the stamps of the measurements are its clock.
struct PoseFilter {
  // Starts from a measurement; arguments as in `update`.
  PoseFilter(const Matrix<4, 4>& T_cam_head, const Matrix<6, 6>& covariance, double stamp_s,
             const FilterOptions& options);

  // Moves the pose by delta (6,), after its reference shape has changed.
  void shift(const Vector<6>& delta);

  // Updates with a measured pose [m] and the covariance of its error (dt, omega). Returns the
  // covariance of the filtered pose, correlated noise included.
  //
  // The covariance of a measurement beyond the gate is enlarged until it lies on the gate, so that
  // its influence is bounded. Several in a row, a long gap or a step back in time restart the
  // filter. A stamp equal to the last one: no prediction.
  Matrix<6, 6> update(const Matrix<4, 4>& T_cam_head, const Matrix<6, 6>& covariance,
                      double stamp_s);

  FilterOptions options;
  PoseState state;
  int outliers = 0;  // in a row
};

}  // namespace face_pose
