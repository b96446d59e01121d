// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Fitted faces in the image: Face Mesh's points, how certain they are, and their bounds.
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "boxes.hpp"
#include "lens.hpp"
#include "numpy.hpp"

namespace face_pose {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();

// P points: K of the surface, then those of the irises, the same number for either eye, which are
// the mean of the surface points at the indices of an eyelid.
struct Surface {
  double size_sigma;                     // relative standard deviation of the size over adults
  Buffer<double, 2> xyz_head;            // (3, K) m
  Buffer<float, 3> modes;                // (M, 3, K); as precise as the weights, and half as long
  Buffer<std::int64_t, 2> eyelids;       // (2, L)
  Buffer<std::int64_t, 1> nearest;       // (P,) the measured keypoint nearest to each point
};

template <class To, class From, int N>
Buffer<To, N> converted(View<const From, N> values) {
  Buffer<To, N> copy(values.shape());
  std::transform(values.begin(), values.end(), copy.begin(),
                 [](From value) { return static_cast<To>(value); });
  return copy;
}

// Points (3, K) [m] of one face, camera frame: the mean face and its modes, weighted by the
// coefficients after the first, which is the size's. `work` is of the same shape.
FACE_POSE_WIDE
void place(const Surface& surface, View<const double, 1> shape, View<const double, 2> T,
           View<double, 2> work, View<double, 2> xyz_cam) {
  const Index count = surface.xyz_head.columns();
  std::copy(surface.xyz_head.begin(), surface.xyz_head.end(), work.begin());
  for (Index m = 0; m < surface.modes.rows(); ++m) {
    const float* __restrict mode = surface.modes.row(m).data();
    double* __restrict point = work.data();
    const double coefficient = shape[1 + m];
    for (Index k = 0; k < 3 * count; ++k) point[k] += coefficient * mode[k];
  }
  const double scale = 1 + surface.size_sigma * shape[0];
  const double *x = work.data(), *y = x + count, *z = y + count;
  for (Index i = 0; i < 3; ++i) {
    double* __restrict placed = xyz_cam.row(i).data();
    const double a = scale * T(i, 0), b = scale * T(i, 1), c = scale * T(i, 2), t = T(i, 3);
    for (Index k = 0; k < count; ++k) placed[k] = a * x[k] + b * y[k] + c * z[k] + t;
  }
}

// Pixels (P, 2) of a face whose surface has the pixels columns (2, K).
void write_pixels(const Surface& surface, View<const double, 2> columns, View<double, 2> uv) {
  const Index K = columns.columns(), eyes = surface.eyelids.rows();
  const Index of_iris = (uv.rows() - K) / eyes;
  for (Index k = 0; k < K; ++k)
    for (Index i = 0; i < 2; ++i) uv(k, i) = columns(i, k);
  for (Index eye = 0; eye < eyes; ++eye) {
    const auto lids = surface.eyelids.row(eye);
    for (Index i = 0; i < 2; ++i) {
      double mean = 0;
      for (Index k : lids) mean += uv(k, i) / lids.rows();
      for (Index k = K + eye * of_iris; k < K + (eye + 1) * of_iris; ++k) uv(k, i) = mean;
    }
  }
}

// Of N fitted faces: pixels (N, P, 2) of the points, their standard deviations (N, P) [px], of the
// nearest measured keypoint, root mean square of the two coordinates, and bounds (N, 4) of the
// surface. Without cov_uv (N, Q, 2, 2) px^2 of measured keypoints the deviations are infinite.
py::tuple seen(const Surface& surface, const Array<double>& T_cam_head,
               const Array<double>& shape, const std::optional<Array<double>>& cov_uv,
               const Lens& lens) {
  const auto T = view<3>(T_cam_head);
  const auto coefficients = view<2>(shape);
  const auto cov = cov_uv ? view<4>(*cov_uv) : View<const double, 4>();
  const Index N = T.rows(), K = surface.xyz_head.columns(), P = surface.nearest.rows();
  if (T.shape() != std::array<Index, 3>{N, 4, 4} ||
      coefficients.shape() != std::array<Index, 2>{N, 1 + surface.modes.rows()} ||
      (cov_uv && (cov.rows() != N || cov.size(2) != 2 || cov.size(3) != 2)))
    throw py::value_error("the numbers of faces, modes or points differ");
  auto uv_array = make_array<double>(N, P, 2), sigma_array = make_array<double>(N, P);
  auto bounds_array = make_array<double>(N, 4);
  const auto uv = writable<3>(uv_array);
  const auto sigma = writable<2>(sigma_array), bounds = writable<2>(bounds_array);
  const Buffer<double, 2> work(3, K), columns(3, K);
  Buffer<double, 1> of_keypoint(cov.size(1));
  for (Index n = 0; n < N; ++n) {
    place(surface, coefficients.row(n), T.row(n), work, columns);
    project(lens, columns);
    write_pixels(surface, columns, uv.row(n));
    box_around(uv.row(n), K).write(bounds.row(n));
    for (Index k = 0; k < of_keypoint.rows(); ++k)
      of_keypoint[k] = std::sqrt(0.5 * (cov(n, k, 0, 0) + cov(n, k, 1, 1)));
    for (Index k = 0; k < P; ++k) {
      const Index nearest = surface.nearest[k];
      sigma(n, k) = nearest < of_keypoint.rows() ? of_keypoint[nearest] : INFINITE;
    }
  }
  return py::make_tuple(uv_array, sigma_array, bounds_array);
}

}  // namespace

void bind_surface(py::module_& m) {
  py::class_<Surface>(m, "Surface", "Face Mesh's points of fitted faces; see src/surface.cpp.")
      .def(py::init([](double size_sigma, const Array<double>& xyz_head,
                       const Array<double>& modes, const Array<std::int64_t>& eyelids,
                       const Array<std::int64_t>& nearest) {
             Surface surface{size_sigma, converted<double>(view<2>(xyz_head)),
                             converted<float>(view<3>(modes)),
                             converted<std::int64_t>(view<2>(eyelids)),
                             converted<std::int64_t>(view<1>(nearest))};
             const auto mean = surface.xyz_head.shape();
             if (mean[0] != 3 || mean[1] > surface.nearest.rows() ||
                 surface.modes.size(1) != 3 || surface.modes.size(2) != mean[1])
               throw py::value_error("the numbers of modes or points differ");
             return surface;
           }),
           "size_sigma"_a, "xyz_head"_a, "modes"_a, "eyelids"_a, "nearest"_a)
      .def("seen", seen, "T_cam_head"_a, "shape"_a, "cov_uv"_a, "lens"_a);
}

}  // namespace face_pose
