// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Bounds of keypoints, and boxes of one face.
#include "boxes.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

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

// A part over the whole; a box without area overlaps nothing.
double over(double part, double area) { return part > 0 ? part / area : 0; }

// Intersection over union.
double iou_of(const Box& a, const Box& b) {
  const double part = common_part(a, b).area();
  return over(part, a.area() + b.area() - part);
}

// Rows of those of N faces that have enough presence (N,), each face once: followed ones, whose id
// is not empty, before others, then by presence. Two are the same whose boxes around the first
// `points` keypoints uv (N, K, 2) overlap by more than max_iou.
std::vector<Index> each_once(const Array<double>& uv_array, Index points,
                             const Array<double>& presence_array,
                             const std::vector<std::string>& ids, double min_presence,
                             double max_iou) {
  const auto uv = view<3>(uv_array);
  const auto presence = view<1>(presence_array);
  const Index N = presence.rows();
  if (uv.rows() != N || static_cast<Index>(ids.size()) != N || points > uv.size(1))
    throw py::value_error("the numbers of faces or keypoints differ");
  std::vector<Index> order;
  for (Index n = 0; n < N; ++n)
    if (presence[n] >= min_presence) order.push_back(n);
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return ids[a].empty() != ids[b].empty() ? ids[b].empty() : presence[a] > presence[b];
  });
  std::vector<Index> rows;
  for (Index n : order) {
    const Box box = box_around(uv.row(n), points);
    if (std::none_of(rows.begin(), rows.end(), [&](Index better) {
          return iou_of(box, box_around(uv.row(better), points)) > max_iou;
        }))
      rows.push_back(n);
  }
  return rows;
}

// Of boxes (N, 4): intersection over union, and over the smaller area, (N, N) each.
py::tuple box_overlaps(const Array<double>& boxes_xyxy) {
  const auto boxes = view<2>(boxes_xyxy);
  const Index N = boxes.rows();
  if (boxes.columns() != 4) throw py::value_error("expected boxes (N, 4)");
  auto iou_array = make_array<double>(N, N), contained_array = make_array<double>(N, N);
  const auto iou = writable<2>(iou_array), contained = writable<2>(contained_array);
  const auto box = [&](Index i) { return Box{boxes(i, 0), boxes(i, 1), boxes(i, 2), boxes(i, 3)}; };
  for (Index i = 0; i < N; ++i)
    for (Index j = 0; j <= i; ++j) {
      const Box a = box(i), b = box(j);
      iou(i, j) = iou(j, i) = iou_of(a, b);
      contained(i, j) = contained(j, i) =
          over(common_part(a, b).area(), std::min(a.area(), b.area()));
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
  m.def("each_once", each_once, "uv"_a, "points"_a, "presence"_a, "ids"_a, "min_presence"_a,
        "max_iou"_a);
  m.def("box_overlaps", box_overlaps, "boxes_xyxy"_a);
  m.def("suppress", suppress, "same"_a);
}

}  // namespace face_pose
