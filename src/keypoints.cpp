// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Keypoints from the numbers of the network, and what is wrong with them.
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "boxes.hpp"
#include "crops.hpp"
#include "numpy.hpp"

namespace face_pose {

namespace {

constexpr double INF = std::numeric_limits<double>::infinity();

// The network's output for a crop, and its calibration; see keypoints/network_output.py.
struct Decoding {
  Index numbers;  // per keypoint
  double step, unit, max_log;
  double cov_gain, cov_floor_px2, presence_slope, presence_middle;
};

// N crops (geometry/crops.py).
struct CropViews {
  View<const double, 3> R_cam_crop;
  View<const double, 1> focal_px;
  double size_px;
};

CropViews crops(const Array<double>& R_cam_crop, const Array<double>& focal_px, double size_px) {
  const CropViews all{view<3>(R_cam_crop), view<1>(focal_px), size_px};
  if (all.R_cam_crop.shape() != std::array<Index, 3>{all.focal_px.rows(), 3, 3})
    throw py::value_error("expected R_cam_crop (N, 3, 3) and focal_px (N,)");
  return all;
}

double clamped(double value, double limit) { return std::min(std::max(value, -limit), limit); }

// Keypoints uv (K, 2) [px] and their covariances (K, 2, 2) [px^2] of one crop, from its numbers;
// `columns` (3, K) is scratch space. Infinite where the lens shows no point there, or in a crop
// that is not valid.
void read_crop(const Decoding& decoding, View<const float, 1> numbers, const Matrix<3, 3>& R,
               double focal_px, double size_px, bool valid, const Lens& lens,
               View<double, 2> columns, View<double, 2> uv, View<double, 3> cov_uv) {
  const Index count = uv.rows();
  const float* number = numbers.data();
  const double step = decoding.step * size_px / focal_px;
  for (Index k = 0; k < count; ++k, number += decoding.numbers) {
    const double x = step * number[0], y = step * number[1];
    for (Index j = 0; j < 3; ++j) columns(j, k) = R(j, 0) * x + R(j, 1) * y + R(j, 2);
  }
  project(lens, columns);
  const Matrix<2, 2> J = crop_jacobian(lens, R, focal_px);
  const double a = J(0, 0), b = J(0, 1), c = J(1, 0), d = J(1, 1);
  const double unit_px = decoding.unit * size_px;
  const double unit_sq = decoding.cov_gain * unit_px * unit_px, floor = decoding.cov_floor_px2;
  number = numbers.data();
  for (Index k = 0; k < count; ++k, number += decoding.numbers) {
    uv(k, 0) = columns(0, k);
    uv(k, 1) = columns(1, k);
    double* cov = cov_uv.row(k).data();
    if (columns(2, k) > 0 && valid) {
      const double first = std::exp(clamped(number[2], decoding.max_log));
      const double second = std::exp(clamped(number[3], decoding.max_log));
      const double third = number[4] * second;
      const double p = unit_sq * first * first + floor, q = unit_sq * first * third;
      const double r = unit_sq * (third * third + second * second) + floor;
      cov[0] = a * a * p + 2 * a * b * q + b * b * r;
      cov[1] = cov[2] = a * c * p + (a * d + b * c) * q + b * d * r;
      cov[3] = c * c * p + 2 * c * d * q + d * d * r;
    } else {
      cov[0] = cov[3] = INF;
      cov[1] = cov[2] = 0;
    }
  }
}

// uv (N, K, 2), cov_uv (N, K, 2, 2) and presence (N,).
py::tuple read_keypoints(const Array<float>& numbers, Index keypoints, const Decoding& decoding,
                         const Array<double>& R_cam_crop, const Array<double>& focal_px,
                         const Array<bool>& valid, double size_px, const Lens& lens) {
  const auto output = view<2>(numbers);
  const auto usable = view<1>(valid);
  const CropViews all = crops(R_cam_crop, focal_px, size_px);
  const Index N = output.rows();
  if (all.focal_px.rows() != N || usable.rows() != N ||
      output.columns() <= keypoints * decoding.numbers)
    throw py::value_error("expected (N, 5 K + 7) numbers of N crops");
  auto uv_array = make_array<double>(N, keypoints, 2);
  auto cov_array = make_array<double>(N, keypoints, 2, 2);
  auto presence_array = make_array<double>(N);
  const auto uv = writable<3>(uv_array);
  const auto cov_uv = writable<4>(cov_array);
  const auto presence = writable<1>(presence_array);
  const Buffer<double, 2> columns(3, keypoints);
  for (Index i = 0; i < N; ++i) {
    Matrix<3, 3> R;
    const auto aim = all.R_cam_crop.row(i);
    std::copy(aim.begin(), aim.end(), R.values.begin());
    read_crop(decoding, output.row(i), R, all.focal_px[i], size_px, usable[i], lens, columns,
              uv.row(i), cov_uv.row(i));
    const double logit = decoding.presence_slope *
                         (output(i, keypoints * decoding.numbers) - decoding.presence_middle);
    presence[i] = usable[i] ? 1 / (1 + std::exp(-logit)) : 0;
  }
  return py::make_tuple(uv_array, cov_array, presence_array);
}

// Largest differences between two crops in scale (a logarithm), centre (in sides of the crop) and
// roll [rad].
struct CropLimits {
  double scale, shift, roll;
};

// Whether a crop differs too much from another one around the same face.
bool is_far_off(const View<const double, 2>& R, double focal_px, const Aim& wanted, double size_px,
                const CropLimits& limits) {
  const Matrix<3, 3>& B = wanted.R_cam_crop;
  double x = 0, y = 0, z = 0, cos = 0, sin = 0;
  for (Index j = 0; j < 3; ++j) {
    x += R(j, 0) * B(j, 2);
    y += R(j, 1) * B(j, 2);
    z += R(j, 2) * B(j, 2);
    cos += R(j, 0) * B(j, 0);
    sin += R(j, 1) * B(j, 0);
  }
  const double shift = focal_px * std::sqrt(x * x + y * y) / (size_px * std::max(z, 1e-3));
  const double scale = std::abs(std::log(focal_px / wanted.focal_px));
  // NaN counts as far off: the keypoints have no rays.
  return !(shift < limits.shift && scale < limits.scale &&
           std::abs(std::atan2(sin, cos)) < limits.roll);
}

// (N,) whether crops differ too much from those around the keypoints that were found in them: the
// first `points` of (N, K, 2) px.
Array<bool> are_far_off(const Array<double>& R_cam_crop, const Array<double>& focal_px,
                        const Array<double>& uv_array, Index points, const Upright& upright,
                        const Lens& lens, double size_px, double margin,
                        const CropLimits& limits) {
  const CropViews given = crops(R_cam_crop, focal_px, size_px);
  const auto uv = view<3>(uv_array);
  const Index N = given.focal_px.rows();
  if (uv.rows() != N || uv.size(1) < points || uv.size(2) != 2)
    throw py::value_error("the numbers of crops or keypoints differ");
  auto result = make_array<bool>(N);
  const auto far_off = writable<1>(result);
  for (Index i = 0; i < N; ++i) {
    const View<const double, 2> face(uv.row(i).data(), {points, 2});
    const Aim wanted = aim_at_keypoints(face, upright, lens, size_px, margin);
    far_off[i] = is_far_off(given.R_cam_crop.row(i), given.focal_px[i], wanted, size_px, limits);
  }
  return result;
}

// Sets the presence (N,) to 0 where the crop was far off (N,), and where the median standard
// deviation of the first `points` keypoints exceeds the limit (N,) times the size of the face.
void reject(const Array<double>& uv_array, const Array<double>& cov_array, Index points,
            const Array<bool>& far_off_array, const std::vector<double>& limit,
            Array<double>& presence_array) {
  const auto uv = view<3>(uv_array);
  const auto cov_uv = view<4>(cov_array);
  const auto far_off = view<1>(far_off_array);
  const auto presence = writable<1>(presence_array);
  const Index N = presence.rows(), K = uv.size(1);
  if (uv.shape() != std::array<Index, 3>{N, K, 2} || points > K ||
      cov_uv.shape() != std::array<Index, 4>{N, K, 2, 2} || far_off.rows() != N ||
      static_cast<Index>(limit.size()) != N)
    throw py::value_error("the numbers of faces or keypoints differ");
  for (Index i = 0; i < N; ++i) {
    const Box box = box_around(uv.row(i), points);
    const double sigma_px = limit[i] * std::max(box.width(), box.height());
    Index uncertain = 0;
    for (Index k = 0; k < points; ++k)
      uncertain += 0.5 * (cov_uv(i, k, 0, 0) + cov_uv(i, k, 1, 1)) > sigma_px * sigma_px;
    if (far_off[i] || 2 * uncertain >= points) presence[i] = 0;
  }
}

}  // namespace

void bind_keypoints(py::module_& m) {
  py::class_<Decoding>(m, "Decoding", "The network's output and its calibration.")
      .def(py::init([](Index numbers, double step, double unit, double max_log, double cov_gain,
                       double cov_floor_px2, double presence_slope, double presence_middle) {
             return Decoding{numbers,       step,           unit,           max_log, cov_gain,
                             cov_floor_px2, presence_slope, presence_middle};
           }),
           "numbers"_a, "step"_a, "unit"_a, "max_log"_a, "cov_gain"_a, "cov_floor_px2"_a,
           "presence_slope"_a, "presence_middle"_a);
  m.def("read_keypoints", read_keypoints, "numbers"_a, "keypoints"_a, "decoding"_a, "R_cam_crop"_a,
        "focal_px"_a, "valid"_a, "size_px"_a, "lens"_a);
  py::class_<CropLimits>(m, "CropLimits", "Largest differences between two crops.")
      .def(py::init([](double scale, double shift, double roll) {
             return CropLimits{scale, shift, roll};
           }),
           "scale"_a, "shift"_a, "roll"_a);
  m.def("are_far_off", are_far_off, "R_cam_crop"_a, "focal_px"_a, "uv"_a, "points"_a, "upright"_a,
        "lens"_a, "size_px"_a, "margin"_a, "limits"_a);
  m.def("reject", reject, "uv"_a, "cov_uv"_a, "points"_a, "far_off"_a, "limit"_a,
        "presence"_a.noconvert());
}

}  // namespace face_pose
