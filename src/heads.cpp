// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// The head detector's cells, poses and boxes; see face_pose_ros/faces/head_cells.py and
// head_uncertainty.py. Box cameras: faces/box_camera.py.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "boxes.hpp"
#include "lens.hpp"
#include "numpy.hpp"
#include "rotations.hpp"

#include <pybind11/stl.h>

namespace face_pose {

namespace {

// The smallest rotation of (0, 0, 1) into a unit ray; for (0, 0, -1) half a turn about x.
Matrix<3, 3> box_rotation(const Vector<3>& ray) {
  const auto [x, y, z] = ray;
  if (z < -1 + 1e-6) return {{1, 0, 0, 0, -1, 0, 0, 0, -1}};
  const double inv = 1 / (1 + z);
  return {{1 - x * x * inv, -x * y * inv, x, -x * y * inv, 1 - y * y * inv, y, -x, -y, z}};
}

// `box_rotation`, rolled until `up` points up in the image; any roll where it is the ray.
Matrix<3, 3> upright_rotation(const Vector<3>& ray, const Vector<3>& up) {
  Matrix<3, 3> R = box_rotation(ray);
  double x = 0, y = 0;
  for (Index j = 0; j < 3; ++j) {
    x -= R(j, 0) * up[j];
    y -= R(j, 1) * up[j];
  }
  double length = std::sqrt(x * x + y * y);
  if (length <= 1e-6) {
    x = y = 1;
    length = std::sqrt(2.0);
  }
  x /= length;
  y /= length;
  for (Index j = 0; j < 3; ++j) {
    const double a = R(j, 0), b = R(j, 1);
    R(j, 0) = y * a - x * b;
    R(j, 1) = x * a + y * b;
  }
  return R;
}

// Scale of the image at a unit ray: root of a steradian's area in px^2.
double pixels_per_radian(const Lens& lens, const Vector<3>& ray) {
  const auto& J = project(lens, ray[0], ray[1], ray[2]).J;
  const Matrix<3, 3> R = box_rotation(ray);
  Matrix<2, 2> A{};
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 2; ++j)
      for (Index k = 0; k < 3; ++k) A(i, j) += J[3 * i + k] * R(k, j);
  return std::sqrt(std::abs(A(0, 0) * A(1, 1) - A(0, 1) * A(1, 0)));
}

Vector<3> rotated(View<const double, 2> T, const Vector<3>& xyz) {
  Vector<3> moved{};
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 3; ++j) moved[i] += T(i, j) * xyz[j];
  return moved;
}

// Numbers (M, C) of the cells whose first number, a logit, exceeds `least`, in grids of outputs
// (C, H, W); their centres (M, 2) [px] and strides (M,) [px].
py::tuple cells_above(const std::vector<Array<float>>& outputs, const std::vector<Index>& strides,
                      double least) {
  if (outputs.empty() || outputs.size() != strides.size())
    throw py::value_error("expected one output for each stride");
  struct Place {
    View<const float, 3> output;
    Index row, column, stride;
  };
  std::vector<Place> places;
  for (std::size_t grid = 0; grid < outputs.size(); ++grid) {
    const auto output = view<3>(outputs[grid]);
    const float* score = output.data();
    for (Index row = 0; row < output.size(1); ++row)
      for (Index column = 0; column < output.size(2); ++column)
        if (*score++ > least) places.push_back({output, row, column, strides[grid]});
  }
  const auto count = static_cast<Index>(places.size());
  auto numbers_array = make_array<double>(count, outputs[0].shape(0));
  auto uv_array = make_array<double>(count, 2), stride_array = make_array<double>(count);
  const auto numbers = writable<2>(numbers_array), uv = writable<2>(uv_array);
  const auto stride_px = writable<1>(stride_array);
  for (Index i = 0; i < count; ++i) {
    const auto& [output, row, column, stride] = places[static_cast<std::size_t>(i)];
    if (output.rows() != numbers.columns())
      throw py::value_error("the outputs have different numbers of channels");
    for (Index k = 0; k < output.rows(); ++k) numbers(i, k) = output(k, row, column);
    stride_px[i] = static_cast<double>(stride);
    uv(i, 0) = (static_cast<double>(column) + 0.5) * stride_px[i] - 0.5;
    uv(i, 1) = (static_cast<double>(row) + 0.5) * stride_px[i] - 0.5;
  }
  return py::make_tuple(numbers_array, uv_array, stride_array);
}

// Poses (M, 4, 4) of heads, and whether the lens has rays for them (M,).
//   uv       (M, 2) [px] of their centres.
//   size_px  (M,) apparent.
//   columns  (M, 6) of R_box_head.
//   centre   (3,) [m] of a head, of size `size_m`.
py::tuple poses_of_cells(const Array<double>& uv_array, const Array<double>& size_array,
                         const Array<double>& columns_array, const Vector<3>& centre,
                         double size_m, const Lens& lens) {
  const auto uv = view<2>(uv_array), columns = view<2>(columns_array);
  const auto size_px = view<1>(size_array);
  const Index count = uv.rows();
  if (uv.columns() != 2 || columns.columns() != 6 || columns.rows() != count ||
      size_px.rows() != count)
    throw py::value_error("expected M cells");
  auto T_array = make_array<double>(count, 4, 4);
  auto valid_array = make_array<bool>(count);
  const auto T_all = writable<3>(T_array);
  const auto valid = writable<1>(valid_array);
  std::fill(valid.begin(), valid.end(), true);
  const Buffer<double, 2> pixels(2, count), rays(3, count);
  const Buffer<double, 3> J(2, 3, count);
  for (Index i = 0; i < count; ++i) {
    pixels(0, i) = uv(i, 0);
    pixels(1, i) = uv(i, 1);
  }
  unproject(lens, pixels, rays, J, valid);
  for (Index i = 0; i < count; ++i) {
    const Vector<3> ray{rays(0, i), rays(1, i), rays(2, i)};
    const double distance = size_m * pixels_per_radian(lens, ray) / size_px[i];
    const Matrix<3, 3> R_cam_box = box_rotation(ray);
    const Matrix<3, 3> R_box_head = rotation_of_columns(columns.row(i));
    const auto T = T_all.row(i);
    for (Index a = 0; a < 3; ++a)
      for (Index b = 0; b < 3; ++b) {
        T(a, b) = 0;
        for (Index k = 0; k < 3; ++k) T(a, b) += R_cam_box(a, k) * R_box_head(k, b);
      }
    const Vector<3> middle = rotated(T, centre);
    for (Index a = 0; a < 3; ++a) {
      T(a, 3) = ray[a] * distance - middle[a];
      T(3, a) = 0;
    }
    T(3, 3) = 1;
  }
  return py::make_tuple(T_array, valid_array);
}

// Poses (N, 4, 4).
View<const double, 3> poses(const Array<double>& T_cam_head) {
  const auto T = view<3>(T_cam_head);
  if (T.size(1) != 4 || T.size(2) != 4) throw py::value_error("expected poses (N, 4, 4)");
  return T;
}

// (M, 4) [px] squares around the bounds of the points (P, 3) of a face at poses (M, 4, 4); not
// finite where the lens sees none of them.
Array<double> face_boxes(const Array<double>& T_cam_head, const Array<double>& xyz_face,
                         const Lens& lens) {
  const auto T_all = poses(T_cam_head);
  const auto xyz = view<2>(xyz_face);
  if (xyz.columns() != 3) throw py::value_error("expected points (P, 3)");
  auto boxes_array = make_array<double>(T_all.rows(), 4);
  const auto boxes = writable<2>(boxes_array);
  const Buffer<double, 2> points(3, xyz.rows());
  for (Index i = 0; i < T_all.rows(); ++i) {
    const auto T = T_all.row(i);
    for (Index j = 0; j < 3; ++j)
      for (Index k = 0; k < xyz.rows(); ++k)
        points(j, k) = T(j, 0) * xyz(k, 0) + T(j, 1) * xyz(k, 1) + T(j, 2) * xyz(k, 2) + T(j, 3);
    project(lens, points);
    Box box;
    for (Index k = 0; k < xyz.rows(); ++k)
      if (points(2, k) > 0) box.add(points(0, k), points(1, k));
    const double u = 0.5 * (box.left + box.right), v = 0.5 * (box.top + box.bottom);
    const double half = 0.5 * std::max(box.width(), box.height());
    Box{u - half, v - half, u + half, v + half}.write(boxes.row(i));
  }
  return boxes_array;
}

// From the camera to the `centre` (3,) [m] of a head, and from its sellion there.
struct Middle {
  Vector<3> arm, ray;  // [m], and a unit vector
  double distance;     // [m]

  Middle(View<const double, 2> T, const Vector<3>& centre) : arm(rotated(T, centre)) {
    for (Index i = 0; i < 3; ++i) ray[i] = T(i, 3) + arm[i];
    distance = std::sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2]);
    for (double& part : ray) part /= distance;
  }
};

// (N,) [px] apparent sizes of heads at poses (N, 4, 4); `centre` and `size_m` as in
// `poses_of_cells`.
Array<double> apparent_sizes(const Array<double>& T_cam_head, const Vector<3>& centre,
                             double size_m, const Lens& lens) {
  const auto T = poses(T_cam_head);
  auto size_array = make_array<double>(T.rows());
  const auto size_px = writable<1>(size_array);
  for (Index i = 0; i < T.rows(); ++i) {
    const Middle middle(T.row(i), centre);
    size_px[i] = pixels_per_radian(lens, middle.ray) * size_m / middle.distance;
  }
  return size_array;
}

// J (N, 6, 6) of (dt, omega) = J e for poses (N, 4, 4).
Array<double> pose_of_normalised(const Array<double>& T_cam_head, const Vector<3>& centre,
                                 double size_m) {
  const auto T_all = poses(T_cam_head);
  auto J_array = make_array<double>(T_all.rows(), 6, 6);
  const auto J_all = writable<3>(J_array);
  std::fill(J_all.begin(), J_all.end(), 0.0);
  for (Index i = 0; i < T_all.rows(); ++i) {
    const auto T = T_all.row(i);
    const auto J = J_all.row(i);
    const Middle middle(T, centre);
    const Vector<3>& arm = middle.arm;
    const Matrix<3, 3> R = upright_rotation(middle.ray, {T(0, 2), T(1, 2), T(2, 2)});
    for (Index a = 0; a < 3; ++a)
      for (Index b = 0; b < 3; ++b) {
        const Index c = (a + 1) % 3, d = (a + 2) % 3;
        J(a, b) = R(a, b) * (b < 2 ? size_m : middle.distance);
        J(3 + a, 3 + b) = R(a, b);
        // The centre moves by dt + omega x arm, so the sellion by arm x omega more than the
        // centre.
        J(a, 3 + b) = arm[c] * R(d, b) - arm[d] * R(c, b);
      }
  }
  return J_array;
}

// (N, 3, 3) of unit rays (N, 3).
Array<double> box_rotations(const Array<double>& rays_array) {
  const auto rays = view<2>(rays_array);
  if (rays.columns() != 3) throw py::value_error("expected rays (N, 3)");
  auto R_array = make_array<double>(rays.rows(), 3, 3);
  const auto R = writable<3>(R_array);
  for (Index i = 0; i < rays.rows(); ++i) {
    const Matrix<3, 3> one = box_rotation({rays(i, 0), rays(i, 1), rays(i, 2)});
    std::copy(one.values.begin(), one.values.end(), R.row(i).begin());
  }
  return R_array;
}

// (N,) at unit rays (N, 3).
Array<double> scales(const Array<double>& rays_array, const Lens& lens) {
  const auto rays = view<2>(rays_array);
  if (rays.columns() != 3) throw py::value_error("expected rays (N, 3)");
  auto scale_array = make_array<double>(rays.rows());
  const auto scale = writable<1>(scale_array);
  for (Index i = 0; i < rays.rows(); ++i)
    scale[i] = pixels_per_radian(lens, {rays(i, 0), rays(i, 1), rays(i, 2)});
  return scale_array;
}

}  // namespace

void bind_heads(py::module_& m) {
  m.def("cells_above", cells_above, "outputs"_a, "strides"_a, "least"_a);
  m.def("poses_of_cells", poses_of_cells, "uv"_a, "size_px"_a, "columns"_a, "centre"_a,
        "size_m"_a, "lens"_a);
  m.def("face_boxes", face_boxes, "T_cam_head"_a, "xyz_face"_a, "lens"_a);
  m.def("apparent_sizes", apparent_sizes, "T_cam_head"_a, "centre"_a, "size_m"_a, "lens"_a);
  m.def("pose_of_normalised", pose_of_normalised, "T_cam_head"_a, "centre"_a, "size_m"_a);
  m.def("box_rotations", box_rotations, "rays"_a);
  m.def("pixels_per_radian", scales, "rays"_a, "lens"_a);
}

}  // namespace face_pose
