// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "measured.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace face_pose {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();

// Information of a keypoint on skin that is seen at the cosine c (1: face on, below 0: from
// behind), relative to a visible one: FLOOR + (1 - FLOOR) / (1 + exp(-(c - MIDDLE) / WIDTH)).
constexpr double VISIBILITY_FLOOR = 0.05;
constexpr double VISIBILITY_MIDDLE = 0.1;
constexpr double VISIBILITY_WIDTH = 0.1;

}  // namespace

Points::Points(View<const double, 2> xyz_head, View<const double, 3> modes,
               View<const double, 2> normals)
    : xyz_head(xyz_head.shape()), modes(modes.shape()), normals(normals.shape()) {
  std::copy(xyz_head.begin(), xyz_head.end(), this->xyz_head.begin());
  std::copy(modes.begin(), modes.end(), this->modes.begin());
  std::copy(normals.begin(), normals.end(), this->normals.begin());
}

FACE_POSE_WIDE void deform(const Points& points, View<const double, 1> c, View<double, 2> x) {
  std::copy(points.xyz_head.begin(), points.xyz_head.end(), x.begin());
  const Index size = x.size();
  double* __restrict to = x.data();
  for (Index m = 0; m < points.modes.rows(); ++m) {
    const double* __restrict mode = &points.modes(m, 0, 0);
    for (Index k = 0; k < size; ++k) to[k] += c[1 + m] * mode[k];
  }
}

Index Measured::measured() const {
  return std::count_if(weight.begin(), weight.end(), [](double w) { return w > 0; });
}

FACE_POSE_WIDE void measure(View<const double, 2> uv, View<const double, 3> cov_uv,
                            const Lens& lens, Measured& measured) {
  const Index count = measured.count();
  Buffer<bool, 1> usable(count);
  Buffer<double, 2> points(2, count);
  Buffer<double, 3> J(2, 3, count);
  for (Index k = 0; k < count; ++k) {
    const double uu = cov_uv(k, 0, 0), cross = cov_uv(k, 0, 1), vv = cov_uv(k, 1, 1);
    // Comparisons: with reassociated sums x - x == 0, which isfinite may be, is always true.
    const bool definite =
        uu > 0 && uu * vv - cross * cross > 0 && std::max(uu, vv) < INFINITE;
    usable[k] = definite && std::abs(uv(k, 0)) < INFINITE && std::abs(uv(k, 1)) < INFINITE;
    points(0, k) = usable[k] ? uv(k, 0) : 0;
    points(1, k) = usable[k] ? uv(k, 1) : 0;
  }
  unproject(lens, points, measured.rays, J, usable);
  for (Index k = 0; k < count; ++k) {
    measured.weight[k] = 0;
    // L is the inverse of the Cholesky factor [[a, 0], [cross / a, root / a]] of Sigma.
    const double uu = cov_uv(k, 0, 0), cross = cov_uv(k, 0, 1), vv = cov_uv(k, 1, 1);
    const double a = std::sqrt(uu), root = std::sqrt(uu * vv - cross * cross);
    for (Index i = 0; i < 3; ++i) {
      const double u = usable[k] ? J(0, i, k) / a : 0;
      const double v = usable[k] ? (a * J(1, i, k) - cross / a * J(0, i, k)) / root : 0;
      measured.A(0, i, k) = u;
      measured.A(1, i, k) = v;
      measured.weight[k] += 0.5 * (u * u + v * v);
    }
  }
}

void take_every(Index stride, const Measured& measured, Measured& few) {
  for (Index k = 0; k < few.count(); ++k) {
    few.weight[k] = measured.weight[k * stride];
    for (Index i = 0; i < 3; ++i) {
      few.rays(i, k) = measured.rays(i, k * stride);
      for (Index row = 0; row < 2; ++row) few.A(row, i, k) = measured.A(row, i, k * stride);
    }
  }
}

void weigh_visible(const Measured& measured, const Points& points, const Pose& T,
                   Measured& seen) {
  for (Index k = 0; k < measured.count(); ++k) {
    double cos = 0;
    for (Index i = 0; i < 3; ++i) {
      seen.rays(i, k) = measured.rays(i, k);
      for (Index j = 0; j < 3; ++j) cos -= measured.rays(i, k) * T(i, j) * points.normals(j, k);
    }
    const double logistic = 1 / (1 + std::exp(-(cos - VISIBILITY_MIDDLE) / VISIBILITY_WIDTH));
    const double scale = std::sqrt(VISIBILITY_FLOOR + (1 - VISIBILITY_FLOOR) * logistic);
    for (Index i = 0; i < 2; ++i)
      for (Index j = 0; j < 3; ++j) seen.A(i, j, k) = scale * measured.A(i, j, k);
    seen.weight[k] = measured.weight[k];
  }
}

double lower_median(View<double, 1> values, Index count) {
  // Hoare's selection; std::nth_element may leave the array where there is a NaN.
  const Index middle = (count - 1) / 2;
  Index low = 0, high = count - 1;
  while (low < high) {
    const double pivot = values[(low + high) / 2];
    Index i = low, j = high;
    while (i <= j) {
      while (values[i] < pivot) ++i;
      while (pivot < values[j]) --j;
      if (i <= j) std::swap(values[i++], values[j--]);
    }
    if (middle <= j)
      high = j;
    else if (middle >= i)
      low = i;
    else
      break;
  }
  return count > 0 ? values[middle] : 0;
}

}  // namespace face_pose
