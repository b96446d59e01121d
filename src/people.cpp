// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "people.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <utility>

#include "linalg.hpp"

namespace face_pose {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();
constexpr double UNKNOWN = -1;
constexpr double NOWHERE = std::numeric_limits<double>::quiet_NaN();
// Variance of the keypoints of a face without depth relative to what is stated, if earlier depth
// images show how much of it is covered; see fit.cpp. Hands come and go, hair and glasses stay.
constexpr double CLEAR_VARIANCE = 0.6, COVERED_VARIANCE = 5, MAX_VARIANCE = 1.5;
constexpr double MIN_INTERVAL_S = 1e-3;  // between images, or stamps are wrong

Vector<2> mean_difference(View<const double, 2> uv, View<const double, 2> before) {
  Vector<2> mean{};
  for (Index k = 0; k < uv.rows(); ++k)
    for (Index i = 0; i < 2; ++i) mean[i] += (uv(k, i) - before(k, i)) / uv.rows();
  return mean;
}

// G d: how a pose moves with the identity's coefficients.
Vector<6> moved_by(View<const double, 2> G, View<const double, 1> after,
                   View<const double, 1> before) {
  Vector<6> delta{};
  for (Index i = 0; i < 6; ++i)
    for (Index a = 0; a < after.rows(); ++a) delta[i] += G(i, a) * (after[a] - before[a]);
  return delta;
}

// Adds G V G^T.
void add_congruent(View<const double, 2> G, View<const double, 2> V, Matrix<6, 6>& covariance) {
  const Buffer<double, 2> scratch(6, V.rows());
  Matrix<6, 6> added;
  congruent(G, V, scratch, added);
  for (Index i = 0; i < 36; ++i) covariance.values[i] += added.values[i];
}

// Covariance of a fit with a prior over repeated noise: V - V P^-1 V.
Buffer<double, 2> scatter(const Shape& fitted, Shape prior) {
  const Index count = fitted.mean.rows();
  Shape solved{Normal(fitted)};
  eliminate(prior.covariance, solved.covariance);
  Buffer<double, 2> result(count, count);
  multiply(fitted.covariance, solved.covariance, result);
  for (Index i = 0; i < result.size(); ++i)
    result.data()[i] = fitted.covariance.data()[i] - result.data()[i];
  return result;
}

// Relative to what is stated, for a face without depth.
double variance_of_keypoints(double covered) {
  if (covered == UNKNOWN) return 1;
  return std::min(CLEAR_VARIANCE + COVERED_VARIANCE * covered, MAX_VARIANCE);
}

// The fitted shape with the prior's size: as if the fit had no information about it.
Shape without_size(const Normal& fitted, const Normal& prior) {
  Shape shape(fitted);
  for (Index i = 0; i < shape.mean.rows(); ++i)
    shape.covariance(0, i) = shape.covariance(i, 0) = 0;
  shape.mean[0] = prior.mean[0];
  shape.covariance(0, 0) = prior.covariance(0, 0);
  return shape;
}

// Direction to the camera in the head frame.
Vector<3> view_of(const Matrix<4, 4>& T_cam_head) {
  Vector<3> view{};
  double distance_sq = 0;
  for (Index i = 0; i < 3; ++i) {
    distance_sq += T_cam_head(i, 3) * T_cam_head(i, 3);
    for (Index j = 0; j < 3; ++j) view[j] -= T_cam_head(i, j) * T_cam_head(i, 3);
  }
  for (double& value : view) value /= std::sqrt(distance_sq);
  return view;
}

template <int N>
Buffer<double, N> copied(View<const double, N> values) {
  Buffer<double, N> copy(values.shape());
  std::copy(values.begin(), values.end(), copy.begin());
  return copy;
}

std::string id_of(const std::string& prefix, Index number) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "f%05td", number);
  return prefix + digits;
}

void change_camera_of(Person& person, const Lens& before, const Lens& after) {
  constexpr double seconds_ahead = 0.01;
  const Buffer<double, 2>& uv = person.keypoints_uv;
  const Index count = uv.rows(), all = count + 2;  // the mean, now and a moment later
  const Buffer<double, 2> points(2, all), rays(3, all);
  const Buffer<double, 3> J(2, 3, all);
  const Buffer<bool, 1> usable(all);
  std::fill(usable.begin(), usable.end(), true);
  for (Index i = 0; i < 2; ++i) {
    double total = 0;
    for (Index k = 0; k < count; ++k) total += points(i, k) = uv(k, i);
    points(i, count) = total / count;
    points(i, count + 1) = total / count + seconds_ahead * person.velocity_px_s[i];
  }
  unproject(before, points, rays, J, usable);
  project(after, rays);
  bool all_seen = true;
  for (Index k = 0; k < all; ++k) all_seen = all_seen && usable[k] && rays(2, k) > 0;
  for (Index i = 0; i < 2; ++i) {
    for (Index k = 0; k < count; ++k) uv(k, i) = all_seen ? rays(i, k) : NOWHERE;
    person.velocity_px_s[i] =
        all_seen ? (rays(i, count + 1) - rays(i, count)) / seconds_ahead : NOWHERE;
  }
}

}  // namespace

bool Person::has_keypoints() const { return std::abs(keypoints_uv(0, 0)) < INFINITE; }

void Person::set_keypoints(View<const double, 2> uv, double stamp_s) {
  velocity_px_s = {};
  if (has_keypoints()) {
    velocity_px_s = mean_difference(uv, keypoints_uv);
    for (double& value : velocity_px_s) value /= std::max(stamp_s - seen_s, MIN_INTERVAL_S);
  }
  std::copy(uv.begin(), uv.end(), keypoints_uv.begin());
  seen_s = stamp_s;
}

void People::configure(std::shared_ptr<const Population> prior, const TrackingOptions& other) {
  const auto same = [](const auto& a, const auto& b) {
    return std::equal(a.begin(), a.end(), b.begin());
  };
  const bool is_other = !same(prior->shape.mean, population->shape.mean) ||
                        !same(prior->shape.covariance, population->shape.covariance);
  options = other;
  for (Person& person : people) {
    person.filter.options = options.filter;
    if (is_other) person.memory = ShapeMemory(prior, stamp_s);
  }
  population = std::move(prior);
}

std::vector<const Person*> People::recent(double max_age_s) const {
  std::vector<const Person*> found;
  for (const Person& person : people)
    if (person.seen_s >= stamp_s - max_age_s && person.has_keypoints()) found.push_back(&person);
  return found;
}

Shape People::shape_of(const std::string& id) const {
  if (id.empty()) return Shape(Normal(population->shape));
  for (const Person& person : people)
    if (person.id == id) return person.memory.shape();
  throw std::out_of_range(id);
}

void People::change_camera(const Lens& before, const Lens& after) {
  for (Person& person : people) change_camera_of(person, before, after);
}

void People::advance(double to_s) {
  if (to_s == stamp_s) return;
  if (to_s < stamp_s) people.clear();
  stamp_s = to_s;
  const auto is_lost = [this](const Person& person) {
    return !(person.seen_s >= stamp_s - options.lost_after_s);
  };
  people.erase(std::remove_if(people.begin(), people.end(), is_lost), people.end());
  for (Person& person : people) person.memory.advance(stamp_s, options.shape);
}

std::vector<TrackedFace> People::update(const std::vector<SeenFace>& faces, double at_s) {
  advance(at_s);
  std::vector<FaceGivenIdentity> given;
  std::vector<Shape> priors;  // before any of the people learns from this image
  bool have_depth = false;
  for (const SeenFace& face : faces) {
    given.emplace_back(face, population->kinds);
    priors.push_back(shape_of(face.prior_of));
    have_depth = have_depth || face.has_depth;
  }
  const std::vector<Index> rows = associated(given, have_depth);
  std::vector<TrackedFace> tracked;
  for (std::size_t n = 0; n < faces.size(); ++n)
    tracked.push_back(updated(rows[n], faces[n], given[n], priors[n]));
  return tracked;
}

std::vector<Index> People::associated(const std::vector<FaceGivenIdentity>& given,
                                      bool have_depth) const {
  std::vector<Head> known, measured;
  for (const Person& person : people) {
    const PoseState state = predict(person.filter.state, stamp_s, person.filter.options);
    Head head{state.T_cam_head, {}, person.identity, {}};
    for (Index i = 0; i < 6; ++i)
      for (Index j = 0; j < 6; ++j) head.covariance(i, j) = state.covariance(i, j);
    // The first depth image of a person replaces the size that the prior expected.
    if (have_depth && !person.has_depth)
      add_congruent(person.pose_of_identity, person.memory.identity.covariance, head.covariance);
    known.push_back(head);
  }
  for (const FaceGivenIdentity& face : given)
    measured.push_back(
        {face.T_cam_head, face.covariance, face.identity.mean, face.pose_of_identity});
  return associate(known, measured, options.gate_m);
}

TrackedFace People::updated(Index row, const SeenFace& face, const FaceGivenIdentity& given,
                            const Normal& prior) {
  const bool is_new = row < 0;
  ShapeMemory first(population, stamp_s);
  ShapeMemory& memory = is_new ? first : people[row].memory;
  Matrix<6, 6> of_image = given.covariance;
  if (!is_new && !face.has_depth)
    for (double& value : of_image.values) value *= variance_of_keypoints(people[row].covered);
  Matrix<6, 6> noise = of_image;
  if (!options.remember_shape) {
    const auto spread =
        scatter(given.identity, Shape(prior, population->kinds.identity));
    add_congruent(given.pose_of_identity, spread, noise);
  } else if (face.has_depth) {
    // The size that takes the keypoints to the measured ranges. The fit divides what they disagree
    // on between the size and the keypoints' own errors; but most of these are the same in every
    // image of a person, and cancel when this size is used without a depth image later.
    memory.measure_size(face.size_coefficient, view_of(face.T_cam_head), options.shape);
    memory.update(without_size(face.shape, prior), prior, options.shape);
  } else {
    memory.expect_view(view_of(face.T_cam_head));
    memory.update(face.shape, prior, options.shape);
  }
  const Normal identity = options.remember_shape ? memory.identity : given.identity;
  ForIdentity known = given.for_identity(identity, population->kinds);
  Matrix<4, 4> T_cam_head = known.T_cam_head;
  Matrix<6, 6> covariance = noise;
  if (is_new) {
    ++count;
    people.push_back({id_of(id_prefix, count),
                      count,
                      {T_cam_head, noise, stamp_s, options.filter},
                      std::move(first),
                      copied(identity.mean),
                      copied(View<const double, 2>(given.pose_of_identity)),
                      face.has_depth,
                      face.has_depth ? face.covered : UNKNOWN,
                      copied(face.keypoints_uv),
                      stamp_s,
                      {}});
  } else {
    Person& person = people[row];
    if (options.remember_shape) {
      const bool appears = face.has_depth && !person.has_depth;
      person.filter.shift(moved_by(appears ? person.pose_of_identity : given.pose_of_identity,
                                   identity.mean, person.identity));
    }
    covariance = person.filter.update(T_cam_head, noise, stamp_s);
    T_cam_head = person.filter.state.T_cam_head;
    person.set_keypoints(face.keypoints_uv, stamp_s);
    person.identity = copied(identity.mean);
    person.pose_of_identity = copied(View<const double, 2>(given.pose_of_identity));
    person.has_depth = face.has_depth;
    if (face.has_depth) person.covered = face.covered;
  }
  if (!options.filter_poses) {
    T_cam_head = known.T_cam_head;
    covariance = of_image;
  }
  for (Index i = 0; i < 36; ++i) covariance.values[i] += known.covariance.values[i];
  const Person& person = is_new ? people.back() : people[row];
  return {person.id, person.number, T_cam_head, covariance, std::move(known.shape)};
}

}  // namespace face_pose
