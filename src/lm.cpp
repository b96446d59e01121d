// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "lm.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rotations.hpp"

namespace face_pose {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();

// A point further than 84 deg from its ray has no residual. It costs as much as one this many
// standard deviations off: the number of terms never changes, so costs stay comparable.
constexpr double MIN_COS = 0.1;
constexpr double INVALID_SIGMAS = 1e3;

constexpr double TOLERATED_SPREAD = 2;  // of the residuals [sigma] before the kernel becomes wider

// Of the search for the offset common to all ranges.
constexpr int OFFSET_ROUNDS = 10;
constexpr double OFFSET_TOLERANCE_M = 1e-7;

constexpr double DAMPING_START = 1e-4, DAMPING_MIN = 1e-12, DAMPING_MAX = 1e8;

// The loops below have one restricted pointer for each row, so that the compiler vectorises them.

// R x of the points x (3, K).
inline void turn(const Pose& T, const Buffer<double, 2>& x, Buffer<double, 2>& Rx) {
  const double* __restrict x0 = &x(0, 0);
  const double* __restrict x1 = &x(1, 0);
  const double* __restrict x2 = &x(2, 0);
  for (Index i = 0; i < 3; ++i) {
    double* __restrict row = &Rx(i, 0);
    for (Index k = 0; k < x.columns(); ++k)
      row[k] = T(i, 0) * x0[k] + T(i, 1) * x1[k] + T(i, 2) * x2[k];
  }
}

// Rows 6 and after of J: derivatives by the modes, from those by the points in x (3, K).
inline void by_modes(const Points& points, const Buffer<double, 2>& x, Buffer<double, 2>& J) {
  const double* __restrict x0 = &x(0, 0);
  const double* __restrict x1 = &x(1, 0);
  const double* __restrict x2 = &x(2, 0);
  for (Index m = 0; m < points.modes.rows(); ++m) {
    const double* __restrict mode0 = &points.modes(m, 0, 0);
    const double* __restrict mode1 = &points.modes(m, 1, 0);
    const double* __restrict mode2 = &points.modes(m, 2, 0);
    double* __restrict row = &J(6 + m, 0);
    for (Index k = 0; k < x.columns(); ++k)
      row[k] = x0[k] * mode0[k] + x1[k] * mode1[k] + x2[k] * mode2[k];
  }
}

// Adds J J^T to H and J r to g, from the first `rows` of J and the row r that follows them.
//
// Tiles of 3 x 3 stay in registers, which makes this twice as fast as one sum after the other.
inline void add_gram(const Buffer<double, 2>& J, Index rows, Buffer<double, 2>& H,
                     Buffer<double, 1>& g) {
  const Index length = J.columns(), size_row = g.size() - 1;
  // Of the pose, the modes, the size; unknowns are ordered pose, size, modes.
  const auto unknown = [=](Index row) { return row < 6 ? row : row < size_row ? row + 1 : 6; };
  for (Index i = 0; i <= rows; i += 3) {
    const double *x = &J(i, 0), *y = &J(i + 1, 0), *z = &J(i + 2, 0);
    for (Index j = 0; j <= i; j += 3) {
      const double *u = &J(j, 0), *v = &J(j + 1, 0), *w = &J(j + 2, 0);
      double xu = 0, xv = 0, xw = 0, yu = 0, yv = 0, yw = 0, zu = 0, zv = 0, zw = 0;
      for (Index k = 0; k < length; ++k) {
        xu += x[k] * u[k];
        xv += x[k] * v[k];
        xw += x[k] * w[k];
        yu += y[k] * u[k];
        yv += y[k] * v[k];
        yw += y[k] * w[k];
        zu += z[k] * u[k];
        zv += z[k] * v[k];
        zw += z[k] * w[k];
      }
      const Matrix<3, 3> tile{{xu, xv, xw, yu, yv, yw, zu, zv, zw}};
      for (Index b = 0; b < 3 && j + b < rows; ++b)
        for (Index a = 0; a < 3 && i + a <= rows; ++a) {
          const Index p = unknown(i + a), q = unknown(j + b);
          if (i + a == rows)
            g[q] += tile(a, b);
          else if (i + a >= j + b)
            H(q, p) = H(p, q) += tile(a, b);
        }
    }
  }
}

inline double evaluate_keypoints(const Pose& T, View<const double, 1> c, const Measured& measured,
                                 const Points& points, const Cost& cost, Residuals& work) {
  deform(points, c, work.x);
  turn(T, work.x, work.Rx);
  const Index count = measured.count();
  const double* __restrict Rx0 = &work.Rx(0, 0);
  const double* __restrict Rx1 = &work.Rx(1, 0);
  const double* __restrict Rx2 = &work.Rx(2, 0);
  const double* __restrict ray0 = &measured.rays(0, 0);
  const double* __restrict ray1 = &measured.rays(1, 0);
  const double* __restrict ray2 = &measured.rays(2, 0);
  const double* __restrict A = measured.A.data();
  const double* __restrict was_measured = measured.weight.data();
  double* __restrict us = &work.residual(0, 0);
  double* __restrict vs = &work.residual(1, 0);
  double* __restrict inv_depths = work.inv_depth.data();
  // Without branches the loop is vectorised.
  for (Index k = 0; k < count; ++k) {
    const double p0 = Rx0[k] + T(0, 3), p1 = Rx1[k] + T(1, 3), p2 = Rx2[k] + T(2, 3);
    const double depth = ray0[k] * p0 + ray1[k] * p1 + ray2[k] * p2;
    const bool near = depth > MIN_COS * std::sqrt(p0 * p0 + p1 * p1 + p2 * p2);
    const bool seen = was_measured[k] > 0;
    const double inv_depth = near ? 1 / depth : 0;
    const double far = near ? 0 : INVALID_SIGMAS;
    const double u = A[k] * p0 + A[count + k] * p1 + A[2 * count + k] * p2;
    const double v = A[3 * count + k] * p0 + A[4 * count + k] * p1 + A[5 * count + k] * p2;
    us[k] = seen ? u * inv_depth + far : 0;
    vs[k] = seen ? v * inv_depth + far : 0;
    inv_depths[k] = seen ? inv_depth : 0;
  }
  double* __restrict weight = work.weight.data();
  double* __restrict slope = work.slope.data();
  double total = 0;
  for (Index k = 0; k < count; ++k) {
    const Robust robust =
        robust_kernel(cost.kernel, cost.scale, us[k] * us[k] + vs[k] * vs[k]);
    const bool seen = was_measured[k] > 0;
    total += robust.rho;  // 0 where nothing was measured
    weight[k] = seen ? robust.weight : 0;
    slope[k] = seen ? robust.slope : 0;
  }
  return cost.information * total;
}

inline double evaluate_ranges(const Pose& T, View<const double, 1> c, const Ranges& ranges,
                              Residuals& work) {
  deform(ranges.points, c, work.x);
  turn(T, work.x, work.Rx);
  const double size = 1 + ranges.size_sigma * c[0];
  const Index count = ranges.rho.size();
  for (Index k = 0; k < count; ++k) {
    double along = 0;
    for (Index i = 0; i < 3; ++i) along += ranges.a(i, k) * (work.Rx(i, k) + T(i, 3));
    work.along[k] = size * along;
  }
  // The common offset that costs least, by iteratively reweighted least squares.
  double total = 0;
  work.offset = 0;
  for (int round = 1;; ++round) {
    double pull = 0, precision = 1 / ranges.common_variance;
    total = work.offset * work.offset * precision;
    for (Index k = 0; k < count; ++k) {
      const double inv_sigma = ranges.inv_sigma[k];
      const double residual = work.along[k] + work.offset * inv_sigma - ranges.rho[k];
      const Robust robust = robust_kernel(RANGE_KERNEL, RANGE_KERNEL_SCALE, residual * residual);
      const bool measured = inv_sigma > 0;
      total += ranges.information * robust.rho;
      work.residual(0, k) = residual;
      work.weight[k] = measured ? robust.weight : 0;
      work.slope[k] = measured ? robust.slope : 0;
      pull += ranges.information * work.weight[k] * inv_sigma * (work.along[k] - ranges.rho[k]);
      precision += ranges.information * work.weight[k] * inv_sigma * inv_sigma;
    }
    work.offset_precision = precision;
    const double next = -pull / precision;
    if (round == OFFSET_ROUNDS || std::abs(next - work.offset) < OFFSET_TOLERANCE_M) break;
    work.offset = next;
  }
  return total;
}

// Adds to H and g.
inline void linearise_keypoints(const Pose& T, const Measured& measured, const Points& points,
                                const Cost& cost, Residuals& work, Buffer<double, 2>& H,
                                Buffer<double, 1>& g) {
  const Index count = measured.count(), rows = 6 + points.modes.rows();
  const double* __restrict Rx0 = &work.Rx(0, 0);
  const double* __restrict Rx1 = &work.Rx(1, 0);
  const double* __restrict Rx2 = &work.Rx(2, 0);
  const double* __restrict ray0 = &measured.rays(0, 0);
  const double* __restrict ray1 = &measured.rays(1, 0);
  const double* __restrict ray2 = &measured.rays(2, 0);
  const double* __restrict weight = work.weight.data();
  const double* __restrict inv_depth = work.inv_depth.data();
  double* __restrict x0 = &work.x(0, 0);
  double* __restrict x1 = &work.x(1, 0);
  double* __restrict x2 = &work.x(2, 0);
  double* __restrict J0 = &work.J(0, 0);
  double* __restrict J1 = &work.J(1, 0);
  double* __restrict J2 = &work.J(2, 0);
  double* __restrict J3 = &work.J(3, 0);
  double* __restrict J4 = &work.J(4, 0);
  double* __restrict J5 = &work.J(5, 0);
  double* __restrict r = &work.J(rows, 0);
  for (Index axis = 0; axis < 2; ++axis) {
    const double* __restrict A0 = &measured.A(axis, 0, 0);
    const double* __restrict A1 = &measured.A(axis, 1, 0);
    const double* __restrict A2 = &measured.A(axis, 2, 0);
    const double* __restrict residual = &work.residual(axis, 0);
    for (Index k = 0; k < count; ++k) {
      const double root = std::sqrt(cost.information * weight[k]), scale = root * inv_depth[k];
      const double a = (A0[k] - residual[k] * ray0[k]) * scale;
      const double b = (A1[k] - residual[k] * ray1[k]) * scale;
      const double d = (A2[k] - residual[k] * ray2[k]) * scale;
      J0[k] = a;
      J1[k] = b;
      J2[k] = d;
      // d(exp(omega) R x) / d omega = -hat(R x): a row times it is a cross product.
      J3[k] = Rx1[k] * d - Rx2[k] * b;
      J4[k] = Rx2[k] * a - Rx0[k] * d;
      J5[k] = Rx0[k] * b - Rx1[k] * a;
      r[k] = root * residual[k];
      x0[k] = a * T(0, 0) + b * T(1, 0) + d * T(2, 0);
      x1[k] = a * T(0, 1) + b * T(1, 1) + d * T(2, 1);
      x2[k] = a * T(0, 2) + b * T(1, 2) + d * T(2, 2);
    }
    by_modes(points, work.x, work.J);
    add_gram(work.J, rows, H, g);
  }
}

// Adds to H and g.
inline void linearise_ranges(const Pose& T, View<const double, 1> c, const Ranges& ranges,
                             Residuals& work, Buffer<double, 2>& H, Buffer<double, 1>& g) {
  const double size = 1 + ranges.size_sigma * c[0];
  const Index of_size = 5 + c.size(), rows = of_size + 1;
  const Index count = ranges.rho.size();
  Buffer<double, 2>&J = work.J, &Rx = work.Rx;
  for (Index k = 0; k < count; ++k) {
    const double root = std::sqrt(ranges.information * work.weight[k]), scale = root * size;
    const double u = scale * ranges.a(0, k), v = scale * ranges.a(1, k);
    const double w = scale * ranges.a(2, k);
    J(0, k) = u;
    J(1, k) = v;
    J(2, k) = w;
    J(3, k) = Rx(1, k) * w - Rx(2, k) * v;
    J(4, k) = Rx(2, k) * u - Rx(0, k) * w;
    J(5, k) = Rx(0, k) * v - Rx(1, k) * u;
    J(of_size, k) = root * ranges.size_sigma / size * work.along[k];
    J(rows, k) = root * work.residual(0, k);
    for (Index j = 0; j < 3; ++j) work.x(j, k) = u * T(0, j) + v * T(1, j) + w * T(2, j);
  }
  by_modes(ranges.points, work.x, J);
  add_gram(J, rows, H, g);
  // Less what the offset explains; g already has the residuals of the best offset.
  for (Index i = 0; i < rows; ++i) {
    double total = 0;
    for (Index k = 0; k < count; ++k)
      total += J(i, k) * std::sqrt(ranges.information * work.weight[k]) * ranges.inv_sigma[k];
    work.by_offset[i < 6 ? i : i < of_size ? i + 1 : 6] = total;
  }
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < rows; ++j)
      H(i, j) -= work.by_offset[i] * work.by_offset[j] / work.offset_precision;
}

// Replaces b by A^-1 b; false if A is not positive definite. A symmetric A is overwritten.
//
// Elimination without pivots: the inner loop runs along rows, which a Cholesky factor's does not.
inline bool solve_positive(Buffer<double, 2>& A, Buffer<double, 1>& b) {
  const Index n = b.size();
  for (Index i = 0; i < n; ++i) {
    const double* __restrict row = &A(i, 0);
    if (!(row[i] > 0)) return false;
    const double inv = 1 / row[i];
    for (Index j = i + 1; j < n; ++j) {
      const double factor = row[j] * inv;
      double* __restrict below = &A(j, 0);
      // Whole vectors; what is left of the diagonal is not used any more.
      for (Index k = j / 4 * 4; k < n; ++k) below[k] -= factor * row[k];
      b[j] -= factor * b[i];
    }
  }
  for (Index i = n - 1; i >= 0; --i) {
    for (Index j = i + 1; j < n; ++j) b[i] -= A(i, j) * b[j];
    b[i] /= A(i, i);
  }
  return true;
}

// T and c moved by a step (6 + C,).
inline void move(const Pose& T, View<const double, 1> c, const Buffer<double, 1>& step,
                 Pose& T_new, Buffer<double, 1>& c_new) {
  const Matrix<3, 3> turned = rotation_exp(Vector<3>{step[3], step[4], step[5]});
  for (Index i = 0; i < 3; ++i) {
    for (Index j = 0; j < 3; ++j)
      T_new(i, j) = turned(i, 0) * T(0, j) + turned(i, 1) * T(1, j) + turned(i, 2) * T(2, j);
    T_new(i, 3) = T(i, 3) + step[i];
  }
  for (Index m = 0; m < c.size(); ++m) c_new[m] = c[m] + step[6 + m];
}

inline bool is_small(const Buffer<double, 1>& step, const Pose& T, double tolerance) {
  double dt_sq = 0, omega_sq = 0, t_sq = 0;
  for (Index i = 0; i < 3; ++i) {
    dt_sq += step[i] * step[i];
    omega_sq += step[3 + i] * step[3 + i];
    t_sq += T(i, 3) * T(i, 3);
  }
  bool small = dt_sq < tolerance * tolerance * t_sq && omega_sq < tolerance * tolerance;
  for (Index i = 6; i < step.size(); ++i) small = small && std::abs(step[i]) < tolerance;
  return small;
}

inline Efficiency observed_efficiency(const Residuals& keypoints) {
  double total = 0, gradient = 0, curvature = 0;
  for (Index k = 0; k < keypoints.weight.size(); ++k) {
    const double u = keypoints.residual(0, k), v = keypoints.residual(1, k), s = u * u + v * v;
    const double weight = keypoints.weight[k];
    total += weight;
    gradient += weight * weight * s;
    curvature += weight + s * keypoints.slope[k];
  }
  total = std::max(total, 1e-12);
  // Six of the numbers are fitted.
  const double redundancy = 2 * total / std::max(2 * total - 6, 1.);
  return {0.5 * gradient / total * redundancy, curvature / total};
}

}  // namespace

FACE_POSE_WIDE double evaluate(const Pose& T, View<const double, 1> c, const Measured& measured,
                               const Points& points, const Ranges* ranges, const Prior& prior,
                               const Cost& cost, Work& work) {
  double total = evaluate_keypoints(T, c, measured, points, cost, work.keypoints);
  if (ranges) total += evaluate_ranges(T, c, *ranges, work.ranges);
  for (Index i = 0; i < c.size(); ++i)
    for (Index j = 0; j < c.size(); ++j)
      total += (c[i] - prior.mean[i]) * prior.information(i, j) * (c[j] - prior.mean[j]);
  return 0.5 * total;
}

FACE_POSE_WIDE void linearise(const Pose& T, View<const double, 1> c, const Measured& measured,
                              const Points& points, const Ranges* ranges, const Prior& prior,
                              const Cost& cost, Work& work) {
  std::fill(work.H.begin(), work.H.end(), 0);
  std::fill(work.g.begin(), work.g.end(), 0);
  linearise_keypoints(T, measured, points, cost, work.keypoints, work.H, work.g);
  if (ranges) {
    std::fill(work.H_ranges.begin(), work.H_ranges.end(), 0);
    linearise_ranges(T, c, *ranges, work.ranges, work.H_ranges, work.g);
    for (Index i = 0; i < work.H.size(); ++i) work.H.data()[i] += work.H_ranges.data()[i];
  }
  for (Index i = 0; i < c.size(); ++i)
    for (Index j = 0; j < c.size(); ++j)
      work.g[6 + i] += prior.information(i, j) * (c[j] - prior.mean[j]);
}

FACE_POSE_WIDE Descent minimise(Pose& T, View<double, 1> c, const Measured& measured,
                                const Points& points, const Ranges* ranges, const Prior& prior,
                                const Cost& cost, const Tolerances& tolerances, double curvature,
                                Work& work) {
  const Index unknowns = 6 + c.size();
  Pose T_new{};
  double value = evaluate(T, c, measured, points, ranges, prior, cost, work);
  const int limit = std::abs(value) < INFINITE ? tolerances.max_iterations : 0;
  double damping = DAMPING_START;
  Stop stop = Stop::max_iterations;
  int tried = 0;
  bool accept = true, stale = true;
  while (tried < limit) {
    ++tried;
    if (stale) linearise(T, c, measured, points, ranges, prior, cost, work);
    stale = false;
    // (A + damping diag A) step = -g with A = curvature H + P (Marquardt 1963)
    for (Index i = 0; i < unknowns; ++i) {
      for (Index j = 0; j < unknowns; ++j) work.damped(i, j) = curvature * work.H(i, j);
      for (Index j = 6; i >= 6 && j < unknowns; ++j)
        work.damped(i, j) += prior.information(i - 6, j - 6);
      work.damped(i, i) += damping * work.damped(i, i) + 1e-12;
      work.step[i] = -work.g[i];
    }
    if (!solve_positive(work.damped, work.step))
      std::fill(work.step.begin(), work.step.end(), 0);
    move(T, c, work.step, T_new, work.c_new);
    const double value_new =
        evaluate(T_new, work.c_new, measured, points, ranges, prior, cost, work);
    accept = value_new <= value;
    const bool converged = is_small(work.step, T, tolerances.step) ||
                           (accept && value - value_new < tolerances.cost * value);
    if (accept) {
      T = T_new;
      std::copy(work.c_new.begin(), work.c_new.end(), c.begin());
      value = value_new;
      stale = true;
      damping = std::max(damping * 0.1, DAMPING_MIN);
    } else {
      damping *= 10;
    }
    if (converged || damping > DAMPING_MAX) {
      stop = converged ? Stop::converged : Stop::no_descent;
      break;
    }
  }
  if (!accept) value = evaluate(T, c, measured, points, ranges, prior, cost, work);
  // A converged face's last step is too small to change H.
  if (stop != Stop::converged)
    linearise(T, c, measured, points, ranges, prior, cost, work);
  return {value, tried, stop, observed_efficiency(work.keypoints)};
}

Efficiency range_efficiency(const Residuals& ranges) {
  double total = 0, gradient = 0, curvature = 0;
  for (Index k = 0; k < ranges.weight.size(); ++k) {
    const double s = ranges.residual(0, k) * ranges.residual(0, k), weight = ranges.weight[k];
    total += weight;
    gradient += weight * weight * s;
    curvature += weight + 2 * s * ranges.slope[k];
  }
  total = std::max(total, 1e-12);
  return {gradient / total, curvature / total};
}

double widened(const Pose& T, View<const double, 1> c, const Measured& measured,
               const Points& points, const Prior& prior, const Cost& cost, Work& work) {
  evaluate(T, c, measured, points, nullptr, prior, cost, work);
  Index count = 0;
  for (Index k = 0; k < measured.count(); ++k) {
    const double u = work.keypoints.residual(0, k), v = work.keypoints.residual(1, k);
    if (measured.weight[k] > 0) work.squared[count++] = u * u + v * v;
  }
  const double spread = std::sqrt(lower_median(work.squared, count) / NORMAL_MEDIAN);
  return cost.scale * std::max(spread / TOLERATED_SPREAD, 1.);
}

}  // namespace face_pose
