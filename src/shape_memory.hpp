// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Memory of the shape of one person: the identity is kept, expressions fade.
//
// The C coefficients of the face model split into I of the person's identity (size included) and E
// of expressions. Both are remembered as independent normal distributions, in prior standard
// deviations.
#pragma once

#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace face_pose {

// Normal distribution of M coefficients.
struct Normal {
  View<const double, 1> mean;
  View<const double, 2> covariance;  // positive definite
};

// The same, with memory of its own.
struct Shape {
  explicit Shape(Index count) : mean(count), covariance(count, count) {}
  explicit Shape(const Normal& all);  // a copy
  // Marginal distribution of some of the coefficients.
  Shape(const Normal& all, const std::vector<Index>& which);
  operator Normal() const { return {mean, covariance}; }

  Buffer<double, 1> mean;
  Buffer<double, 2> covariance;
};

// Indices of the coefficients that belong to the person, and of those of the moment.
struct Kinds {
  explicit Kinds(const std::vector<bool>& is_expression);
  std::vector<Index> identity, expression;
};

// What is known of the shape of anybody; identity and expressions are independent.
struct Population {
  Population(Shape of_all, const Kinds& kinds)
      : shape(std::move(of_all)),
        kinds(kinds),
        identity(shape, kinds.identity),
        expression(shape, kinds.expression) {}

  Shape shape;  // C
  Kinds kinds;
  Shape identity, expression;
};

// As `options.ShapeMemoryOptions`.
struct MemoryOptions {
  double correlation_time_s, shared_variance, expression_time_s;
};

// A person's size coefficient, by depth images.
//
// What a depth image measures is the size at which it agrees with the keypoints. These are a little
// too large or too small, by an error that is another one from each side. So the measured size is
// the sum of the person's own, which is constant, and of an error e of the view. Over the angle
// between views e is an Ornstein-Uhlenbeck process.
struct MeasuredSize {
  double seen_s = -std::numeric_limits<double>::infinity();  // stamp of the last one
  Vector<3> view{};                                          // of the last one
  double mean[2] = {0, 0};                                   // of the size and of e at the view
  double size_variance = 0, covariance = 0, error_variance = 0;

  bool known() const { return seen_s > -std::numeric_limits<double>::infinity(); }
};

// Information of measurements without any prior: the inverse of their covariance (M, M), which may
// be 0 in some directions, and it times the measured value (M,).
struct Information {
  explicit Information(Index count) : matrix(count, count), vector(count) {}
  Buffer<double, 2> matrix;
  Buffer<double, 1> vector;
};

// Estimates the shape of one person from all images so far.
struct ShapeMemory {
  // Starts with the prior, when the person is first seen.
  ShapeMemory(std::shared_ptr<const Population> population, double stamp_s);

  // Identity and expression together, C coefficients.
  Shape shape() const;

  // Lets expressions fade towards the prior (Ornstein-Uhlenbeck process) up to a stamp [s], which
  // is not before the last one.
  void advance(double stamp_s, const MemoryOptions& options);

  // Expects the size that suits a view: a unit vector (3,) in the head frame, to the camera.
  void expect_view(const Vector<3>& view);

  // Takes the size measured by a depth image at the last `advance`, in that view; before `update`.
  //
  // It becomes part of the person's prior, because images without depth have no information about
  // the size, however many follow. Images from the same side count as in `update`.
  void measure_size(double coefficient, const Vector<3>& view, const MemoryOptions& options);

  // Updates with the shape fitted to one image of the last `advance`; `prior` was given to the fit.
  //
  // The information of an image is that of the fit less that of its prior. It counts in full only
  // the first time: n images of a constant, with errors correlated by exp(-dt / correlation_time),
  // are worth m = 1 + (n - 1) tanh(dt / (2 correlation_time)) independent ones; and m images that
  // share a part s of their error's variance are worth m / (1 + s (m - 1)). Images are counted in
  // units of the most informative one.
  void update(const Normal& fitted, const Normal& prior, const MemoryOptions& options);

  std::shared_ptr<const Population> population;
  Shape expected;              // prior of the identity
  Shape identity, expression;  // at stamp_s
  double stamp_s;              // of the last `advance`
  double seen_s = -std::numeric_limits<double>::infinity();
  MeasuredSize size;
  Information learned;  // of the identity: the sum of all images
  double most = 0;      // trace of the largest information of one image
};

}  // namespace face_pose
