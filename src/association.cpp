// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "association.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "linalg.hpp"
#include "rotations.hpp"

namespace face_pose {
namespace {

// Least standard deviations of a prediction: heads jerk, and fits have outliers.
constexpr double FLOOR_M = 0.05;
constexpr double FLOOR_RAD = 0.35;
// Expected number of new heads per cubic metre and image.
constexpr double NEW_PER_M3 = 0.02;
constexpr double PI = 3.14159265358979323846;

double determinant_3x3(const Matrix<6, 6>& S) {  // of the upper left block
  return S(0, 0) * (S(1, 1) * S(2, 2) - S(1, 2) * S(2, 1)) +
         S(0, 1) * (S(1, 2) * S(2, 0) - S(1, 0) * S(2, 2)) +
         S(0, 2) * (S(1, 0) * S(2, 1) - S(1, 1) * S(2, 0));
}

// Minus twice the logarithm of the likelihood that two heads are one, over that of a new head and
// a lost one; 0 if it is no better.
double cost_of_pair(const Head& known, const Head& measured, double gate_m) {
  const Matrix<4, 4>& T_known = known.T_cam_head;
  Vector<6> delta{};
  for (Index a = 0; a < known.identity.rows(); ++a) {
    const double change = known.identity[a] - measured.identity[a];
    for (Index i = 0; i < 6; ++i) delta[i] += measured.pose_of_identity(i, a) * change;
  }
  Matrix<4, 4> now;
  move_pose(measured.T_cam_head, delta, now);
  Matrix<6, 1> y;
  Vector<3> ray;
  Matrix<3, 3> turn{};
  for (Index i = 0; i < 3; ++i) {
    ray[i] = T_known(i, 3);
    y(i, 0) = now(i, 3) - ray[i];
    for (Index j = 0; j < 3; ++j)
      for (Index k = 0; k < 3; ++k) turn(i, j) += now(i, k) * T_known(j, k);
  }
  const Vector<3> omega = rotation_log(turn);
  const double norm = std::sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2]);
  double along = 0, across_sq = 0;
  for (Index i = 0; i < 3; ++i) {
    y(3 + i, 0) = omega[i];
    along += y(i, 0) * ray[i] / norm;
  }
  for (Index i = 0; i < 3; ++i) {
    const double across = y(i, 0) - along * ray[i] / norm;
    across_sq += across * across;
  }
  if (!(std::sqrt(across_sq) <= gate_m)) return 0;
  Matrix<6, 6> S;
  for (Index i = 0; i < 6; ++i) {
    for (Index j = 0; j < 6; ++j) S(i, j) = measured.covariance(i, j) + known.covariance(i, j);
    const double floor = i < 3 ? FLOOR_M : FLOOR_RAD;
    S(i, i) += floor * floor;
  }
  const double volume = std::pow(2 * PI, 3) * determinant_3x3(S);
  Matrix<6, 1> whitened = y;
  eliminate(S, whitened);
  double distance_sq = 0;
  for (Index i = 0; i < 6; ++i) distance_sq += y(i, 0) * whitened(i, 0);
  const double cost = distance_sq + std::log(std::abs(volume)) + 2 * std::log(NEW_PER_M3);
  return cost < 0 ? cost : 0;  // NaN is no pair either
}

// Column of each of N rows of cost (N, M), N <= M, with the least sum; all finite. Shortest
// augmenting paths (Kuhn-Munkres).
std::vector<Index> assign_rows(View<const double, 2> cost) {
  const Index rows = cost.rows(), columns = cost.columns();
  std::vector<double> of_row(rows), of_column(columns + 1);  // dual variables
  std::vector<Index> row_of(columns + 1, -1);  // the last column is the start of a path
  std::vector<Index> before(columns, columns);
  for (Index first = 0; first < rows; ++first) {
    Index column = columns;
    row_of[columns] = first;
    std::vector<double> slack(columns, std::numeric_limits<double>::infinity());
    std::vector<char> reached(columns + 1);
    while (row_of[column] >= 0) {
      reached[column] = true;
      const Index row = row_of[column];
      Index nearest = -1;
      for (Index j = 0; j < columns; ++j) {
        if (reached[j]) continue;
        const double reduced = cost(row, j) - of_row[row] - of_column[j];
        if (reduced < slack[j]) {
          slack[j] = reduced;
          before[j] = column;
        }
        if (nearest < 0 || slack[j] < slack[nearest]) nearest = j;
      }
      const double step = slack[nearest];
      for (Index j = 0; j <= columns; ++j) {
        if (reached[j]) {
          of_row[row_of[j]] += step;
          of_column[j] -= step;
        } else if (j < columns) {
          slack[j] -= step;
        }
      }
      column = nearest;
    }
    while (column != columns) {
      row_of[column] = row_of[before[column]];
      column = before[column];
    }
  }
  std::vector<Index> assigned(rows);
  for (Index j = 0; j < columns; ++j)
    if (row_of[j] >= 0) assigned[row_of[j]] = j;
  return assigned;
}

}  // namespace

std::vector<Index> assign(View<const double, 2> cost) {
  if (cost.rows() <= cost.columns()) return assign_rows(cost);
  const Buffer<double, 2> turned(cost.columns(), cost.rows());
  for (Index i = 0; i < cost.rows(); ++i)
    for (Index j = 0; j < cost.columns(); ++j) turned(j, i) = cost(i, j);
  const std::vector<Index> rows = assign_rows(turned);
  std::vector<Index> columns(cost.rows(), -1);
  for (Index j = 0; j < cost.columns(); ++j) columns[rows[j]] = j;
  return columns;
}

std::vector<Index> associate(const std::vector<Head>& known, const std::vector<Head>& measured,
                             double gate_m) {
  const Index N = measured.size(), M = known.size();
  std::vector<Index> tracks(N, -1);
  if (N == 0 || M == 0) return tracks;
  const Buffer<double, 2> cost(N, M);
  for (Index n = 0; n < N; ++n)
    for (Index m = 0; m < M; ++m) cost(n, m) = cost_of_pair(known[m], measured[n], gate_m);
  const std::vector<Index> columns = assign(cost);
  for (Index n = 0; n < N; ++n)
    if (columns[n] >= 0 && cost(n, columns[n]) < 0) tracks[n] = columns[n];
  return tracks;
}

}  // namespace face_pose
