// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "shape_memory.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "linalg.hpp"

namespace face_pose {
namespace {

constexpr double MAX_SIGMAS = 3;  // bounds the influence of outliers
// Of a size measured by depth, in prior standard deviations: what the keypoints add in one view,
// by how much the angle [rad] between two views they no longer do so alike, and what one image adds.
constexpr double VIEW_SIGMA = 0.33, VIEW_ANGLE = 0.5, IMAGE_SIGMA = 0.09;
constexpr double SAME_VIEW = 0.05;  // rad

// How much an image counts whose errors are correlated with those of one before it.
double share_of_image(double interval_s, const MemoryOptions& options) {
  return std::tanh(0.5 * interval_s / options.correlation_time_s);
}

double angle_between(const Vector<3>& a, const Vector<3>& b) {
  return std::acos(std::clamp(a[0] * b[0] + a[1] * b[1] + a[2] * b[2], -1., 1.));
}

// Information of a fit about some of the coefficients, without that of its prior, into `image`.
FACE_POSE_WIDE
void inform(const std::vector<Index>& which, const Normal& fitted, const Normal& prior,
            Information& image) {
  const Index count = static_cast<Index>(which.size());
  const Buffer<double, 2> V(count, count), P(count, count), L(count, count), L_inv(count, count);
  const Buffer<double, 2> rows(count, count), axes(count, count), scratch(count, count);
  for (Index a = 0; a < count; ++a)
    for (Index b = 0; b < count; ++b) {
      V(a, b) = fitted.covariance(which[a], which[b]);
      P(a, b) = prior.covariance(which[a], which[b]);
    }
  // In these axes the prior is N(0, 1) and the fit's covariance is diagonal.
  cholesky(P, L);
  for (Index b = 0; b < count; ++b) {
    L_inv(b, b) = 1 / L(b, b);
    for (Index a = b + 1; a < count; ++a)
      for (Index k = b; k < a; ++k) L_inv(a, b) -= L(a, k) * L_inv(k, b) / L(a, a);
  }
  congruent(L_inv, V, scratch, P);
  const Buffer<double, 1> variance(count);
  symmetric_eigen(P, variance, rows);
  multiply(rows, L_inv, axes);
  for (Index k = 0; k < count; ++k) {
    // A fit that is less certain than its prior, due to large residuals, has no information.
    const double learned = std::max(1 / variance[k] - 1, 0.0);
    double before = 0, pull = 0;
    for (Index a = 0; a < count; ++a) {
      const double mean = prior.mean[which[a]];
      before += axes(k, a) * mean;
      pull += (1 + learned) * axes(k, a) * (fitted.mean[which[a]] - mean);
    }
    // Information times measured value; |value| rarely exceeds sqrt(1 + 1 / learned).
    const double limit = MAX_SIGMAS * std::sqrt(learned * (1 + learned));
    pull = std::min(std::max(pull, -limit), limit);
    for (Index a = 0; a < count; ++a) {
      image.vector[a] += axes(k, a) * (learned * before + pull);
      for (Index b = 0; b < count; ++b) image.matrix(a, b) += learned * axes(k, a) * axes(k, b);
    }
  }
}

// What is known, fused with a share of the information.
FACE_POSE_WIDE
void fuse(const Normal& known, const Information& information, double share, Shape& fused) {
  const Index count = known.mean.rows();
  const Buffer<double, 2> spent(count, count), total(count, count);
  const Buffer<double, 1> pulled(count);
  for (Index a = 0; a < count; ++a) {
    total(a, a) = 1;
    for (Index b = 0; b < count; ++b) spent(a, b) = known.covariance(a, b);
  }
  eliminate(spent, total);
  for (Index a = 0; a < count; ++a) {
    pulled[a] = share * information.vector[a];
    for (Index b = 0; b < count; ++b) {
      pulled[a] += total(a, b) * known.mean[b];
      spent(a, b) = total(a, b) + share * information.matrix(a, b);
    }
  }
  for (Index a = 0; a < count; ++a)
    for (Index b = 0; b < count; ++b) fused.covariance(a, b) = a == b ? 1 : 0;
  eliminate(spent, fused.covariance);
  for (Index a = 0; a < count; ++a) {
    fused.mean[a] = 0;
    for (Index b = 0; b < count; ++b) fused.mean[a] += fused.covariance(a, b) * pulled[b];
  }
}

}  // namespace

Shape::Shape(const Normal& all) : Shape(all.mean.rows()) {
  std::copy(all.mean.begin(), all.mean.end(), mean.begin());
  std::copy(all.covariance.begin(), all.covariance.end(), covariance.begin());
}

Shape::Shape(const Normal& all, const std::vector<Index>& which) : Shape(which.size()) {
  for (Index a = 0; a < mean.rows(); ++a) {
    mean[a] = all.mean[which[a]];
    for (Index b = 0; b < mean.rows(); ++b) covariance(a, b) = all.covariance(which[a], which[b]);
  }
}

Kinds::Kinds(const std::vector<bool>& is_expression) {
  for (std::size_t i = 0; i < is_expression.size(); ++i)
    (is_expression[i] ? expression : identity).push_back(i);
}

ShapeMemory::ShapeMemory(std::shared_ptr<const Population> of_all, double stamp_s)
    : population(std::move(of_all)),
      expected(Normal(population->identity)),
      identity(Normal(population->identity)),
      expression(Normal(population->expression)),
      stamp_s(stamp_s),
      learned(identity.mean.rows()) {}

Shape ShapeMemory::shape() const {
  Shape joined(population->shape.mean.rows());
  const auto put = [&joined](const Shape& part, const std::vector<Index>& which) {
    for (Index a = 0; a < part.mean.rows(); ++a) {
      joined.mean[which[a]] = part.mean[a];
      for (Index b = 0; b < part.mean.rows(); ++b)
        joined.covariance(which[a], which[b]) = part.covariance(a, b);
    }
  };
  put(identity, population->kinds.identity);
  put(expression, population->kinds.expression);
  return joined;
}

void ShapeMemory::advance(double to_s, const MemoryOptions& options) {
  const double kept = std::exp(-(to_s - stamp_s) / options.expression_time_s);
  const Shape& rest = population->expression;
  const auto fade = [](const auto& from, double share, const auto& to) {
    for (Index i = 0; i < to.size(); ++i)
      to.data()[i] = from.data()[i] + share * (to.data()[i] - from.data()[i]);
  };
  fade(rest.mean, kept, expression.mean);
  fade(rest.covariance, kept * kept, expression.covariance);
  stamp_s = to_s;
}

void ShapeMemory::expect_view(const Vector<3>& view) {
  if (!size.known()) return;
  const double kept = std::exp(-angle_between(view, size.view) / VIEW_ANGLE);
  expected = Shape(Normal(population->identity));
  expected.mean[0] = size.mean[0] + kept * size.mean[1];
  // Without the variance of e, which is part of the keypoints' covariance.
  const double variance = size.size_variance + 2 * kept * size.covariance +
                          kept * kept * (size.error_variance - VIEW_SIGMA * VIEW_SIGMA);
  expected.covariance(0, 0) = std::max(variance, IMAGE_SIGMA * IMAGE_SIGMA);
}

void ShapeMemory::measure_size(double coefficient, const Vector<3>& view,
                               const MemoryOptions& options) {
  constexpr double of_view = VIEW_SIGMA * VIEW_SIGMA;
  double noise = IMAGE_SIGMA * IMAGE_SIGMA;
  if (!size.known()) {
    // Far more certain than the prior of adults, which would pull a child's size.
    size = {stamp_s, view, {coefficient, 0}, of_view + noise, -of_view, of_view};
    return expect_view(view);
  }
  const double angle = angle_between(view, size.view);
  if (angle > SAME_VIEW) {
    const double kept = std::exp(-angle / VIEW_ANGLE);
    size.mean[1] *= kept;
    size.covariance *= kept;
    size.error_variance = of_view + kept * kept * (size.error_variance - of_view);
    size.view = view;
  } else {
    noise /= std::max(share_of_image(stamp_s - size.seen_s, options), 1e-6);
  }
  size.seen_s = stamp_s;
  // Kalman's correction by the sum of both.
  const double of_size = size.size_variance + size.covariance;
  const double of_error = size.covariance + size.error_variance;
  const double total = of_size + of_error + noise;
  const double innovation = (coefficient - size.mean[0] - size.mean[1]) / total;
  size.mean[0] += of_size * innovation;
  size.mean[1] += of_error * innovation;
  size.size_variance -= of_size * of_size / total;
  size.covariance -= of_size * of_error / total;
  size.error_variance -= of_error * of_error / total;
  expect_view(view);
}

void ShapeMemory::update(const Normal& fitted, const Normal& prior, const MemoryOptions& options) {
  const double share = share_of_image(stamp_s - seen_s, options);
  seen_s = stamp_s;
  const Index I = identity.mean.rows();
  Information image(I), of_moment(expression.mean.rows());
  inform(population->kinds.identity, fitted, prior, image);
  inform(population->kinds.expression, fitted, prior, of_moment);
  double all_images = 0, this_image = 0;
  for (Index a = 0; a < I; ++a) {
    learned.vector[a] += share * image.vector[a];
    for (Index b = 0; b < I; ++b) learned.matrix(a, b) += share * image.matrix(a, b);
    all_images += learned.matrix(a, a);
    this_image += image.matrix(a, a);
  }
  most = std::max(most, this_image);
  const double images = most > 0 ? all_images / most : 1;
  const double worth = 1 / (1 + options.shared_variance * (std::max(images, 1.0) - 1));
  fuse(expected, learned, worth, identity);
  fuse(expression, of_moment, share, expression);
}

}  // namespace face_pose
