// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// A fitted face, conditional on the identity of the person: the joint normal distribution of pose
// and shape, factored by identity. The shape's C coefficients are I of the identity, at the
// indices `who`, and E of the expression, at the indices `how`.
#include "linalg.hpp"
#include "numpy.hpp"
#include "rotations.hpp"

namespace face_pose {

namespace {

void check(bool fits) {
  if (!fits) throw py::value_error("the numbers of shape coefficients differ");
}

// `FaceGivenIdentity.of` without the pose: the other fields in their order.
py::tuple factor_by_identity(const Array<double>& covariance_given_shape,
                             const Array<double>& pose_of_shape, const Array<double>& shape,
                             const Array<double>& shape_covariance,
                             const Array<Index>& identity_indices,
                             const Array<Index>& expression_indices) {
  const auto given_shape = matrix<6, 6>(covariance_given_shape);
  const auto G = view<2>(pose_of_shape), V = view<2>(shape_covariance);
  const auto mean = view<1>(shape);
  const auto who = view<1>(identity_indices), how = view<1>(expression_indices);
  const Index I = who.rows(), E = how.rows(), C = I + E;
  check(G.shape() == std::array<Index, 2>{6, C} && mean.rows() == C &&
        V.shape() == std::array<Index, 2>{C, C});
  auto covariance_array = make_array<double>(6, 6), G_array = make_array<double>(6, I);
  auto identity_array = make_array<double>(I), V_who_array = make_array<double>(I, I);
  auto expression_array = make_array<double>(E), K_array = make_array<double>(E, I);
  auto V_how_array = make_array<double>(E, E);
  const auto covariance = writable<2>(covariance_array), G_who = writable<2>(G_array);
  const auto identity = writable<1>(identity_array), expression = writable<1>(expression_array);
  const auto V_who = writable<2>(V_who_array), K = writable<2>(K_array);
  const auto V_how = writable<2>(V_how_array);

  const Buffer<double, 2> of_who(I, I), solved(I, E), G_how(6, E), scratch(6, E);
  for (Index a = 0; a < I; ++a) {
    identity[a] = mean[who[a]];
    for (Index b = 0; b < I; ++b) V_who(a, b) = of_who(a, b) = V(who[a], who[b]);
    for (Index e = 0; e < E; ++e) solved(a, e) = V(who[a], how[e]);
  }
  eliminate(of_who, solved);
  for (Index e = 0; e < E; ++e) {
    expression[e] = mean[how[e]];
    for (Index a = 0; a < I; ++a) K(e, a) = solved(a, e);
    for (Index f = 0; f < E; ++f) {
      V_how(e, f) = V(how[e], how[f]);
      for (Index a = 0; a < I; ++a) V_how(e, f) -= K(e, a) * V(who[a], how[f]);
    }
    for (Index i = 0; i < 6; ++i) G_how(i, e) = G(i, how[e]);
  }
  congruent(G_how, V_how, scratch, covariance);
  for (Index i = 0; i < 6; ++i) {
    for (Index j = 0; j < 6; ++j) covariance(i, j) += given_shape(i, j);
    for (Index a = 0; a < I; ++a) {
      G_who(i, a) = G(i, who[a]);
      for (Index e = 0; e < E; ++e) G_who(i, a) += G_how(i, e) * K(e, a);
    }
  }
  return py::make_tuple(covariance_array, G_array, identity_array, V_who_array, expression_array,
                        K_array, V_how_array);
}

// `FaceGivenIdentity.for_identity`: the pose, its covariance, and the mean and the covariance of
// the shape.
py::tuple condition_on_identity(
    const Array<double>& T_cam_head, const Array<double>& pose_of_identity,
    const Array<double>& fitted_identity, const Array<double>& fitted_expression,
    const Array<double>& expression_of_identity, const Array<double>& expression_covariance,
    const Array<double>& identity_mean, const Array<double>& identity_covariance,
    const Array<Index>& identity_indices, const Array<Index>& expression_indices) {
  const auto T = matrix<4, 4>(T_cam_head);
  const auto G = view<2>(pose_of_identity), K = view<2>(expression_of_identity);
  const auto V_how = view<2>(expression_covariance), V_who = view<2>(identity_covariance);
  const auto fitted = view<1>(fitted_identity), expression = view<1>(fitted_expression);
  const auto identity = view<1>(identity_mean);
  const auto who = view<1>(identity_indices), how = view<1>(expression_indices);
  const Index I = who.rows(), E = how.rows(), C = I + E;
  check(G.shape() == std::array<Index, 2>{6, I} && K.shape() == std::array<Index, 2>{E, I} &&
        V_how.shape() == std::array<Index, 2>{E, E} &&
        V_who.shape() == std::array<Index, 2>{I, I} && fitted.rows() == I &&
        identity.rows() == I && expression.rows() == E);
  auto T_array = make_array<double>(4, 4), covariance_array = make_array<double>(6, 6);
  auto mean_array = make_array<double>(C), V_array = make_array<double>(C, C);
  const auto mean = writable<1>(mean_array);
  const auto V = writable<2>(V_array);

  const Buffer<double, 2> cross(E, I), scratch(6, I);
  multiply(K, V_who, cross);
  Vector<6> delta{};
  for (Index a = 0; a < I; ++a) {
    const double change = identity[a] - fitted[a];
    mean[who[a]] = identity[a];
    for (Index i = 0; i < 6; ++i) delta[i] += G(i, a) * change;
    for (Index b = 0; b < I; ++b) V(who[a], who[b]) = V_who(a, b);
    for (Index e = 0; e < E; ++e) V(how[e], who[a]) = V(who[a], how[e]) = cross(e, a);
  }
  for (Index e = 0; e < E; ++e) {
    mean[how[e]] = expression[e];
    for (Index a = 0; a < I; ++a) mean[how[e]] += K(e, a) * (identity[a] - fitted[a]);
    for (Index f = 0; f < E; ++f) {
      V(how[e], how[f]) = V_how(e, f);
      for (Index a = 0; a < I; ++a) V(how[e], how[f]) += cross(e, a) * K(f, a);
    }
  }
  move_pose(T, delta, writable<2>(T_array));
  congruent(G, V_who, scratch, writable<2>(covariance_array));
  return py::make_tuple(T_array, covariance_array, mean_array, V_array);
}

}  // namespace

void bind_identity(py::module_& m) {
  m.def("factor_by_identity", factor_by_identity, "covariance_given_shape"_a, "pose_of_shape"_a,
        "shape"_a, "shape_covariance"_a, "identity_indices"_a, "expression_indices"_a);
  m.def("condition_on_identity", condition_on_identity, "T_cam_head"_a, "pose_of_identity"_a,
        "fitted_identity"_a, "fitted_expression"_a, "expression_of_identity"_a,
        "expression_covariance"_a, "identity_mean"_a, "identity_covariance"_a,
        "identity_indices"_a, "expression_indices"_a);
}

}  // namespace face_pose
