// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Bindings of lenses, rotations and small linear algebra.
#include "lens.hpp"
#include "linalg.hpp"
#include "numpy.hpp"
#include "rotations.hpp"

#include <pybind11/stl.h>

#include <memory>

namespace face_pose {

namespace {

// Points (P, N) as columns (N, P).
template <int N>
Buffer<double, 2> columns_of(View<const double, 2> points) {
  Buffer<double, 2> columns(N, points.rows());
  for (Index k = 0; k < points.rows(); ++k)
    for (Index j = 0; j < N; ++j) columns(j, k) = points(k, j);
  return columns;
}

// uv (P, 2) and valid (P,) of points (P, 3).
py::tuple project_points(const Lens& lens, const Array<double>& xyz) {
  const auto points = view<2>(xyz);
  auto uv = make_array<double>(points.rows(), 2);
  auto valid = make_array<bool>(points.rows());
  const auto pixels = writable<2>(uv);
  const auto seen = writable<1>(valid);
  {
    py::gil_scoped_release unlocked;
    const Buffer<double, 2> columns = columns_of<3>(points);
    project(lens, columns);
    for (Index k = 0; k < points.rows(); ++k) {
      pixels(k, 0) = columns(0, k);
      pixels(k, 1) = columns(1, k);
      seen[k] = columns(2, k) > 0;
    }
  }
  return py::make_tuple(uv, valid);
}

// The same, and J (P, 2, 3).
py::tuple project_with_jacobians(const Lens& lens, const Array<double>& xyz) {
  const auto points = view<2>(xyz);
  auto uv = make_array<double>(points.rows(), 2);
  auto valid = make_array<bool>(points.rows());
  auto J_uv_xyz = make_array<double>(points.rows(), 2, 3);
  const auto pixels = writable<2>(uv);
  const auto seen = writable<1>(valid);
  const auto J = writable<3>(J_uv_xyz);
  {
    py::gil_scoped_release unlocked;
    for (Index k = 0; k < points.rows(); ++k) {
      const Pixel pixel = project(lens, points(k, 0), points(k, 1), points(k, 2));
      pixels(k, 0) = pixel.u;
      pixels(k, 1) = pixel.v;
      seen[k] = pixel.valid;
      std::copy(pixel.J.begin(), pixel.J.end(), J.row(k).begin());
    }
  }
  return py::make_tuple(uv, valid, J_uv_xyz);
}

// Unit rays (P, 3) and valid (P,) of pixels (P, 2).
py::tuple unproject_points(const Lens& lens, const Array<double>& uv) {
  const auto pixels = view<2>(uv);
  const Index count = pixels.rows();
  auto rays = make_array<double>(count, 3);
  auto valid = make_array<bool>(count);
  const auto rows = writable<2>(rays);
  const auto seen = writable<1>(valid);
  {
    py::gil_scoped_release unlocked;
    std::fill(seen.begin(), seen.end(), true);
    const Buffer<double, 2> columns(3, count);
    const Buffer<double, 3> J(2, 3, count);
    unproject(lens, columns_of<2>(pixels), columns, J, seen);
    for (Index k = 0; k < count; ++k)
      for (Index j = 0; j < 3; ++j) rows(k, j) = columns(j, k);
  }
  return py::make_tuple(rays, valid);
}

}  // namespace

void bind_geometry(py::module_& m) {
  py::class_<Lens, std::shared_ptr<Lens>>(m, "Lens", "A camera as compiled code takes it.")
      .def(py::init([](const std::array<double, 9>& plane, const std::array<double, 9>& inverse,
                       const std::array<double, 12>& dist, double range_max, bool fisheye) {
             return Lens{plane, inverse, dist, range_max, fisheye};
           }),
           "plane"_a, "inverse"_a, "dist"_a, "range_max"_a, "fisheye"_a)
      .def_readonly("dist", &Lens::dist)
      .def("project", project_points, "xyz"_a.noconvert())
      .def("project_with_jacobians", project_with_jacobians, "xyz"_a.noconvert())
      .def("unproject", unproject_points, "uv"_a.noconvert())
      .def(py::pickle(
          [](const Lens& lens) {
            return py::make_tuple(lens.plane, lens.inverse, lens.dist, lens.range_max,
                                  lens.fisheye);
          },
          [](const py::tuple& state) {
            return Lens{state[0].cast<std::array<double, 9>>(),
                        state[1].cast<std::array<double, 9>>(),
                        state[2].cast<std::array<double, 12>>(), state[3].cast<double>(),
                        state[4].cast<bool>()};
          }));
}

}  // namespace face_pose
