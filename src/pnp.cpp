// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "pnp.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "linalg.hpp"
#include "rotations.hpp"

namespace face_pose {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();

constexpr int CANDIDATE_EIGENVECTORS = 3;  // a face is nearly planar: the true one may not be first
constexpr int CANDIDATES = 2 * CANDIDATE_EIGENVECTORS + 4;
constexpr int GAUSS_NEWTON_STEPS = 4;  // the refinement that follows does the rest
// Between the head's x axis and the rays: a face turned away by more than 120 deg has no keypoints
// that a camera could see. The mean shape sometimes fits another person's best from inside.
constexpr double MAX_COS_FORWARD = 0.5;
constexpr Index SAMPLE_SIZE = 6;      // keypoints of a hypothesis
constexpr double OUTLIER_SCALE = 3;   // of the residuals' robust standard deviation
// Median squared residual [sigma^2] above which outliers may have moved the solution of all. Two
// independent normal coordinates have 1.4; shapes that differ from the mean's bring up to ten.
constexpr double SUSPICIOUS = 20;
constexpr double NEXT_BEST = 16;  // ratio of the object-space costs up to which both are tried

using Rotation = Matrix<3, 3>;

// The cost as small matrices; the points are centred, so they are well conditioned.
struct Reduced {
  Matrix<9, 9> Omega{};     // the cost is r^T Omega r with row-major r = vec(R)
  Matrix<3, 9> t_of_r{};    // the best translation is t_of_r r
  Vector<9> depth_of_r{};   // the weighted mean depth along the rays is depth_of_r . r
  Vector<3> centre{};       // m, in the head frame
  Vector<3> ray{};          // weighted mean of the rays
};

// Of points (3, K), rays (3, K) and weights (K,).
inline Reduced reduce(const Buffer<double, 2>& xyz_head, const Buffer<double, 2>& rays,
                      const Buffer<double, 1>& weight) {
  Reduced found;
  double total = 1e-300;
  for (Index k = 0; k < weight.size(); ++k) {
    total += weight[k];
    for (Index i = 0; i < 3; ++i) found.centre[i] += weight[k] * xyz_head(i, k);
  }
  total = std::max(total, 1e-12);
  for (double& value : found.centre) value /= total;
  // With Q_i = w_i (I - f_i f_i^T) and R x = A r, A = kron(I, x^T):
  Matrix<3, 3> Q_sum{};
  Matrix<3, 9> QA{};
  for (Index k = 0; k < weight.size(); ++k) {
    const double w = weight[k] / total;
    if (w == 0) continue;
    Vector<3> x;
    for (Index i = 0; i < 3; ++i) {
      x[i] = xyz_head(i, k) - found.centre[i];
      found.ray[i] += w * rays(i, k);
    }
    for (Index a = 0; a < 3; ++a)
      for (Index b = 0; b < 3; ++b) {
        const double q = w * ((a == b ? 1 : 0) - rays(a, k) * rays(b, k));
        Q_sum(a, b) += q;
        found.depth_of_r[3 * a + b] += w * rays(a, k) * x[b];
        for (Index j = 0; j < 3; ++j) {
          QA(a, 3 * b + j) += q * x[j];
          for (Index i = 0; i < 3; ++i) found.Omega(3 * a + i, 3 * b + j) += q * x[j] * x[i];
        }
      }
  }
  for (Index a = 0; a < 3; ++a) Q_sum(a, a) += 1e-12;
  const Matrix<3, 3> inverse = inverse_3x3(Q_sum);
  for (Index i = 0; i < 3; ++i)
    for (Index a = 0; a < 9; ++a)
      for (Index j = 0; j < 3; ++j) found.t_of_r(i, a) -= inverse(i, j) * QA(j, a);
  for (Index a = 0; a < 9; ++a)
    for (Index i = 0; i < 3; ++i) {
      found.depth_of_r[a] += found.ray[i] * found.t_of_r(i, a);
      for (Index b = 0; b < 9; ++b) found.Omega(a, b) += QA(i, a) * found.t_of_r(i, b);
    }
  for (Index a = 0; a < 9; ++a)
    for (Index b = 0; b < a; ++b)
      found.Omega(a, b) = found.Omega(b, a) = 0.5 * (found.Omega(a, b) + found.Omega(b, a));
  return found;
}

// A rotation next to the matrix of a vector (Gram and Schmidt); the descent is exact.
inline Rotation orthonormal(const Matrix<9, 9>& vectors, Index row, double sign) {
  Rotation R;
  double norm_sq = 1e-30, along = 0;
  for (Index j = 0; j < 3; ++j) {
    R(0, j) = sign * vectors(row, j);
    R(1, j) = sign * vectors(row, 3 + j);
    norm_sq += R(0, j) * R(0, j);
  }
  for (Index j = 0; j < 3; ++j) {
    R(0, j) /= std::sqrt(norm_sq);
    along += R(0, j) * R(1, j);
  }
  norm_sq = 1e-30;
  for (Index j = 0; j < 3; ++j) {
    R(1, j) -= along * R(0, j);
    norm_sq += R(1, j) * R(1, j);
  }
  for (Index j = 0; j < 3; ++j) R(1, j) /= std::sqrt(norm_sq);
  for (Index j = 0; j < 3; ++j) {
    const Index a = (j + 1) % 3, b = (j + 2) % 3;
    R(2, j) = R(0, a) * R(1, b) - R(0, b) * R(1, a);
  }
  return R;
}

inline Vector<3> unit(const Vector<3>& v) {
  const double norm = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
  return {v[0] / norm, v[1] / norm, v[2] / norm};
}

// The rotation of a face with its x axis along -ray, rolled by some quarters of a turn.
//
// The mean shape on another person's keypoints may have a minimum that no eigenvector leads to.
inline Rotation facing(const Vector<3>& ray, Index quarters) {
  const Vector<3> towards = unit(ray), x{-towards[0], -towards[1], -towards[2]};
  // The person's left is on the picture's right; a fisheye's ray may be that direction itself.
  Vector<3> y = std::abs(x[0]) > 0.9
                    ? unit({-x[2] * x[0], -x[2] * x[1], 1 - x[2] * x[2]})
                    : unit({1 - x[0] * x[0], -x[0] * x[1], -x[0] * x[2]});
  Vector<3> z{x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]};
  for (Index quarter = 0; quarter < quarters; ++quarter) {
    const Vector<3> opposite{-y[0], -y[1], -y[2]};
    y = z;
    z = opposite;
  }
  return {{x[0], y[0], z[0], x[1], y[1], z[1], x[2], y[2], z[2]}};
}

// One step on min r^T Omega r over R <- exp(delta) R, in place.
inline void gauss_newton_step(const Matrix<9, 9>& Omega, Rotation& R) {
  Matrix<3, 9> B{};  // row i is vec(hat(e_i) R)
  for (Index j = 0; j < 3; ++j) {
    B(0, 3 + j) = -R(2, j);
    B(0, 6 + j) = R(1, j);
    B(1, j) = R(2, j);
    B(1, 6 + j) = -R(0, j);
    B(2, j) = -R(1, j);
    B(2, 3 + j) = R(0, j);
  }
  const Matrix<3, 9> BOmega = multiply(B, Omega);
  Matrix<3, 3> H{};
  Vector<3> g{};
  for (Index i = 0; i < 3; ++i)
    for (Index b = 0; b < 9; ++b) {
      g[i] += BOmega(i, b) * R.values[b];
      for (Index j = 0; j < 3; ++j) H(i, j) += BOmega(i, b) * B(j, b);
    }
  const double damping = 1e-9 * (H(0, 0) + H(1, 1) + H(2, 2)) + 1e-30;
  for (Index i = 0; i < 3; ++i) H(i, i) += damping;
  const Matrix<3, 3> inverse = inverse_3x3(H);
  Vector<3> delta{};
  double norm_sq = 0;
  for (Index i = 0; i < 3; ++i) {
    for (Index j = 0; j < 3; ++j) delta[i] -= inverse(i, j) * g[j];
    norm_sq += delta[i] * delta[i];
  }
  // A step beyond a radian means a saddle, where the quadratic model does not hold.
  if (norm_sq > 1)
    for (double& value : delta) value /= std::sqrt(norm_sq);
  R = multiply(rotation_exp(delta), R);
}

inline Pose pose(const Rotation& R, const Reduced& reduced) {
  Pose T{};
  for (Index i = 0; i < 3; ++i) {
    for (Index a = 0; a < 9; ++a) T(i, 3) += reduced.t_of_r(i, a) * R.values[a];
    for (Index j = 0; j < 3; ++j) {
      T(i, j) = R(i, j);
      T(i, 3) -= R(i, j) * reduced.centre[j];
    }
  }
  return T;
}

// The poses of least object-space cost and of the next minimum; identity if there is none.
//
// Both are in front of the camera and face it, if any do.
FACE_POSE_WIDE std::array<Pose, 2> solve(const Buffer<double, 2>& xyz_head,
                                         const Buffer<double, 2>& rays,
                                         const Buffer<double, 1>& weight) {
  const Reduced reduced = reduce(xyz_head, rays, weight);
  double total = 0;
  for (double value : reduced.Omega.values) total += value;
  if (!(std::abs(total) < INFINITE)) {
    const Pose identity{{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}};
    return {identity, identity};
  }
  Vector<9> values;
  Matrix<9, 9> vectors, spent = reduced.Omega;
  symmetric_eigen(spent, values, vectors);
  std::array<Rotation, CANDIDATES> R;
  std::array<double, CANDIDATES> cost;
  Index best = 0;
  for (Index m = 0; m < CANDIDATES; ++m) {
    R[m] = m < 2 * CANDIDATE_EIGENVECTORS ? orthonormal(vectors, m / 2, 1 - 2 * (m % 2))
                                          : facing(reduced.ray, m - 2 * CANDIDATE_EIGENVECTORS);
    for (int step = 0; step < GAUSS_NEWTON_STEPS; ++step) gauss_newton_step(reduced.Omega, R[m]);
    double depth = 0, value = 0, forward = 0;
    for (Index a = 0; a < 9; ++a) {
      depth += reduced.depth_of_r[a] * R[m].values[a];
      for (Index b = 0; b < 9; ++b)
        value += R[m].values[a] * reduced.Omega(a, b) * R[m].values[b];
    }
    for (Index i = 0; i < 3; ++i) forward += R[m](i, 0) * reduced.ray[i];
    cost[m] = depth > 0 && forward <= MAX_COS_FORWARD ? value : INFINITE;
    if (cost[m] < cost[best]) best = m;
  }
  // A minimum far above the other one is none of the keypoints'.
  Index next_best = best;
  double least = NEXT_BEST * cost[best];
  for (Index m = 0; m < CANDIDATES; ++m) {
    double trace = 0;
    for (Index a = 0; a < 9; ++a) trace += R[m].values[a] * R[best].values[a];
    if (trace <= MAX_TRACE_APART && cost[m] < least) {
      next_best = m;
      least = cost[m];
    }
  }
  return {pose(R[best], reduced), pose(R[next_best], reduced)};
}

// A point x in the camera frame.
inline Vector<3> transformed(const Pose& T, const Buffer<double, 2>& x, Index k) {
  Vector<3> p;
  for (Index i = 0; i < 3; ++i)
    p[i] = T(i, 0) * x(0, k) + T(i, 1) * x(1, k) + T(i, 2) * x(2, k) + T(i, 3);
  return p;
}

inline double along_ray(const Buffer<double, 2>& rays, const Vector<3>& p, Index k) {
  return rays(0, k) * p[0] + rays(1, k) * p[1] + rays(2, k) * p[2];
}

// Median squared whitened residual of the measured keypoints [sigma^2].
double median_residual(const Pose& T, const Buffer<double, 2>& xyz_head, const Measured& measured,
                       Buffer<double, 1>& squared) {
  Index count = 0;
  for (Index k = 0; k < measured.count(); ++k) {
    if (measured.weight[k] == 0) continue;
    const Vector<3> p = transformed(T, xyz_head, k);
    const double depth = along_ray(measured.rays, p, k);
    double s = 0;
    for (Index row = 0; row < 2; ++row) {
      double residual = 0;
      for (Index i = 0; i < 3; ++i) residual += measured.A(row, i, k) * p[i];
      s += residual * residual / (depth * depth);
    }
    squared[count++] = depth > 0 ? s : INFINITE;
  }
  return lower_median(squared, count);
}

// Median over the measured keypoints of the squared sine between points and their rays.
//
// All of them are left in work.error (K,).
double median_sine(const Pose& T, const Buffer<double, 2>& xyz_head, const Measured& measured,
                   PnpWork& work) {
  Index count = 0;
  for (Index k = 0; k < measured.count(); ++k) {
    const Vector<3> p = transformed(T, xyz_head, k);
    const double along = along_ray(measured.rays, p, k);
    const double norm_sq = std::max(p[0] * p[0] + p[1] * p[1] + p[2] * p[2], 1e-18);
    work.error[k] = along > 0 ? std::max(1 - along * along / norm_sq, 0.) : 1;
    if (measured.weight[k] > 0) work.sorted_error[count++] = work.error[k];
  }
  return lower_median(work.sorted_error, count);
}

}  // namespace

std::array<Pose, 2> solve_pnp(const Buffer<double, 2>& xyz_head, const Measured& measured,
                              View<const std::int64_t, 2> order, PnpWork& work) {
  const Buffer<double, 1>& weight = measured.weight;
  const Index count = weight.size();
  std::array<Pose, 2> poses = solve(xyz_head, measured.rays, weight);
  if (median_residual(poses[0], xyz_head, measured, work.sorted_error) < SUSPICIOUS) return poses;
  double best = median_sine(poses[0], xyz_head, measured, work);
  for (Index row = 0; row < order.rows(); ++row) {
    Index chosen = 0;
    std::fill(work.sample.begin(), work.sample.end(), 0);
    for (Index rank = 0; rank < count && chosen < SAMPLE_SIZE; ++rank) {
      const Index k = order(row, rank);
      if (weight[k] > 0) {
        work.sample[k] = weight[k];
        ++chosen;
      }
    }
    const Pose tried = solve(xyz_head, measured.rays, work.sample)[0];
    const double median = median_sine(tried, xyz_head, measured, work);
    if (median < best) {
      best = median;
      poses[0] = tried;
    }
  }
  median_sine(poses[0], xyz_head, measured, work);
  const double variance = std::max(best / NORMAL_MEDIAN, 1e-18);
  for (Index k = 0; k < count; ++k) {
    const double inv = 1 / (1 + work.error[k] / (variance * OUTLIER_SCALE * OUTLIER_SCALE));
    work.sample[k] = weight[k] * inv * inv;
  }
  const std::array<Pose, 2> tried = solve(xyz_head, measured.rays, work.sample);
  // A sample may agree by chance with half of the others: then its inliers need not.
  if (median_sine(tried[0], xyz_head, measured, work) < best)
    poses = tried;
  else
    poses[1] = tried[0];
  return poses;
}

}  // namespace face_pose
