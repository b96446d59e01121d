// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// People over time: ids, what is remembered of each one's shape, filtered poses.
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "association.hpp"
#include "filter.hpp"
#include "identity.hpp"
#include "lens.hpp"
#include "shape_memory.hpp"

namespace face_pose {

// As `options.TrackingOptions`.
struct TrackingOptions {
  FilterOptions filter;
  MemoryOptions shape;
  double lost_after_s, gate_m;
  bool filter_poses, remember_shape;
};

struct Person {
  // Takes measured keypoints (K, 2), and their velocity since the last ones.
  void set_keypoints(View<const double, 2> uv, double stamp_s);
  // Whether the last image's camera sees all keypoints.
  bool has_keypoints() const;

  std::string id;
  Index number;  // of the id, from 1
  PoseFilter filter;
  ShapeMemory memory;
  Buffer<double, 1> identity;          // (I,) coefficients for which the filter's pose holds
  Buffer<double, 2> pose_of_identity;  // (6, I) how the last fit's pose moves with them
  bool has_depth;                      // whether that fit had ranges of a depth image
  double covered;                      // as in `SeenFace`, by the last depth image; -1: none
  Buffer<double, 2> keypoints_uv;  // (K, 2) px; all NaN: some are outside of the camera's image
  double seen_s;
  Vector<2> velocity_px_s;  // of the keypoints' mean
};

// A face fitted in one image.
struct SeenFace : FittedFace {
  std::string prior_of;                // id of the person whose shape was the prior, or empty
  View<const double, 2> keypoints_uv;  // (K, 2) px
  bool has_depth;
  double size_coefficient;  // by the depth image, if there was one
  double covered;           // ratio of its ranges that are not the face's to those that are
};

// The same face with the filtered pose and the remembered shape of its person.
struct TrackedFace {
  std::string id;
  Index number;
  Matrix<4, 4> T_cam_head;
  Matrix<6, 6> covariance;
  Shape shape;
};

// Associates the faces of each image with known people, by their predicted poses.
//
// A person without a measurement keeps the filter's prediction and is not reported, until it is
// measured again or lost. Ids are never used twice.
class People {
 public:
  People(std::shared_ptr<const Population> population, const TrackingOptions& options)
      : population(std::move(population)), options(options) {}

  // Sets other options. The shapes of known people are kept, unless the prior is another.
  void configure(std::shared_ptr<const Population> prior, const TrackingOptions& other);

  // Those measured at most max_age_s [s] before the last `advance`.
  std::vector<const Person*> recent(double max_age_s) const;

  // The estimated shape of a person, expressions faded up to the last `advance`; of an empty id
  // the prior of an unknown person. Throws std::out_of_range if nobody has this id.
  Shape shape_of(const std::string& id) const;

  // Moves the keypoints to another camera's pixels along their rays.
  void change_camera(const Lens& before, const Lens& after);

  // Goes on to a stamp [s] and forgets lost people; an earlier stamp forgets all.
  void advance(double to_s);

  // The same faces, in the same order. The fit of each was given `shape_of(prior_of)`, as it was
  // after `advance` to the same stamp.
  //
  // The pose of a fit holds for the shape of that fit. It is compared with a person's, and
  // filtered, as it would be for the shape remembered of that person. What is not known of the
  // shape is added to the covariance at the end, because no number of images averages it out.
  std::vector<TrackedFace> update(const std::vector<SeenFace>& faces, double at_s);

  std::shared_ptr<const Population> population;
  TrackingOptions options;
  std::string id_prefix;  // two cameras must not give two people the same id
  Index count = 0;        // ids given so far
  double stamp_s = -std::numeric_limits<double>::infinity();  // of the last image
  std::vector<Person> people;

 private:
  // Row of each face's person, -1 if it is a new one.
  std::vector<Index> associated(const std::vector<FaceGivenIdentity>& given, bool have_depth) const;
  // The face of the person at a row, or of a new one; `prior` is what its fit was given.
  TrackedFace updated(Index row, const SeenFace& face, const FaceGivenIdentity& given,
                      const Normal& prior);
};

}  // namespace face_pose
