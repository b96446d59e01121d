// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Bounds of keypoints, and boxes of one face.
#include "boxes.hpp"

#include "numpy.hpp"

namespace face_pose {

namespace {

// (N, 4) of the first `points` of keypoints (N, K, 2).
Array<double> bounds(const Array<double>& uv_array, Index points) {
  const auto uv = view<3>(uv_array);
  if (uv.size(2) != 2 || points > uv.size(1))
    throw py::value_error("expected at least " + std::to_string(points) + " points (N, K, 2)");
  auto boxes = make_array<double>(uv.rows(), 4);
  const auto rows = writable<2>(boxes);
  for (Index n = 0; n < uv.rows(); ++n) box_around(uv.row(n), points).write(rows.row(n));
  return boxes;
}

// Of boxes (N, 4): intersection over union, and over the smaller area, (N, N) each.
py::tuple box_overlaps(const Array<double>& boxes_xyxy) {
  const auto boxes = view<2>(boxes_xyxy);
  const Index N = boxes.rows();
  if (boxes.columns() != 4) throw py::value_error("expected boxes (N, 4)");
  auto iou_array = make_array<double>(N, N), contained_array = make_array<double>(N, N);
  const auto iou = writable<2>(iou_array), contained = writable<2>(contained_array);
  const auto box = [&](Index i) { return Box{boxes(i, 0), boxes(i, 1), boxes(i, 2), boxes(i, 3)}; };
  // A box without area overlaps nothing.
  const auto over = [](double part, double area) { return part > 0 ? part / area : 0; };
  for (Index i = 0; i < N; ++i)
    for (Index j = 0; j <= i; ++j) {
      const Box a = box(i), b = box(j);
      const double part = common_part(a, b).area();
      iou(i, j) = iou(j, i) = over(part, a.area() + b.area() - part);
      contained(i, j) = contained(j, i) = over(part, std::min(a.area(), b.area()));
    }
  return py::make_tuple(iou_array, contained_array);
}

// (N,) which of N boxes, sorted from best to worst, are kept: those that are not the same (N, N)
// as a better one that is kept.
Array<bool> suppress(const Array<bool>& same_array) {
  const auto same = view<2>(same_array);
  const Index N = same.rows();
  if (same.columns() != N) throw py::value_error("expected a mask (N, N)");
  auto kept_array = make_array<bool>(N);
  const auto kept = writable<1>(kept_array);
  for (Index i = 0; i < N; ++i) {
    kept[i] = true;
    for (Index j = 0; j < i; ++j) kept[i] = kept[i] && !(kept[j] && same(i, j));
  }
  return kept_array;
}

}  // namespace

void bind_boxes(py::module_& m) {
  m.def("bounds", bounds, "uv"_a, "points"_a);
  m.def("box_overlaps", box_overlaps, "boxes_xyxy"_a);
  m.def("suppress", suppress, "same"_a);
}

}  // namespace face_pose
