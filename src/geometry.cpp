// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Bindings of lenses, crops, rotations and small linear algebra.
#include "crops.hpp"
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

// R_cam_crop (N, 3, 3), focal_px (N,) and valid (N,) of N crops; `aim` makes one.
template <class F>
py::tuple aim_all(Index count, F aim) {
  auto R_cam_crop = make_array<double>(count, 3, 3);
  auto focal_px = make_array<double>(count);
  auto valid = make_array<bool>(count);
  const auto R = writable<3>(R_cam_crop);
  const auto focal = writable<1>(focal_px);
  const auto usable = writable<1>(valid);
  {
    py::gil_scoped_release unlocked;
    for (Index i = 0; i < count; ++i) {
      const Aim aimed = aim(i);
      std::copy(aimed.R_cam_crop.values.begin(), aimed.R_cam_crop.values.end(), R.row(i).begin());
      focal[i] = aimed.focal_px;
      usable[i] = aimed.valid;
    }
  }
  return py::make_tuple(R_cam_crop, focal_px, valid);
}

py::tuple aim_at_boxes(const Array<double>& boxes_xyxy, const Lens& lens, double size_px,
                       double margin) {
  const auto boxes = view<2>(boxes_xyxy);
  return aim_all(boxes.rows(),
                 [&](Index i) { return aim_at_box(boxes.row(i), lens, size_px, margin); });
}

py::tuple aim_at_keypoint_sets(const Array<double>& uv, const Upright& upright, const Lens& lens,
                               double size_px, double margin) {
  const auto points = view<3>(uv);
  return aim_all(points.size(0), [&](Index i) {
    return aim_at_keypoints(points.row(i), upright, lens, size_px, margin);
  });
}

Matrix<3, 3> matrix_of(View<const double, 2> R) {
  Matrix<3, 3> matrix{};
  std::copy(R.begin(), R.end(), matrix.values.begin());
  return matrix;
}

// (N, 2, 2): `crop_jacobian` of each crop.
Array<double> crop_jacobians(const Lens& lens, const Array<double>& R_cam_crop,
                             const Array<double>& focal_px) {
  const auto R = view<3>(R_cam_crop);
  const auto focal = view<1>(focal_px);
  auto jacobians = make_array<double>(focal.size(), 2, 2);
  const auto J = writable<3>(jacobians);
  for (Index i = 0; i < focal.size(); ++i) {
    const Matrix<2, 2> one = crop_jacobian(lens, matrix_of(R.row(i)), focal[i]);
    std::copy(one.values.begin(), one.values.end(), J.row(i).begin());
  }
  return jacobians;
}

// (N, 3, size, size): `render_crop` of each crop. The rows of the image need not be contiguous.
Array<float> render_crops(const py::array_t<std::uint8_t, 0>& image, const Lens& lens,
                          const Array<double>& R_cam_crop, const Array<double>& focal_px,
                          Index size_px) {
  const auto [height, width, channels] = shape_of<3>(image);
  if (channels != 3 || image.strides(2) != 1 || image.strides(1) != 3 || image.strides(0) < 0)
    throw py::value_error("expected an RGB image (H, W, 3) with contiguous rows");
  const Picture picture{image.data(), height, width, image.strides(0)};
  const auto R = view<3>(R_cam_crop);
  const auto focal = view<1>(focal_px);
  auto crops = make_array<float>(focal.size(), 3, size_px, size_px);
  const auto rendered = writable<4>(crops);
  py::gil_scoped_release unlocked;
  for (Index i = 0; i < focal.size(); ++i)
    render_crop(picture, lens, matrix_of(R.row(i)), focal[i], rendered.row(i));
  return crops;
}

// R (N, 3, 3) of N vectors, by `f`.
template <class F>
Array<double> matrices_of(const Array<double>& omega, F f) {
  const auto vectors = view<2>(omega);
  auto matrices = make_array<double>(vectors.rows(), 3, 3);
  const auto R = writable<3>(matrices);
  for (Index i = 0; i < vectors.rows(); ++i) {
    const Matrix<3, 3> one = f(vectors.row(i));
    std::copy(one.values.begin(), one.values.end(), R.row(i).begin());
  }
  return matrices;
}

// (N, M) of rotation matrices (N, 3, 3), by `f`.
template <int M, class F>
Array<double> vectors_of(const Array<double>& matrices, F f) {
  const auto R = view<3>(matrices);
  auto vectors = make_array<double>(R.size(0), M);
  const auto rows = writable<2>(vectors);
  for (Index i = 0; i < R.size(0); ++i) {
    const Vector<M> one = f(R.row(i));
    std::copy(one.begin(), one.end(), rows.row(i).begin());
  }
  return vectors;
}

void bind_rotations(py::module_& m) {
  m.def(
      "rotation_exp",
      [](const Array<double>& omega) {
        return matrices_of(omega, [](const auto& vector) { return rotation_exp(vector); });
      },
      "omega"_a.noconvert());
  m.def(
      "rotation_of_columns",
      [](const Array<double>& columns) {
        return matrices_of(columns, [](const auto& both) { return rotation_of_columns(both); });
      },
      "columns"_a.noconvert());
  m.def(
      "left_jacobian",
      [](const Array<double>& omega) {
        return matrices_of(omega, [](const auto& vector) { return left_jacobian(vector); });
      },
      "omega"_a.noconvert());
  m.def(
      "rotation_log",
      [](const Array<double>& R) {
        return vectors_of<3>(R, [](const auto& matrix) { return rotation_log(matrix); });
      },
      "R"_a.noconvert());
  m.def(
      "quat_xyzw",
      [](const Array<double>& R) {
        return vectors_of<4>(R, [](const auto& matrix) { return quat_xyzw(matrix); });
      },
      "R"_a.noconvert());
  m.def(
      "move_poses",
      [](Array<double>& T, const Array<double>& delta) {
        const auto poses = writable<3>(T);
        const auto deltas = view<2>(delta);
        for (Index i = 0; i < deltas.rows(); ++i)
          move_pose(poses.row(i), deltas.row(i), poses.row(i));
      },
      "T"_a.noconvert(), "delta"_a.noconvert());
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
  m.attr("NODE_SPACING_PX") = NODE_SPACING_PX;
  m.attr("MAX_STEP_PX") = MAX_STEP_PX;
  m.def("aim_at_boxes", aim_at_boxes, "boxes_xyxy"_a.noconvert(), "lens"_a, "size_px"_a,
        "margin"_a);
  py::class_<Upright>(m, "Upright", "Keypoints that define the roll of a crop, by index.")
      .def(py::init([](std::vector<Index> eye_right, std::vector<Index> eye_left,
                       std::vector<Index> forehead, std::vector<Index> chin) {
             return Upright{std::move(eye_right), std::move(eye_left), std::move(forehead),
                            std::move(chin)};
           }),
           "eye_right"_a, "eye_left"_a, "forehead"_a, "chin"_a);
  m.def("aim_at_keypoints", aim_at_keypoint_sets, "uv"_a.noconvert(), "upright"_a, "lens"_a,
        "size_px"_a, "margin"_a);
  m.def("crop_jacobians", crop_jacobians, "lens"_a, "R_cam_crop"_a, "focal_px"_a);
  m.def("render_crops", render_crops, "image"_a.noconvert(), "lens"_a, "R_cam_crop"_a,
        "focal_px"_a, "size_px"_a);
  m.def(
      "eliminate",
      [](Array<double>& A, Array<double>& B) {
        const auto matrices = writable<3>(A), sides = writable<3>(B);
        bool regular = true;
        for (Index i = 0; i < matrices.size(0); ++i)
          regular = eliminate(matrices.row(i), sides.row(i)) && regular;
        return regular;
      },
      "A"_a.noconvert(), "B"_a.noconvert(),
      "Replaces B (N, n, m) by A^-1 B, overwriting A (N, n, n); False if any A is singular.");
  m.def(
      "cholesky_inverse",
      [](const Array<double>& A, Array<double>& A_inv) {
        const auto matrix = view<2>(A);
        const Buffer<double, 2> L(matrix.rows(), matrix.rows());
        return cholesky_inverse(matrix, L, writable<2>(A_inv));
      },
      "A"_a.noconvert(), "A_inv"_a.noconvert(),
      "Writes the inverse of A (n, n) into A_inv; False if A is not positive definite.");
  m.def(
      "symmetric_eigen",
      [](Array<double>& A, Array<double>& values, Array<double>& rows) {
        symmetric_eigen(writable<2>(A), writable<1>(values), writable<2>(rows));
      },
      "A"_a.noconvert(), "values"_a.noconvert(), "rows"_a.noconvert(),
      "Writes the ascending eigenvalues (n,) and the eigenvectors of A (n, n), overwriting A.");
  bind_rotations(m);
}

}  // namespace face_pose
