// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Pairs measured heads with tracks: likelihoods of the pairs, and the best joint assignment.
#pragma once

#include <vector>

#include "arrays.hpp"

namespace face_pose {

// A measured head, or a track's predicted one.
struct Head {
  Matrix<4, 4> T_cam_head;
  Matrix<6, 6> covariance;
  View<const double, 1> identity;          // (I,) coefficients for which the pose holds
  View<const double, 2> pose_of_identity;  // (6, I) its derivatives; of measured heads only
};

// The most likely pairs of N measured heads and M tracks, in a joint assignment: the track of each
// measured head, -1 where it has none.
//
// The likelihood of a pair is that of the measured pose under the predicted one, N(y; 0, S); that
// of an unpaired head is the one of a new head. The sum of the logarithms is maximal over all
// assignments (Kuhn-Munkres). The determinant of S counts for the position: the uncertain
// prediction of a lost head must not win against a certain one. It does not count for the
// rotation, which is unknown for new heads too. Poses are compared for the known identity.
//   gate_m  Largest distance from the prediction across the line of sight.
std::vector<Index> associate(const std::vector<Head>& known, const std::vector<Head>& measured,
                             double gate_m);

// Column of each row of cost (N, M) with the least sum; of N - M rows, if positive, it is -1.
std::vector<Index> assign(View<const double, 2> cost);

}  // namespace face_pose
