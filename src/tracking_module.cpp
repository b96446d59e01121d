// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Tracking as a part of face_pose_ros._core.
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "numpy.hpp"
#include "people.hpp"

namespace face_pose {
namespace {

using Mask = std::vector<bool>;

FilterOptions filter_options(const py::object& options) {
  const auto number = [&](const char* name) { return options.attr(name).cast<double>(); };
  return {number("acceleration_noise"), number("angular_acceleration_noise"),
          number("correlated_noise_share"), number("max_gap_s")};
}

MemoryOptions memory_options(const py::object& options) {
  const auto number = [&](const char* name) { return options.attr(name).cast<double>(); };
  return {number("correlation_time_s"), number("shared_variance"), number("expression_time_s")};
}

TrackingOptions tracking_options(const py::object& options) {
  return {filter_options(options),
          memory_options(options.attr("shape")),
          options.attr("lost_after_s").cast<double>(),
          options.attr("gate_m").cast<double>(),
          options.attr("filter_poses").cast<bool>(),
          options.attr("remember_shape").cast<bool>()};
}

void check(bool fits) {
  if (!fits) throw py::value_error("the numbers of shape coefficients differ");
}

Normal normal(const Array<double>& mean, const Array<double>& covariance, Index count) {
  const Normal all{view<1>(mean), view<2>(covariance)};
  check(all.mean.rows() == count && all.covariance.shape() == std::array<Index, 2>{count, count});
  return all;
}

std::shared_ptr<const Population> population(const Array<double>& mean,
                                             const Array<double>& covariance,
                                             const Mask& is_expression) {
  const Normal prior = normal(mean, covariance, is_expression.size());
  return std::make_shared<const Population>(Shape(prior), Kinds(is_expression));
}

py::tuple arrays_of(const Normal& shape) {
  return py::make_tuple(array_of(shape.mean), array_of(shape.covariance));
}

FittedFace fitted(const Array<double>& T_cam_head, const Array<double>& covariance_given_shape,
                  const Array<double>& pose_of_shape, const Array<double>& mean,
                  const Array<double>& covariance, Index count) {
  const View<const double, 2> G = view<2>(pose_of_shape);
  check(G.shape() == std::array<Index, 2>{6, count});
  return {matrix<4, 4>(T_cam_head), matrix<6, 6>(covariance_given_shape), G,
          normal(mean, covariance, count)};
}

// Of a `results.DepthEvidence` with ranges that agree: the ratio of the others to these.
double covered(const py::object& depth) {
  const int agreeing = depth.attr("agreeing").cast<int>();
  return static_cast<double>(depth.attr("measured").cast<int>() - agreeing) / agreeing;
}

// The faces (`results.FacePose`) of one image, tracked: for each pose, its covariance, mean and
// covariance of the shape, id and number.
py::list update(People& people, const py::sequence& faces, double stamp_s) {
  const Index count = people.population->shape.mean.rows();
  std::vector<Array<double>> arrays;  // keeps what the views below refer to
  const auto array = [&arrays](const py::handle& owner, const char* name) {
    arrays.push_back(owner.attr(name).cast<Array<double>>());
    return arrays.back();
  };
  std::vector<SeenFace> seen;
  for (const py::handle face : faces) {
    const py::object fit = face.attr("fit"), depth = face.attr("depth");
    const bool has_depth = !depth.is_none() && depth.attr("agreeing").cast<int>() > 0;
    const View<const double, 2> uv = view<2>(array(face, "keypoints_uv"));
    if (uv.columns() != 2 || uv.rows() == 0 ||
        (!people.people.empty() && people.people[0].keypoints_uv.shape() != uv.shape()))
      throw py::value_error("the numbers of keypoints differ");
    seen.push_back({fitted(array(face, "T_cam_head"), array(fit, "covariance_given_shape"),
                           array(fit, "pose_of_shape"), array(face, "shape"),
                           array(face, "shape_covariance"), count),
                    fit.attr("shape_prior_of").cast<std::string>(), uv, has_depth,
                    has_depth ? depth.attr("size_coefficient").cast<double>() : 0,
                    has_depth ? covered(depth) : 0});
  }
  py::list tracked;
  for (const TrackedFace& face : people.update(seen, stamp_s))
    tracked.append(py::make_tuple(array_of(face.T_cam_head), array_of(face.covariance),
                                  array_of(face.shape.mean), array_of(face.shape.covariance),
                                  face.id, face.number));
  return tracked;
}

// Ids of M people measured recently, and (M, P, 2) pixels of the keypoints at P indices, predicted
// for the last `advance`.
py::tuple known_faces(const People& people, double max_age_s, const Array<Index>& points) {
  const View<const Index, 1> indices = view<1>(points);
  const std::vector<const Person*> recent = people.recent(max_age_s);
  Array<double> uv_array = make_array<double>(recent.size(), indices.rows(), 2);
  double* uv = uv_array.mutable_data();
  py::list ids;
  for (const Person* person : recent) {
    ids.append(person->id);
    const double seconds = people.stamp_s - person->seen_s;
    for (Index k : indices)
      for (Index i = 0; i < 2; ++i)
        *uv++ = person->keypoints_uv(k, i) + seconds * person->velocity_px_s[i];
  }
  return py::make_tuple(ids, uv_array);
}

// Shapes of N people by id: mean (N, C) and covariance (N, C, C).
py::tuple shapes_of(const People& people, const std::vector<std::string>& ids) {
  const Index C = people.population->shape.mean.rows();
  Array<double> means = make_array<double>(ids.size(), C);
  Array<double> covariances = make_array<double>(ids.size(), C, C);
  for (std::size_t n = 0; n < ids.size(); ++n) {
    try {
      const Shape shape = people.shape_of(ids[n]);
      std::copy(shape.mean.begin(), shape.mean.end(), writable<2>(means).row(n).begin());
      std::copy(shape.covariance.begin(), shape.covariance.end(),
                writable<3>(covariances).row(n).begin());
    } catch (const std::out_of_range&) {
      throw py::key_error(ids[n]);
    }
  }
  return py::make_tuple(means, covariances);
}

template <class T>
py::object list_of(const T& values) {
  return array_of(values).attr("tolist")();
}

py::dict state_of(const Person& person) {
  const PoseState& pose = person.filter.state;
  const ShapeMemory& memory = person.memory;
  const Shape shape = memory.shape();
  const MeasuredSize& size = memory.size;
  return py::dict(
      "id"_a = person.id, "number"_a = person.number, "identity"_a = list_of(person.identity),
      "pose_of_identity"_a = list_of(person.pose_of_identity), "has_depth"_a = person.has_depth,
      "covered"_a = person.covered,
      "keypoints_uv"_a = list_of(person.keypoints_uv),
      "velocity_px_s"_a = list_of(person.velocity_px_s), "seen_s"_a = person.seen_s,
      "filter"_a = py::dict("T_cam_head"_a = list_of(pose.T_cam_head),
                            "velocity"_a = list_of(pose.velocity),
                            "covariance"_a = list_of(pose.covariance),
                            "stamp_s"_a = pose.stamp_s, "outliers"_a = person.filter.outliers),
      "memory"_a = py::dict("mean"_a = list_of(shape.mean),
                            "covariance"_a = list_of(shape.covariance),
                            "stamp_s"_a = memory.stamp_s, "seen_s"_a = memory.seen_s,
                            "learned_matrix"_a = list_of(memory.learned.matrix),
                            "learned_vector"_a = list_of(memory.learned.vector),
                            "most"_a = memory.most,
                            "size"_a = std::vector<double>{
                                size.seen_s, size.view[0], size.view[1], size.view[2],
                                size.mean[0], size.mean[1], size.size_variance, size.covariance,
                                size.error_variance}));
}

template <int N>
Buffer<double, N> buffer(const py::dict& state, const char* name,
                         const std::array<Index, N>& shape) {
  const Array<double> array(py::object(state[name]));
  // An array of no rows is written down without its other lengths.
  if (array.size() != 0 || shape[0] != 0) {
    if (shape_of<N>(array) != shape) throw py::value_error(std::string(name) + ": another shape");
  }
  Buffer<double, N> values(shape);
  std::copy(array.data(), array.data() + array.size(), values.data());
  return values;
}

Person person_of(const People& people, const py::dict& state) {
  const py::dict of_filter = state["filter"], of_memory = state["memory"];
  const auto number = [](const py::dict& from, const char* name) {
    return py::object(from[name]).cast<double>();
  };
  const Population& population = *people.population;
  const Index C = population.shape.mean.rows(), I = population.identity.mean.rows();
  PoseFilter filter(matrix<4, 4>(Array<double>(py::object(of_filter["T_cam_head"]))), {},
                    number(of_filter, "stamp_s"), people.options.filter);
  filter.state.velocity = vector<6>(Array<double>(py::object(of_filter["velocity"])));
  filter.state.covariance = matrix<12, 12>(Array<double>(py::object(of_filter["covariance"])));
  filter.outliers = py::object(of_filter["outliers"]).cast<int>();
  ShapeMemory memory(people.population, number(of_memory, "stamp_s"));
  const Buffer<double, 1> mean = buffer<1>(of_memory, "mean", {C});
  const Buffer<double, 2> covariance = buffer<2>(of_memory, "covariance", {C, C});
  memory.identity = Shape({mean, covariance}, population.kinds.identity);
  memory.expression = Shape({mean, covariance}, population.kinds.expression);
  memory.seen_s = number(of_memory, "seen_s");
  memory.most = number(of_memory, "most");
  memory.learned.matrix = buffer<2>(of_memory, "learned_matrix", {I, I});
  memory.learned.vector = buffer<1>(of_memory, "learned_vector", {I});
  const Buffer<double, 1> size = buffer<1>(of_memory, "size", {9});
  memory.size = {size[0], {size[1], size[2], size[3]}, {size[4], size[5]},
                 size[6], size[7], size[8]};
  memory.expect_view(memory.size.view);
  const Index keypoints = py::len(state["keypoints_uv"]);
  return {py::object(state["id"]).cast<std::string>(),
          py::object(state["number"]).cast<Index>(),
          filter,
          std::move(memory),
          buffer<1>(state, "identity", {I}),
          buffer<2>(state, "pose_of_identity", {6, I}),
          py::object(state["has_depth"]).cast<bool>(),
          number(state, "covered"),
          buffer<2>(state, "keypoints_uv", {keypoints, 2}),
          number(state, "seen_s"),
          vector<2>(Array<double>(py::object(state["velocity_px_s"])))};
}

py::dict state_of_all(const People& people) {
  py::list all;
  for (const Person& person : people.people) all.append(state_of(person));
  return py::dict("id_prefix"_a = people.id_prefix, "count"_a = people.count,
                  "stamp_s"_a = people.stamp_s, "people"_a = all);
}

void restore(People& people, const py::dict& state) {
  std::vector<Person> all;
  for (const py::handle person : state["people"])
    all.push_back(person_of(people, person.cast<py::dict>()));
  auto id_prefix = py::object(state["id_prefix"]).cast<std::string>();
  const Index count = py::object(state["count"]).cast<Index>();
  people.stamp_s = py::object(state["stamp_s"]).cast<double>();
  people.id_prefix = std::move(id_prefix);
  people.count = count;
  people.people = std::move(all);
}

py::dict associate_arrays(const Array<double>& T_known, const Array<double>& covariance_known,
                          const Array<double>& identity_known, const Array<double>& T_measured,
                          const Array<double>& covariance, const Array<double>& identity,
                          const Array<double>& pose_of_identity, double gate_m) {
  const auto heads = [](const Array<double>& T, const Array<double>& of_pose,
                        const Array<double>& who, const View<const double, 3>* G) {
    std::vector<Head> all;
    for (Index n = 0; n < T.shape(0); ++n) {
      Head head{{}, {}, view<2>(who).row(n), {}};
      std::copy_n(view<3>(T).row(n).begin(), 16, head.T_cam_head.values.begin());
      std::copy_n(view<3>(of_pose).row(n).begin(), 36, head.covariance.values.begin());
      if (G) head.pose_of_identity = G->row(n);
      all.push_back(head);
    }
    return all;
  };
  const View<const double, 3> G = view<3>(pose_of_identity);
  const std::vector<Index> tracks =
      associate(heads(T_known, covariance_known, identity_known, nullptr),
                heads(T_measured, covariance, identity, &G), gate_m);
  py::dict found;
  for (std::size_t n = 0; n < tracks.size(); ++n)
    if (tracks[n] >= 0) found[py::int_(n)] = tracks[n];
  return found;
}

// The parts of the tracker by themselves, for tests.
void bind_parts(py::module_& m) {
  m.attr("GATE") = GATE;
  py::class_<PoseState>(m, "PoseState", "State of the pose filter, see src/filter.hpp.")
      .def(py::init([](const Array<double>& T, const Array<double>& velocity,
                       const Array<double>& covariance, double stamp_s) {
             return PoseState{matrix<4, 4>(T), vector<6>(velocity), matrix<12, 12>(covariance),
                              stamp_s};
           }),
           "T_cam_head"_a, "velocity"_a, "covariance"_a, "stamp_s"_a)
      .def_property_readonly("T_cam_head", [](const PoseState& s) { return array_of(s.T_cam_head); })
      .def_property_readonly("velocity", [](const PoseState& s) { return array_of(s.velocity); })
      .def_property_readonly("covariance", [](const PoseState& s) { return array_of(s.covariance); })
      .def_readonly("stamp_s", &PoseState::stamp_s)
      .def("predicted",
           [](const PoseState& state, double stamp_s, const py::object& options) {
             return predict(state, stamp_s, filter_options(options));
           })
      .def("corrected", [](const PoseState& state, const Array<double>& T_cam_head,
                           const Array<double>& covariance) {
        PoseState after;
        Matrix<6, 6> of_pose;
        correct(state, matrix<4, 4>(T_cam_head), matrix<6, 6>(covariance), 0,
                std::numeric_limits<double>::infinity(), after, of_pose);
        return after;
      });
  py::class_<PoseFilter>(m, "PoseFilter", "Filter of the pose of one head, see src/filter.hpp.")
      .def(py::init([](const Array<double>& T_cam_head, const Array<double>& covariance,
                       double stamp_s, const py::object& options) {
        return PoseFilter(matrix<4, 4>(T_cam_head), matrix<6, 6>(covariance), stamp_s,
                          filter_options(options));
      }))
      .def_property_readonly("state", [](const PoseFilter& filter) { return filter.state; })
      .def("predict",
           [](const PoseFilter& filter, double stamp_s) {
             return predict(filter.state, stamp_s, filter.options);
           })
      .def("shift",
           [](PoseFilter& filter, const Array<double>& delta) { filter.shift(vector<6>(delta)); })
      .def("update", [](PoseFilter& filter, const Array<double>& T_cam_head,
                        const Array<double>& covariance, double stamp_s) {
        const Matrix<6, 6> of_pose =
            filter.update(matrix<4, 4>(T_cam_head), matrix<6, 6>(covariance), stamp_s);
        return py::make_tuple(array_of(filter.state.T_cam_head), array_of(of_pose));
      });

  struct Memory {
    ShapeMemory memory;
    MemoryOptions options;
  };
  py::class_<Memory>(m, "ShapeMemory", "Memory of one person's shape, see src/shape_memory.hpp.")
      .def(py::init([](const Array<double>& mean, const Array<double>& covariance,
                       const Mask& is_expression, double stamp_s, const py::object& options) {
        return Memory{ShapeMemory(population(mean, covariance, is_expression), stamp_s),
                      memory_options(options)};
      }))
      .def_property_readonly("shape", [](const Memory& m) { return arrays_of(m.memory.shape()); })
      .def("advance", [](Memory& m, double stamp_s) { m.memory.advance(stamp_s, m.options); })
      .def("expect_view",
           [](Memory& m, const Array<double>& view) { m.memory.expect_view(vector<3>(view)); })
      .def("measure_size",
           [](Memory& m, double coefficient, const Array<double>& view) {
             m.memory.measure_size(coefficient, vector<3>(view), m.options);
           })
      .def("update", [](Memory& m, const Array<double>& mean, const Array<double>& covariance,
                        const Array<double>& prior_mean, const Array<double>& prior_covariance) {
        const Index count = m.memory.population->shape.mean.rows();
        m.memory.update(normal(mean, covariance, count),
                        normal(prior_mean, prior_covariance, count), m.options);
      });

  struct Face {
    Kinds kinds;
    FaceGivenIdentity given;
  };
  py::class_<Face>(m, "FaceGivenIdentity", "A fit factored by identity, see src/identity.hpp.")
      .def(py::init([](const Array<double>& T_cam_head,
                       const Array<double>& covariance_given_shape,
                       const Array<double>& pose_of_shape, const Array<double>& mean,
                       const Array<double>& covariance, const Mask& is_expression) {
        const Kinds kinds(is_expression);
        const FittedFace face = fitted(T_cam_head, covariance_given_shape, pose_of_shape, mean,
                                       covariance, is_expression.size());
        return Face{kinds, FaceGivenIdentity(face, kinds)};
      }))
      .def_property_readonly("covariance", [](const Face& f) { return array_of(f.given.covariance); })
      .def_property_readonly("pose_of_identity",
                             [](const Face& f) { return array_of(f.given.pose_of_identity); })
      .def("for_identity", [](const Face& f, const Array<double>& mean,
                              const Array<double>& covariance) {
        const Normal identity = normal(mean, covariance, f.given.identity.mean.rows());
        const ForIdentity known = f.given.for_identity(identity, f.kinds);
        return py::make_tuple(array_of(known.T_cam_head), array_of(known.covariance),
                              array_of(known.shape.mean), array_of(known.shape.covariance));
      });

  m.def("associate", associate_arrays, "T_known"_a, "covariance_known"_a, "identity_known"_a,
        "T_measured"_a, "covariance"_a, "identity"_a, "pose_of_identity"_a, "gate_m"_a,
        "Row of each of N measured heads that has a track -> row of its track, of M.");
  m.def(
      "assign", [](const Array<double>& cost) { return py::array(py::cast(assign(view<2>(cost)))); },
      "cost"_a);
}

}  // namespace

void bind_tracking(py::module_& m) {
  py::class_<People>(m, "People", "People over time, see src/people.hpp.")
      .def(py::init([](const Array<double>& mean, const Array<double>& covariance,
                       const Mask& is_expression, const py::object& options) {
             return std::make_unique<People>(population(mean, covariance, is_expression),
                                             tracking_options(options));
           }),
           "mean"_a, "covariance"_a, "is_expression"_a, "options"_a)
      .def(
          "set_options",
          [](People& people, const py::object& options, const Array<double>& mean,
             const Array<double>& covariance, const Mask& is_expression) {
            people.configure(population(mean, covariance, is_expression),
                             tracking_options(options));
          },
          "options"_a, "mean"_a, "covariance"_a, "is_expression"_a)
      .def_readwrite("id_prefix", &People::id_prefix)
      .def_readonly("stamp_s", &People::stamp_s)
      .def_property_readonly("ids",
                             [](const People& people) {
                               py::list ids;
                               for (const Person& person : people.people) ids.append(person.id);
                               return ids;
                             })
      .def("reset",
           [](People& people) {
             people.people.clear();
             people.stamp_s = -std::numeric_limits<double>::infinity();
           })
      .def("advance", &People::advance, "stamp_s"_a)
      .def("known_faces", known_faces, "max_age_s"_a, "points"_a)
      .def("shapes_of", shapes_of, "ids"_a)
      .def("change_camera", &People::change_camera, "before"_a, "after"_a)
      .def("track", update, "faces"_a, "stamp_s"_a)
      .def("state", state_of_all)
      .def("set_state", restore, "state"_a);
  bind_parts(m);
}

}  // namespace face_pose
