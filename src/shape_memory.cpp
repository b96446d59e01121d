// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Memory of the shape of one person: what one image tells about the coefficients is taken out of
// its fit and fused with what is known. The shape's C coefficients are I of the identity, at the
// indices `who`, and E of the expression, at the indices `how`.
#include <algorithm>
#include <cmath>

#include "linalg.hpp"
#include "numpy.hpp"

namespace face_pose {

namespace {

constexpr double MAX_SIGMAS = 3;  // bounds the influence of outliers
constexpr const char* DIFFERENT_NUMBERS = "the numbers of shape coefficients differ";

// Normal distribution of M coefficients.
struct Normal {
  View<const double, 1> mean;
  View<const double, 2> covariance;
};

// Information of measurements without any prior: the inverse of their covariance (M, M), which may
// be 0 in some directions, and it times the measured value (M,).
struct Information {
  explicit Information(Index count) : matrix(count, count), vector(count) {}
  Buffer<double, 2> matrix;
  Buffer<double, 1> vector;
};

Normal normal(const Array<double>& mean, const Array<double>& covariance) {
  const Normal all{view<1>(mean), view<2>(covariance)};
  const Index count = all.mean.rows();
  if (all.covariance.shape() != std::array<Index, 2>{count, count})
    throw py::value_error("expected a mean (C,) and a covariance (C, C)");
  return all;
}

// Information of a fit about some of the coefficients, without that of its prior, into `image`.
FACE_POSE_WIDE
void inform(View<const Index, 1> which, const Normal& fitted, const Normal& prior,
            Information& image) {
  const Index count = which.rows();
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

// What is known, fused with a share of the information: mean (M,) and covariance (M, M).
py::tuple fused(const Normal& known, View<const double, 2> matrix, View<const double, 1> vector,
                double share) {
  const Index count = known.mean.rows();
  auto mean_array = make_array<double>(count);
  auto covariance_array = make_array<double>(count, count);
  const auto mean = writable<1>(mean_array);
  const auto covariance = writable<2>(covariance_array);
  const Buffer<double, 2> spent(count, count), total(count, count);
  const Buffer<double, 1> pulled(count);
  for (Index a = 0; a < count; ++a) {
    total(a, a) = 1;
    for (Index b = 0; b < count; ++b) spent(a, b) = known.covariance(a, b);
  }
  eliminate(spent, total);
  for (Index a = 0; a < count; ++a) {
    pulled[a] = share * vector[a];
    for (Index b = 0; b < count; ++b) {
      pulled[a] += total(a, b) * known.mean[b];
      spent(a, b) = total(a, b) + share * matrix(a, b);
      covariance(a, b) = a == b ? 1 : 0;
    }
  }
  eliminate(spent, covariance);
  for (Index a = 0; a < count; ++a) {
    mean[a] = 0;
    for (Index b = 0; b < count; ++b) mean[a] += covariance(a, b) * pulled[b];
  }
  return py::make_tuple(mean_array, covariance_array);
}

// Mean (M,) and covariance (M, M) between those at rest and the present ones, which count by their
// square for the covariance.
py::tuple faded(const Array<double>& rest_mean, const Array<double>& rest_covariance,
                const Array<double>& now_mean, const Array<double>& now_covariance, double share) {
  const Normal rest = normal(rest_mean, rest_covariance), now = normal(now_mean, now_covariance);
  const Index count = rest.mean.rows();
  if (now.mean.rows() != count) throw py::value_error(DIFFERENT_NUMBERS);
  auto mean = make_array<double>(count), covariance = make_array<double>(count, count);
  for (Index a = 0; a < count; ++a)
    writable<1>(mean)[a] = rest.mean[a] + share * (now.mean[a] - rest.mean[a]);
  for (Index a = 0; a < count; ++a)
    for (Index b = 0; b < count; ++b)
      writable<2>(covariance)(a, b) =
          rest.covariance(a, b) + share * share * (now.covariance(a, b) - rest.covariance(a, b));
  return py::make_tuple(mean, covariance);
}

// Mean (C,) and covariance (C, C) of independent identity and expression.
py::tuple joined(const Array<double>& identity_mean, const Array<double>& identity_covariance,
                 const Array<double>& expression_mean,
                 const Array<double>& expression_covariance, const Array<Index>& identity_indices,
                 const Array<Index>& expression_indices) {
  const Normal parts[] = {normal(identity_mean, identity_covariance),
                          normal(expression_mean, expression_covariance)};
  const View<const Index, 1> indices[] = {view<1>(identity_indices), view<1>(expression_indices)};
  const Index C = indices[0].rows() + indices[1].rows();
  auto mean_array = make_array<double>(C), covariance_array = make_array<double>(C, C);
  const auto mean = writable<1>(mean_array);
  const auto covariance = writable<2>(covariance_array);
  std::fill(covariance.begin(), covariance.end(), 0);
  for (int kind = 0; kind < 2; ++kind) {
    const Normal& part = parts[kind];
    const auto which = indices[kind];
    if (part.mean.rows() != which.rows()) throw py::value_error(DIFFERENT_NUMBERS);
    for (Index a = 0; a < which.rows(); ++a) {
      mean[which[a]] = part.mean[a];
      for (Index b = 0; b < which.rows(); ++b)
        covariance(which[a], which[b]) = part.covariance(a, b);
    }
  }
  return py::make_tuple(mean_array, covariance_array);
}

// `ShapeMemory.update`: adds to the learned information of the identity, in place, and returns the
// identity's and the expression's mean and covariance, and the most information of one image.
py::tuple update_shape(const Array<double>& fitted_mean, const Array<double>& fitted_covariance,
                       const Array<double>& prior_mean, const Array<double>& prior_covariance,
                       const Array<Index>& identity_indices, const Array<Index>& expression_indices,
                       const Array<double>& expected_mean,
                       const Array<double>& expected_covariance,
                       const Array<double>& expression_mean,
                       const Array<double>& expression_covariance, Array<double>& learned_matrix,
                       Array<double>& learned_vector, double most, double share,
                       double shared_variance) {
  const Normal fitted = normal(fitted_mean, fitted_covariance);
  const Normal prior = normal(prior_mean, prior_covariance);
  const Normal expected = normal(expected_mean, expected_covariance);
  const Normal expression = normal(expression_mean, expression_covariance);
  const auto who = view<1>(identity_indices), how = view<1>(expression_indices);
  const auto matrix = writable<2>(learned_matrix);
  const auto vector = writable<1>(learned_vector);
  const Index I = who.rows(), C = I + how.rows();
  if (fitted.mean.rows() != C || prior.mean.rows() != C || expected.mean.rows() != I ||
      expression.mean.rows() != C - I || vector.rows() != I ||
      matrix.shape() != std::array<Index, 2>{I, I})
    throw py::value_error(DIFFERENT_NUMBERS);
  Information image(I), of_moment(C - I);
  inform(who, fitted, prior, image);
  inform(how, fitted, prior, of_moment);
  double all_images = 0, this_image = 0;
  for (Index a = 0; a < I; ++a) {
    vector[a] += share * image.vector[a];
    for (Index b = 0; b < I; ++b) matrix(a, b) += share * image.matrix(a, b);
    all_images += matrix(a, a);
    this_image += image.matrix(a, a);
  }
  most = std::max(most, this_image);
  const double images = most > 0 ? all_images / most : 1;
  const double worth = 1 / (1 + shared_variance * (std::max(images, 1.0) - 1));
  return py::make_tuple(fused(expected, matrix, vector, worth),
                        fused(expression, of_moment.matrix, of_moment.vector, share), most);
}

}  // namespace

void bind_shape_memory(py::module_& m) {
  m.def("faded_shape", faded, "rest_mean"_a, "rest_covariance"_a, "now_mean"_a,
        "now_covariance"_a, "share"_a);
  m.def("joined_shape", joined, "identity_mean"_a, "identity_covariance"_a, "expression_mean"_a,
        "expression_covariance"_a, "identity_indices"_a, "expression_indices"_a);
  m.def("update_shape", update_shape, "fitted_mean"_a, "fitted_covariance"_a, "prior_mean"_a,
        "prior_covariance"_a, "identity_indices"_a, "expression_indices"_a, "expected_mean"_a,
        "expected_covariance"_a, "expression_mean"_a, "expression_covariance"_a,
        "learned_matrix"_a.noconvert(), "learned_vector"_a.noconvert(), "most"_a, "share"_a,
        "shared_variance"_a);
}

}  // namespace face_pose
