// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "fit.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <future>
#include <limits>
#include <optional>
#include <vector>

#include "covariance.hpp"
#include "pnp.hpp"

namespace face_pose {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();

constexpr Index MIN_KEYPOINTS = 6;     // what the closed-form start needs
constexpr double KNOWN_SIZE = 1e-9;    // a smaller relative standard deviation of the size is none
constexpr Index FACES_PER_THREAD = 2;  // below this, a thread costs more than it gains
// The keypoint network states the variance of faces that hair, hands and glasses cover in part. Of
// it, that of a face without them, and what the ratio of ranges to something else to those that
// agree adds, to 1 at most.
constexpr double CLEAR_VARIANCE = 0.45, COVERED_VARIANCE = 5;

// Weighs the prior of a size, so many squared standard deviations off, as Cauchy's kernel does.
//
// The normal prior of adults would pull a child's size, and the keypoints with it.
void weaken_size(double unexpected, Buffer<double, 2>& information) {
  const double root = std::sqrt(std::min(2 / (1 + unexpected), 1.));
  for (Index m = 0; m < information.rows(); ++m) {
    information(0, m) *= root;
    information(m, 0) *= root;
  }
}

// Variance of keypoints relative to what is stated, by the ranges of a face.
double variance_of_keypoints(View<const double, 1> evidence) {
  const double measured = evidence[1], agreeing = evidence[2];
  return std::min(CLEAR_VARIANCE + COVERED_VARIANCE * (measured - agreeing) / agreeing, 1.);
}

void fail(const Results& results, Index face, Stop stop) {
  const auto fill = [](auto view, double value) { std::fill(view.begin(), view.end(), value); };
  results.stop[face] = static_cast<std::int64_t>(stop);
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 4; ++j) results.T_cam_head(face, i, j) = i == j ? 1 : 0;
  fill(results.covariance.row(face), INFINITE);
  fill(results.covariance_given_shape.row(face), INFINITE);
  fill(results.pose_of_shape.row(face), 0);
  fill(results.shape.row(face), 0);
  fill(results.shape_covariance.row(face), INFINITE);
}

// Solves one face after the other, in memory of its own.
class Solver {
 public:
  Solver(const Problem& problem, const Input& input)
      : problem_(problem),
        input_(input),
        shape_(problem.modes() + 1),
        all_(problem.points.count()),
        seen_(problem.visibility ? all_.count() : 0),
        few_(problem.stride == 1 ? 0 : problem.few().count()),
        few_seen_(problem.visibility ? few_.count() : 0),
        work_(shape_, all_.count(), input.depth ? problem.surface.count() : 0),
        few_work_(shape_, few_.count(), 0),
        pnp_work_(problem.few().count()),
        range_work_(input.depth ? problem.surface.count() : 0),
        covariance_work_(shape_),
        c_(2, shape_),
        information_(shape_, shape_) {
    if (input.depth) ranges_.emplace(problem.surface, problem.size_sigma);
  }

  // Face number `face`, into the results.
  void solve(Index face, const Results& results);

 private:
  // The first round: fewer keypoints and a coarse tolerance, from one start or two, to choose
  // between them; which is better. T_ and c_ hold the starts, then where they came to.
  Index choose_start(const Prior& prior);

  const Problem& problem_;
  const Input& input_;
  Index shape_;  // number of coefficients
  Measured all_, seen_;
  Measured few_, few_seen_;  // empty if all are used, as in `Problem.few`
  std::optional<Ranges> ranges_;
  Work work_, few_work_;
  PnpWork pnp_work_;
  RangeWork range_work_;
  CovarianceWork covariance_work_;
  std::array<Pose, 2> T_;  // of a head of mean size
  Buffer<double, 2> c_;
  Buffer<double, 2> information_;
};

Index Solver::choose_start(const Prior& prior) {
  double trace = 0;
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 3; ++j) trace += T_[0](i, j) * T_[1](i, j);
  const Points& points = problem_.few();
  const bool are_all = problem_.stride == 1;
  const Measured& few = are_all ? all_ : few_;
  Measured& few_seen = are_all ? seen_ : few_seen_;
  Work& work = are_all ? work_ : few_work_;
  const Cost cost{problem_.kernel, problem_.kernel_scale, problem_.share(few.measured())};
  Index best = 0;
  double least = INFINITE;
  for (Index start = 0; start < (trace < MAX_TRACE_APART ? 2 : 1); ++start) {
    Pose& T = T_[start];
    const View<double, 1> c = c_.row(start);
    std::copy(prior.mean.begin(), prior.mean.end(), c.begin());
    if (problem_.visibility) weigh_visible(few, points, T, few_seen);
    const Measured& seen = problem_.visibility ? few_seen : few;
    // Residuals that come from the mean shape count as inliers.
    Cost wide = cost;
    wide.scale = widened(T, c, seen, points, prior, cost, work);
    minimise(T, c, seen, points, nullptr, prior, wide, problem_.coarse_tolerances, 1, work);
    // All starts are compared by the same cost.
    const double value = evaluate(T, c, few, points, nullptr, prior, cost, work);
    if (value < least) {
      best = start;
      least = value;
    }
  }
  return best;
}

void Solver::solve(Index face, const Results& results) {
  const double size_sigma = problem_.size_sigma;
  const Index row = std::min(face, input_.mean.rows() - 1);
  const Prior prior{input_.mean.row(row), information_};
  const double expected_size = 1 + size_sigma * prior.mean[0];
  if (!information_of(input_.prior_covariance.row(row), covariance_work_, information_))
    return fail(results, face, Stop::singular);
  measure(input_.uv.row(face), input_.cov_uv.row(face), input_.lens, all_);
  const Index count = all_.measured();
  if (count < MIN_KEYPOINTS) return fail(results, face, Stop::too_few_keypoints);
  if (problem_.stride > 1) take_every(problem_.stride, all_, few_);
  if (input_.T_init.size() > 0) {
    for (Index i = 0; i < 3; ++i)
      for (Index j = 0; j < 4; ++j)
        T_[0](i, j) = input_.T_init(face, i, j) / (j == 3 ? expected_size : 1);
    T_[1] = T_[0];
  } else {
    const Measured& few = problem_.stride == 1 ? all_ : few_;
    T_ = solve_pnp(problem_.few().xyz_head, few, problem_.order, pnp_work_);
  }
  const Index best = choose_start(prior);
  Pose& T = T_[best];
  const View<double, 1> c = c_.row(best);
  if (problem_.visibility) weigh_visible(all_, problem_.points, T, seen_);
  const Measured& measured = problem_.visibility ? seen_ : all_;
  const Ranges* ranges = nullptr;
  Cost cost{problem_.kernel, problem_.kernel_scale, problem_.share(count)};
  if (input_.depth) {
    const double found = read_ranges(T, c, expected_size, *input_.depth, problem_.noise,
                                     results.depth.row(face), range_work_, *ranges_);
    if (found > 0) {
      ranges = &*ranges_;
      c[0] = (found - 1) / std::max(size_sigma, KNOWN_SIZE);
      const double off = c[0] - prior.mean[0];
      weaken_size(off * off / input_.prior_covariance(row, 0, 0), information_);
      cost.information /= variance_of_keypoints(results.depth.row(face));
    }
  }
  const double expected_beta = problem_.efficiency.beta;
  const Descent descent = minimise(T, c, measured, problem_.points, ranges, prior, cost,
                                   problem_.tolerances, expected_beta, work_);
  const Efficiency efficiency{
      std::max(descent.efficiency.alpha, problem_.efficiency.alpha),
      std::clamp(descent.efficiency.beta, MIN_RELATIVE_BETA * expected_beta, 1.)};
  if (ranges) {
    // Scaled so that alpha and beta of the keypoints hold for the sum.
    const auto [alpha, beta] = range_efficiency(work_.ranges);
    const double relative = std::clamp(beta, MIN_RELATIVE_BETA, 1.) / efficiency.beta;
    const double factor =
        relative * relative * efficiency.alpha / std::max(alpha, problem_.range_alpha);
    for (Index i = 0; i < work_.H.size(); ++i)
      work_.H.data()[i] += (factor - 1) * work_.H_ranges.data()[i];
  }
  const double size = 1 + size_sigma * c[0];
  const PoseCovariance posterior{
      results.covariance.row(face), results.covariance_given_shape.row(face),
      results.pose_of_shape.row(face), results.shape_covariance.row(face)};
  const bool regular = posterior_covariance(work_.H, information_, efficiency, T, size,
                                            size_sigma, posterior, covariance_work_);
  double total = 0;
  for (Index i = 0; i < 3; ++i) {
    for (Index j = 0; j < 4; ++j) {
      total += T(i, j);
      results.T_cam_head(face, i, j) = (j == 3 ? size : 1) * T(i, j);
    }
    results.T_cam_head(face, 3, i) = 0;
  }
  results.T_cam_head(face, 3, 3) = 1;
  for (Index m = 0; m < shape_; ++m) {
    total += c[m];
    results.shape(face, m) = c[m];
  }
  results.cost[face] = descent.cost;
  results.iterations[face] = descent.iterations;
  results.stop[face] = static_cast<std::int64_t>(descent.stop);
  if (!(regular && std::abs(total) < INFINITE))
    fail(results, face, Stop::singular);
  else if (T(2, 3) <= 0 && !input_.lens.fisheye)
    fail(results, face, Stop::not_in_front);
}

}  // namespace

void fit_faces(const Problem& problem, const Input& input, const Results& results, Index threads) {
  const Index faces = input.uv.size(0);
  const auto solve = [&](Index first, Index last) {
    Solver solver(problem, input);
    for (Index face = first; face < last; ++face) solver.solve(face, results);
  };
  const Index parts = std::max<Index>(std::min(threads, faces / FACES_PER_THREAD), 1);
  std::vector<std::future<void>> others;
  // Deferred: where the system gives no more threads, this one solves all.
  for (Index part = 1; part < parts; ++part)
    others.push_back(std::async(std::launch::async | std::launch::deferred, solve,
                                faces * part / parts, faces * (part + 1) / parts));
  solve(0, faces / parts);
  for (std::future<void>& other : others) other.get();
}

}  // namespace face_pose
