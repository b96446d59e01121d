// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// What the optimiser minimises, and Levenberg-Marquardt on it, one face at a time.
//
// A keypoint with pixel uv and covariance Sigma is a ray f with an uncertainty across it. With
// J = d uv / d xyz of the whole lens at f and L^T L = Sigma^-1, a head point p in the camera frame
// has the whitened residual
//
//     r = A p / (f . p),   A = L J,
//
// since p / (f . p) = f + delta with delta across f, A f = 0, and A delta = L d uv. Distortion is
// in J exactly, to first order in the noise; the loop that minimises never sees the lens again,
// and rays beyond 90 deg of a fisheye are like any other.
//
// The unknowns are the pose of a head of mean size and the C = 1 + M coefficients of its shape.
// The pose is perturbed on the left, R <- exp(omega) R and t <- t + dt; steps are ordered (dt,
// omega, dc), the first six in the order, axes and frame of a ROS covariance. The size, by its
// coefficient c_0, scales face and translation together and leaves the picture as it is: keypoints
// have no derivative by it. The modes follow it.
//
// A depth image measures the range rho along a ray f to the tangent plane of a surface point p with
// the normal n: p lies in the plane where n . p = rho n . f. The residual is the difference of
// ranges
//
//     r = (a . p + o - rho) / sigma,   a = n / (n . f),   p = s (R x + t),
//
// linear in p, because the normal is kept from where the depth image was read. The offset o is
// common to all ranges of a face; it takes the value that costs least, and H is Schur's complement.
//
// Points are laid out as (3, K), so that the inner loops run along memory.
#pragma once

#include "arrays.hpp"
#include "measured.hpp"
#include "robust.hpp"

namespace face_pose {

// Of the ranges' kernel [sigma]. It is Huber's: ranges that share their error would otherwise be
// given up together where the prior expects another size.
constexpr Kernel RANGE_KERNEL = Kernel::huber;
constexpr double RANGE_KERNEL_SCALE = 3;

// Why the optimiser stopped: `fit.StopReason`.
enum class Stop {
  converged,
  no_descent,
  max_iterations,
  too_few_keypoints,
  not_in_front,
  singular
};

// Measured ranges to N points of one face's surface; zeros where there is none.
struct Ranges {
  Ranges(const Points& surface, double size_sigma)
      : points(surface),
        size_sigma(size_sigma),
        a(3, surface.count()),
        rho(surface.count()),
        inv_sigma(surface.count()) {}

  const Points& points;    // N
  double size_sigma;       // relative standard deviation of the size over adults
  Buffer<double, 2> a;     // (3, N) whitened residual per metre
  Buffer<double, 1> rho;   // (N,) measured range, whitened
  Buffer<double, 1> inv_sigma;  // (N,) 1 / m
  double common_variance = 0;   // of an error that all ranges share, m^2
  double information = 0;       // factor by which the rest counts less: neighbours err alike
};

// Normal distribution of the shape.
struct Prior {
  View<const double, 1> mean;         // (C,)
  View<const double, 2> information;  // (C, C) inverse of the covariance
};

// How residuals count.
struct Cost {
  Kernel kernel;
  double scale;  // of the kernel [sigma]
  // Factor by which all keypoints count less, because their errors move together.
  double information;
};

// When `minimise` stops.
struct Tolerances {
  int max_iterations;  // steps tried at most
  double step;         // of the rotation [rad], the translation [of distance] and the shape, or
  double cost;         // relative decrease of the cost
};

// See `robust.Efficiency`.
struct Efficiency {
  double alpha, beta;
};

// Residuals of K points, `of_one` per point, as `evaluate` leaves them for `linearise`.
struct Residuals {
  Residuals(Index of_one, Index unknowns, Index count)
      : x(3, count),
        Rx(3, count),
        residual(of_one, count),
        weight(count),
        slope(count),
        inv_depth(count),
        J((unknowns + 3) / 3 * 3, count),
        along(count),
        by_offset(unknowns) {}

  Buffer<double, 2> x;          // (3, K) the deformed face, then the Jacobian by its points
  Buffer<double, 2> Rx;         // (3, K)
  Buffer<double, 2> residual;   // (1 or 2, K)
  Buffer<double, 1> weight;     // (K,) of the robust kernel
  Buffer<double, 1> slope;      // (K,) of the robust kernel
  Buffer<double, 1> inv_depth;  // (K,) of keypoints; 0 where the point is too far from its ray
  // (1 + D padded to a multiple of 3, K) of one residual per point, scaled by the square roots of
  // the weights: derivatives by the pose, the modes and, of ranges, the size; then the residuals
  Buffer<double, 2> J;
  // Of ranges:
  Buffer<double, 1> along;      // (K,) what the pose predicts, whitened
  Buffer<double, 1> by_offset;  // (D,) mixed derivative by the unknowns and the common offset
  double offset = 0;            // common to all of them, m
  double offset_precision = 1;  // second derivative by it, 1 / m^2
};

// Memory of `minimise` for C coefficients, K keypoints and N ranges.
struct Work {
  Work(Index shape, Index count, Index ranges)
      : keypoints(2, 6 + shape, count),
        ranges(1, 6 + shape, ranges),
        H(6 + shape, 6 + shape),
        H_ranges(6 + shape, 6 + shape),
        g(6 + shape),
        damped(6 + shape, 6 + shape),
        step(6 + shape),
        c_new(shape),
        squared(count) {}

  Residuals keypoints, ranges;
  Buffer<double, 2> H;         // (D, D) of keypoints and ranges, robustly weighted
  Buffer<double, 2> H_ranges;  // (D, D) of the ranges alone
  Buffer<double, 1> g;         // (D,) gradient of the whole cost
  Buffer<double, 2> damped;
  Buffer<double, 1> step, c_new, squared;
};

// Where `minimise` came to; H there is in `Work`.
struct Descent {
  double cost;            // negative log posterior up to a constant
  int iterations;         // steps tried
  Stop stop;              // converged, no_descent or max_iterations
  Efficiency efficiency;  // as observed on the keypoints
};

// The cost: half the sum of rho and of the squared deviation from the prior.
//
// T and c (C,) are of a head of mean size; there may be no ranges.
double evaluate(const Pose& T, View<const double, 1> c, const Measured& measured,
                const Points& points, const Ranges* ranges, const Prior& prior, const Cost& cost,
                Work& work);

// H of what was measured, gradient of the whole cost, where `evaluate` was last.
void linearise(const Pose& T, View<const double, 1> c, const Measured& measured,
               const Points& points, const Ranges* ranges, const Prior& prior, const Cost& cost,
               Work& work);

// Lower the cost from T and c, in place; accepts no step that raises it.
//
// `curvature` is that of the robust cost, as a part of what its weights say: beta of
// `robust.efficiency` near the minimum, 1 far from it. `work.H` is that of the minimum afterwards.
Descent minimise(Pose& T, View<double, 1> c, const Measured& measured, const Points& points,
                 const Ranges* ranges, const Prior& prior, const Cost& cost,
                 const Tolerances& tolerances, double curvature, Work& work);

// As observed on the ranges.
Efficiency range_efficiency(const Residuals& ranges);

// The kernel's scale, wider if the residuals are far larger than their sigma.
//
// The mean shape fits no person exactly: a kernel for noise would call a long chin an outlier.
double widened(const Pose& T, View<const double, 1> c, const Measured& measured,
               const Points& points, const Prior& prior, const Cost& cost, Work& work);

}  // namespace face_pose
