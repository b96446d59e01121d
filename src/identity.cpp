// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "identity.hpp"

#include <utility>
#include <vector>

#include "linalg.hpp"
#include "rotations.hpp"

namespace face_pose {

FaceGivenIdentity::FaceGivenIdentity(const FittedFace& face, const Kinds& kinds)
    : T_cam_head(face.T_cam_head),
      covariance(face.covariance_given_shape),
      pose_of_identity(6, kinds.identity.size()),
      identity(face.shape, kinds.identity),
      expression(kinds.expression.size()),
      expression_of_identity(kinds.expression.size(), kinds.identity.size()),
      expression_covariance(kinds.expression.size(), kinds.expression.size()) {
  const std::vector<Index>&who = kinds.identity, &how = kinds.expression;
  const Index I = who.size(), E = how.size();
  const auto G = face.pose_of_shape, V = face.shape.covariance;
  const auto &K = expression_of_identity, &V_how = expression_covariance;
  const Buffer<double, 2> of_who(I, I), solved(I, E), G_how(6, E), scratch(6, E);
  for (Index a = 0; a < I; ++a) {
    for (Index b = 0; b < I; ++b) of_who(a, b) = V(who[a], who[b]);
    for (Index e = 0; e < E; ++e) solved(a, e) = V(who[a], how[e]);
  }
  eliminate(of_who, solved);
  for (Index e = 0; e < E; ++e) {
    expression[e] = face.shape.mean[how[e]];
    for (Index a = 0; a < I; ++a) K(e, a) = solved(a, e);
    for (Index f = 0; f < E; ++f) {
      V_how(e, f) = V(how[e], how[f]);
      for (Index a = 0; a < I; ++a) V_how(e, f) -= K(e, a) * V(who[a], how[f]);
    }
    for (Index i = 0; i < 6; ++i) G_how(i, e) = G(i, how[e]);
  }
  Matrix<6, 6> of_expression;
  congruent(G_how, V_how, scratch, of_expression);
  for (Index i = 0; i < 6; ++i) {
    for (Index j = 0; j < 6; ++j) covariance(i, j) += of_expression(i, j);
    for (Index a = 0; a < I; ++a) {
      pose_of_identity(i, a) = G(i, who[a]);
      for (Index e = 0; e < E; ++e) pose_of_identity(i, a) += G_how(i, e) * K(e, a);
    }
  }
}

ForIdentity FaceGivenIdentity::for_identity(const Normal& other, const Kinds& kinds) const {
  const std::vector<Index>&who = kinds.identity, &how = kinds.expression;
  const Index I = who.size(), E = how.size();
  const auto &G = pose_of_identity, &K = expression_of_identity;
  Shape shape(I + E);
  const auto &mean = shape.mean;
  const auto &V = shape.covariance;
  const Buffer<double, 2> cross(E, I), scratch(6, I);
  multiply(K, other.covariance, cross);
  Vector<6> delta{};
  for (Index a = 0; a < I; ++a) {
    const double change = other.mean[a] - identity.mean[a];
    mean[who[a]] = other.mean[a];
    for (Index i = 0; i < 6; ++i) delta[i] += G(i, a) * change;
    for (Index b = 0; b < I; ++b) V(who[a], who[b]) = other.covariance(a, b);
    for (Index e = 0; e < E; ++e) V(how[e], who[a]) = V(who[a], how[e]) = cross(e, a);
  }
  for (Index e = 0; e < E; ++e) {
    mean[how[e]] = expression[e];
    for (Index a = 0; a < I; ++a) mean[how[e]] += K(e, a) * (other.mean[a] - identity.mean[a]);
    for (Index f = 0; f < E; ++f) {
      V(how[e], how[f]) = expression_covariance(e, f);
      for (Index a = 0; a < I; ++a) V(how[e], how[f]) += cross(e, a) * K(f, a);
    }
  }
  Matrix<4, 4> moved;
  Matrix<6, 6> of_identity;
  move_pose(T_cam_head, delta, moved);
  congruent(G, other.covariance, scratch, of_identity);
  return {moved, of_identity, std::move(shape)};
}

}  // namespace face_pose
