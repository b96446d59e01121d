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
#include <cmath>

#include "linalg.hpp"
#include "numpy.hpp"
#include "rotations.hpp"

namespace face_pose {

namespace {

struct State {
  Matrix<4, 4> T_cam_head;
  Vector<6> velocity;
  Matrix<12, 12> covariance;
};

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

// The state after a time dt.
FACE_POSE_WIDE
void predict(const State& state, double dt, double acceleration_noise,
             double angular_acceleration_noise, State& later) {
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
    const double sigma = k < 3 ? acceleration_noise : angular_acceleration_noise;
    noise(k, k) = 0.5 * dt * sigma * sigma;
  }
  for (double part : {0.5 - half, 0.5 + half}) {
    const Matrix<12, 12> added = congruent(effect_of_velocity(motion, dt, part), noise);
    for (Index i = 0; i < 144; ++i) later.covariance.values[i] += added.values[i];
  }
}

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

// The state after a measurement of the pose, of which a share of the covariance is not averaged
// out: `corrected` is without that share, of_pose, the covariance of the pose, with it. Returns
// whether the measurement was beyond the gate and brought to it.
//
// The measurement's error d acts on the measured rotation. In the innovation, to first order in d,
// it is J_l^-1 d: log(exp(d) exp(innovation)) = innovation + J_l^-1 d.
FACE_POSE_WIDE
bool correct(const State& state, const Matrix<4, 4>& T_measured, const Matrix<6, 6>& covariance,
             double correlated_share, double gate, State& corrected, Matrix<6, 6>& of_pose) {
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

State state_of(const Array<double>& T_cam_head, const Array<double>& velocity,
               const Array<double>& covariance) {
  return {matrix<4, 4>(T_cam_head), vector<6>(velocity), matrix<12, 12>(covariance)};
}

}  // namespace

void bind_filter(py::module_& m) {
  m.def(
      "move_pose",
      [](const Array<double>& T, const Array<double>& delta) {
        Matrix<4, 4> moved;
        move_pose(matrix<4, 4>(T), vector<6>(delta), moved);
        return array_of(moved);
      },
      "T"_a, "delta"_a);
  m.def(
      "predict_pose",
      [](const Array<double>& T_cam_head, const Array<double>& velocity,
         const Array<double>& covariance, double dt, double acceleration_noise,
         double angular_acceleration_noise) {
        State later;
        predict(state_of(T_cam_head, velocity, covariance), dt, acceleration_noise,
                angular_acceleration_noise, later);
        return py::make_tuple(array_of(later.T_cam_head), array_of(later.covariance));
      },
      "T_cam_head"_a, "velocity"_a, "covariance"_a, "dt"_a, "acceleration_noise"_a,
      "angular_acceleration_noise"_a);
  m.def(
      "correct_pose",
      [](const Array<double>& T_cam_head, const Array<double>& velocity,
         const Array<double>& covariance, const Array<double>& T_measured,
         const Array<double>& covariance_measured, double correlated_share, double gate) {
        State corrected;
        Matrix<6, 6> of_pose;
        const bool is_outlier =
            correct(state_of(T_cam_head, velocity, covariance), matrix<4, 4>(T_measured),
                    matrix<6, 6>(covariance_measured), correlated_share, gate, corrected, of_pose);
        return py::make_tuple(array_of(corrected.T_cam_head), array_of(corrected.velocity),
                              array_of(corrected.covariance), array_of(of_pose), is_outlier);
      },
      "T_cam_head"_a, "velocity"_a, "covariance"_a, "T_measured"_a, "covariance_measured"_a,
      "correlated_share"_a, "gate"_a);
}

}  // namespace face_pose
