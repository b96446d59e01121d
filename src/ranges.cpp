// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "ranges.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace face_pose {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();

constexpr double MIN_COS = 0.35;  // a surface at more than 70 deg to the ray is too uncertain
constexpr int MIN_RANGES = 12;    // fewer points that agree say too little of where the face is
// Of the points with a depth: below it, something else than the face is seen.
constexpr double MIN_AGREEING = 0.4;
// Of a head by its keypoints, babies included, relative to the mean adult's: beyond them, the depth
// is not that of this face.
constexpr double MIN_SIZE = 0.5, MAX_SIZE = 1.35;
constexpr double SURFACE_M = 0.003;
constexpr double SIDEWAYS_M = 0.002;
// All ranges of a face are off together: by what its surface differs from the model's on the whole;
// by hair or a hand in front, some of which agrees with the face where much of it does not; and by
// the depth camera's own bias, which grows with the square of the depth.
constexpr double COMMON_M = 0.001;
constexpr double COVERED_M = 0.02;  // times the ratio of points that do not agree to those that do
// What remains of a range's information, because the model's surface is off by much the same at
// neighbouring points; and how it falls with that ratio.
constexpr double INDEPENDENT = 0.2, COVERED_INFORMATION = 5;
constexpr double AGREEING_SIGMAS = 3;

double square(double x) { return x * x; }

// Planes a . p = rho of the points [m], sigma 0 where not measured; how many are visible.
int read(const Pose& T, double size, const DepthView& depth, const RangeNoise& noise,
         RangeWork& work, Ranges& ranges) {
  const Matrix<3, 3>& R = depth.R_depth_cam;
  const Vector<3>& t = depth.t_depth_cam;
  const Index count = ranges.points.count();
  Buffer<double, 2>&p = work.p, &n = work.n, &uv = work.uv;
  for (Index k = 0; k < count; ++k) {
    for (Index i = 0; i < 3; ++i) {
      p(i, k) = t[i];
      n(i, k) = 0;
    }
    for (Index j = 0; j < 3; ++j) {
      double point = T(j, 3), normal = 0;
      for (Index m = 0; m < 3; ++m) {
        point += T(j, m) * work.xyz(m, k);
        normal += T(j, m) * ranges.points.normals(m, k);
      }
      for (Index i = 0; i < 3; ++i) {
        p(i, k) += R(i, j) * size * point;
        n(i, k) += R(i, j) * normal;
      }
    }
  }
  std::copy(p.begin(), p.end(), work.image.begin());
  project(depth.lens, work.image);
  int visible = 0;
  for (Index k = 0; k < count; ++k) {
    const double away = n(0, k) * p(0, k) + n(1, k) * p(1, k) + n(2, k) * p(2, k);
    const double distance =
        std::sqrt(p(0, k) * p(0, k) + p(1, k) * p(1, k) + p(2, k) * p(2, k));
    uv(0, k) = std::floor(work.image(0, k) + 0.5);
    uv(1, k) = std::floor(work.image(1, k) + 0.5);
    work.usable[k] = -away > MIN_COS * distance && work.image(2, k) > 0 && 1 <= uv(0, k) &&
                     uv(0, k) < depth.width() - 1 && 1 <= uv(1, k) && uv(1, k) < depth.height() - 1;
    visible += work.usable[k];
  }
  unproject(depth.lens, uv, work.rays, work.J, work.usable);
  Buffer<double, 1> window(9);
  for (Index k = 0; k < count; ++k) {
    work.sigma[k] = ranges.rho[k] = 0;
    for (Index i = 0; i < 3; ++i) ranges.a(i, k) = 0;
    double cos = 0;
    for (Index i = 0; i < 3; ++i) cos -= n(i, k) * work.rays(i, k);
    if (!(work.usable[k] && cos > 0.5 * MIN_COS && work.rays(2, k) > 0.05)) continue;
    const Index column = static_cast<Index>(uv(0, k)), row = static_cast<Index>(uv(1, k));
    Index valid = 0;
    for (Index v = row - 1; v <= row + 1; ++v)
      for (Index u = column - 1; u <= column + 1; ++u) {
        const double z = depth.z(v, u);
        if (0 < z && z < INFINITE) window[valid++] = z;
      }
    if (valid < 5) continue;
    const double z = lower_median(window, valid);
    const double tan_sq = (1 - cos * cos) / (cos * cos);
    // The noise of a face's range: with that of a far wall's any face would agree with the wall.
    const double z_face = std::min(z, p(2, k) * MAX_SIZE / size);
    work.sigma[k] = std::sqrt(square(noise.noise_per_m * z_face * z_face) +
                              SURFACE_M * SURFACE_M + SIDEWAYS_M * SIDEWAYS_M * tan_sq);
    // Back in the picture's camera: a . (R p + t) = rho is (R^T a) . p = rho - a . t.
    ranges.rho[k] = z / work.rays(2, k);
    for (Index i = 0; i < 3; ++i) {
      const double of_depth = -n(i, k) / cos;
      ranges.rho[k] -= of_depth * t[i];
      for (Index j = 0; j < 3; ++j) ranges.a(j, k) += R(i, j) * of_depth;
    }
  }
  return visible;
}

// A size, how many ranges there are, and how many agree on it.
struct Agreement {
  double size;
  int measured, agreeing;
};

// The size on which most of the ranges agree.
//
// Each range proposes a size; a possible one is preferred. Ranges that do not agree with the best
// one are dropped: sigma 0. The others' mean is the size.
Agreement agreed_size(const Pose& T, RangeWork& work, const Ranges& ranges) {
  const Index count = ranges.rho.size();
  Buffer<double, 1>&along = work.along, &sigma = work.sigma;
  for (Index k = 0; k < count; ++k) {
    along[k] = 0;
    for (Index i = 0; i < 3; ++i) {
      double p = T(i, 3);
      for (Index j = 0; j < 3; ++j) p += T(i, j) * work.xyz(j, k);
      along[k] += ranges.a(i, k) * p;
    }
  }
  Agreement found{0, 0, 0};
  double least = INFINITE;
  for (Index k = 0; k < count; ++k) {
    if (!(sigma[k] > 0 && along[k] > 0)) continue;
    const double size = ranges.rho[k] / along[k];
    const bool possible = MIN_SIZE < size && size < MAX_SIZE;
    double cost = possible ? 0 : count * AGREEING_SIGMAS * AGREEING_SIGMAS;
    for (Index i = 0; i < count; ++i) {
      if (!(sigma[i] > 0)) continue;
      const double r = (size * along[i] - ranges.rho[i]) / sigma[i];
      cost += robust_kernel(Kernel::geman_mcclure, AGREEING_SIGMAS, r * r).rho;
    }
    if (cost < least) {
      found.size = size;
      least = cost;
    }
  }
  double pull = 0, precision = 0;
  for (Index i = 0; i < count; ++i) {
    if (!(sigma[i] > 0)) continue;
    ++found.measured;
    if (std::abs(found.size * along[i] - ranges.rho[i]) < AGREEING_SIGMAS * sigma[i]) {
      ++found.agreeing;
      pull += along[i] * ranges.rho[i] / (sigma[i] * sigma[i]);
      precision += along[i] * along[i] / (sigma[i] * sigma[i]);
    } else {
      sigma[i] = 0;
    }
  }
  if (precision > 0) found.size = pull / precision;
  return found;
}

}  // namespace

double read_ranges(const Pose& T, View<const double, 1> c, double size, const DepthView& depth,
                   const RangeNoise& noise, View<double, 1> evidence, RangeWork& work,
                   Ranges& ranges) {
  deform(ranges.points, c, work.xyz);
  // A depth camera beside the picture's sees the face elsewhere if its size is not as expected.
  const Vector<3>& t = depth.t_depth_cam;
  const bool beside = t[0] * t[0] + t[1] * t[1] + t[2] * t[2] > 1e-8;
  Agreement found{size, 0, 0};
  int visible = 0;
  for (int round = 0; round < (beside ? 3 : 1); ++round) {
    const double last = found.size;
    visible = read(T, last, depth, noise, work, ranges);
    found = agreed_size(T, work, ranges);
    if (std::abs(found.size - last) < 0.01 * last) break;
  }
  double z = 0;
  int used = 0;
  for (Index k = 0; k < ranges.rho.size(); ++k) {
    const double sigma = work.sigma[k];
    if (sigma > 0) {
      ++used;
      z += ranges.rho[k];
      for (Index i = 0; i < 3; ++i) ranges.a(i, k) /= sigma;
      ranges.rho[k] /= sigma;
      ranges.inv_sigma[k] = 1 / sigma;
    } else {
      for (Index i = 0; i < 3; ++i) ranges.a(i, k) = 0;
      ranges.rho[k] = ranges.inv_sigma[k] = 0;
    }
  }
  z /= std::max(used, 1);
  evidence[0] = visible;
  evidence[1] = found.measured;
  evidence[2] = found.agreeing;
  evidence[3] = found.size / size;
  const double covered =
      static_cast<double>(found.measured - found.agreeing) / std::max(found.agreeing, 1);
  ranges.common_variance = COMMON_M * COMMON_M + square(COVERED_M * covered) +
                           square(noise.bias_per_m * z * z);
  ranges.information = INDEPENDENT / (1 + COVERED_INFORMATION * covered);
  if (found.agreeing >= std::max<double>(MIN_RANGES, MIN_AGREEING * found.measured) &&
      MIN_SIZE < found.size && found.size < MAX_SIZE)
    return found.size;
  evidence[2] = 0;
  return 0;
}

}  // namespace face_pose
