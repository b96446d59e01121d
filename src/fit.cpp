// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Maximum a posteriori pose and shape of N faces: what `pose.fit.fit_pose` calls.
#include <algorithm>
#include <cmath>
#include <future>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include "covariance.hpp"
#include "lm.hpp"
#include "numpy.hpp"
#include "pnp.hpp"
#include "ranges.hpp"

namespace face_pose {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();

constexpr Index MIN_KEYPOINTS = 6;  // what the closed-form start needs
constexpr double KNOWN_SIZE = 1e-9;  // a smaller relative standard deviation of the size is none
constexpr Index FACES_PER_THREAD = 2;  // below this, a thread costs more than it gains

// What all faces of many calls have in common.
struct Problem {
  Points points;
  Points coarse;  // every stride-th of them: enough to know roughly where the head is
  Points surface;  // of the skin, where a depth image is read
  Index stride;
  Buffer<std::int64_t, 2> order;  // see `solve_pnp`
  double size_sigma;
  Kernel kernel;
  double kernel_scale;
  bool visibility;
  double independent_keypoints;
  Tolerances tolerances, coarse_tolerances;
  Efficiency efficiency;  // of the kernel under normal noise
  double range_alpha;     // as alpha, for ranges
  RangeNoise noise;

  Index modes() const { return points.modes.rows(); }
  // See `Cost.information`.
  double share(Index measured) const {
    return std::min(independent_keypoints / std::max<Index>(measured, 1), 1.);
  }
};

// N faces.
struct Input {
  View<const double, 3> uv;                // (N, K, 2) px
  View<const double, 4> cov_uv;            // (N, K, 2, 2) px^2
  const Lens& lens;
  View<const double, 2> mean;              // (N or 1, C) of the shape prior
  View<const double, 3> prior_covariance;  // (N or 1, C, C)
  View<const double, 3> T_init;            // (N, 4, 4), or empty
  const DepthView* depth;                  // may be null
};

// Of all faces, see `HeadPoses` and `PoseResult`.
struct Results {
  View<double, 3> T_cam_head, covariance, covariance_given_shape, pose_of_shape;
  View<double, 2> shape;
  View<double, 3> shape_covariance;
  View<double, 1> cost;
  View<std::int64_t, 1> iterations, stop;
  View<double, 2> depth;
};

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
        few_(problem.coarse.count()),
        seen_(problem.visibility ? all_.count() : 0),
        few_seen_(problem.visibility ? few_.count() : 0),
        ranges_(problem.surface, problem.size_sigma),
        work_(shape_, all_.count(), input.depth ? problem.surface.count() : 0),
        few_work_(shape_, few_.count(), 0),
        pnp_work_(few_.count()),
        range_work_(input.depth ? problem.surface.count() : 0),
        covariance_work_(shape_),
        c_(2, shape_),
        information_(shape_, shape_) {}

  // Face number `face`, into the results.
  void solve(Index face, const Results& results);

 private:
  // The first round: fewer keypoints and a coarse tolerance, from one start or two, to choose
  // between them; which is better. T_ and c_ hold the starts, then where they came to.
  Index choose_start(const Prior& prior);

  const Problem& problem_;
  const Input& input_;
  Index shape_;  // number of coefficients
  Measured all_, few_, seen_, few_seen_;
  Ranges ranges_;
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
  const Points& points = problem_.coarse;
  const Cost cost{problem_.kernel, problem_.kernel_scale, problem_.share(few_.measured())};
  Index best = 0;
  double least = INFINITE;
  for (Index start = 0; start < (trace < MAX_TRACE_APART ? 2 : 1); ++start) {
    Pose& T = T_[start];
    const View<double, 1> c = c_.row(start);
    std::copy(prior.mean.begin(), prior.mean.end(), c.begin());
    if (problem_.visibility) weigh_visible(few_, points, T, few_seen_);
    const Measured& seen = problem_.visibility ? few_seen_ : few_;
    // Residuals that come from the mean shape count as inliers.
    Cost wide = cost;
    wide.scale = widened(T, c, seen, points, prior, cost, few_work_);
    minimise(T, c, seen, points, nullptr, prior, wide, problem_.coarse_tolerances, 1, few_work_);
    // All starts are compared by the same cost.
    const double value = evaluate(T, c, few_, points, nullptr, prior, cost, few_work_);
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
  take_every(problem_.stride, all_, few_);
  if (input_.T_init.size() > 0) {
    for (Index i = 0; i < 3; ++i)
      for (Index j = 0; j < 4; ++j)
        T_[0](i, j) = input_.T_init(face, i, j) / (j == 3 ? expected_size : 1);
    T_[1] = T_[0];
  } else {
    T_ = solve_pnp(problem_.coarse.xyz_head, few_, problem_.order, pnp_work_);
  }
  const Index best = choose_start(prior);
  Pose& T = T_[best];
  const View<double, 1> c = c_.row(best);
  if (problem_.visibility) weigh_visible(all_, problem_.points, T, seen_);
  const Measured& measured = problem_.visibility ? seen_ : all_;
  const Ranges* ranges = nullptr;
  if (input_.depth) {
    const double found = read_ranges(T, c, expected_size, *input_.depth, problem_.noise,
                                     results.depth.row(face), range_work_, ranges_);
    if (found > 0) {
      ranges = &ranges_;
      c[0] = (found - 1) / std::max(size_sigma, KNOWN_SIZE);
      const double off = c[0] - prior.mean[0];
      weaken_size(off * off / input_.prior_covariance(row, 0, 0), information_);
    }
  }
  const Cost cost{problem_.kernel, problem_.kernel_scale, problem_.share(count)};
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

void solve_all(const Problem& problem, const Input& input, const Results& results, Index threads) {
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

template <int N>
void check_shape(const py::array& array, const std::array<Index, N>& shape, const char* name) {
  if (shape_of<N>(array) != shape) {
    std::string text = name;
    text += ": expected the shape (";
    for (Index length : shape) text += std::to_string(length) + ", ";
    throw py::value_error(text + ")");
  }
}

Points points_of(const py::tuple& arrays) {
  return {view<2>(arrays[0].cast<Array<double>>()), view<3>(arrays[1].cast<Array<double>>()),
          view<2>(arrays[2].cast<Array<double>>())};
}

py::tuple solve_arrays(const Problem& problem, const Array<double>& uv,
                       const Array<double>& cov_uv, const Lens& lens, const Array<double>& mean,
                       const Array<double>& covariance,
                       const std::optional<Array<double>>& T_init, const DepthView* depth,
                       Index threads) {
  const Index N = uv.shape(0), K = problem.points.count(), C = problem.modes() + 1;
  const Index priors = mean.shape(0) == 1 ? 1 : N;
  check_shape<3>(uv, {N, K, 2}, "uv");
  check_shape<4>(cov_uv, {N, K, 2, 2}, "cov_uv");
  check_shape<2>(mean, {priors, C}, "mean");
  check_shape<3>(covariance, {priors, C, C}, "covariance");
  if (T_init) check_shape<3>(*T_init, {N, 4, 4}, "T_init");
  auto T_cam_head = make_array<double>(N, 4, 4), of_pose = make_array<double>(N, 6, 6);
  auto given_shape = make_array<double>(N, 6, 6), pose_of_shape = make_array<double>(N, 6, C);
  auto shape = make_array<double>(N, C), of_shape = make_array<double>(N, C, C);
  auto cost = make_array<double>(N), evidence = make_array<double>(N, 4);
  auto iterations = make_array<std::int64_t>(N), stop = make_array<std::int64_t>(N);
  const Input input{view<3>(uv),
                    view<4>(cov_uv),
                    lens,
                    view<2>(mean),
                    view<3>(covariance),
                    T_init ? view<3>(*T_init) : View<const double, 3>(),
                    depth};
  const Results results{writable<3>(T_cam_head),    writable<3>(of_pose),
                        writable<3>(given_shape),   writable<3>(pose_of_shape),
                        writable<2>(shape),         writable<3>(of_shape),
                        writable<1>(cost),          writable<1>(iterations),
                        writable<1>(stop),          writable<2>(evidence)};
  {
    py::gil_scoped_release release;
    std::fill(results.cost.begin(), results.cost.end(), 0);
    std::fill(results.iterations.begin(), results.iterations.end(), 0);
    std::fill(results.depth.begin(), results.depth.end(), 0);
    solve_all(problem, input, results, threads);
  }
  return py::make_tuple(T_cam_head, of_pose, given_shape, pose_of_shape, shape, of_shape,
                        evidence, cost, iterations, stop);
}

template <int N>
Array<double> to_array(View<const double, N> values) {
  Array<double> array(std::vector<py::ssize_t>(values.shape().begin(), values.shape().end()));
  std::copy(values.begin(), values.end(), array.mutable_data());
  return array;
}

Pose to_pose(const Array<double>& T) {
  check_shape<2>(T, {4, 4}, "T");
  Pose pose;
  std::copy_n(T.data(), pose.values.size(), pose.values.begin());
  return pose;
}

// The stages of the fit of one face, for tests; every coefficient has the prior N(0, 1).
class Stages {
 public:
  Stages(const Problem& problem, const Lens& lens, const Array<double>& uv,
         const Array<double>& cov_uv)
      : problem_(problem),
        measured_(problem.points.count()),
        mean_(problem.modes() + 1),
        information_(mean_.size(), mean_.size()),
        work_(mean_.size(), measured_.count(), 0) {
    check_shape<2>(uv, {measured_.count(), 2}, "uv");
    check_shape<3>(cov_uv, {measured_.count(), 2, 2}, "cov_uv");
    measure(view<2>(uv), view<3>(cov_uv), lens, measured_);
    for (Index m = 0; m < mean_.size(); ++m) information_(m, m) = 1;
    cost_ = {problem.kernel, problem.kernel_scale, problem.share(measured_.measured())};
  }

  Array<double> A() const { return to_array<3>(measured_.A); }
  Array<double> weight() const { return to_array<1>(measured_.weight); }
  Array<double> visible_A(const Array<double>& T) const {
    Measured seen(measured_.count());
    weigh_visible(measured_, problem_.points, to_pose(T), seen);
    return to_array<3>(seen.A);
  }
  py::tuple linearise(const Array<double>& T, const Array<double>& c) {
    const Prior prior{mean_, information_};
    const Pose pose = to_pose(T);
    check_shape<1>(c, {mean_.size()}, "c");
    const View<const double, 1> shape = view<1>(c);
    const Points& points = problem_.points;
    const double cost = evaluate(pose, shape, measured_, points, nullptr, prior, cost_, work_);
    face_pose::linearise(pose, shape, measured_, points, nullptr, prior, cost_, work_);
    return py::make_tuple(cost, to_array<2>(work_.H), to_array<1>(work_.g));
  }
  // The cost after at most so many steps from T and the mean shape.
  double minimise(const Array<double>& T, int max_iterations) {
    Tolerances tolerances = problem_.tolerances;
    tolerances.max_iterations = max_iterations;
    Pose pose = to_pose(T);
    Buffer<double, 1> c(mean_.size());
    return face_pose::minimise(pose, c, measured_, problem_.points, nullptr,
                               {mean_, information_}, cost_, tolerances, 1, work_)
        .cost;
  }
  Array<double> closed_form() const {
    PnpWork work(measured_.count());
    const std::array<Pose, 2> poses =
        solve_pnp(problem_.points.xyz_head, measured_, problem_.order, work);
    Array<double> array = make_array<double>(2, 3, 4);
    for (Index i = 0; i < 2; ++i)
      std::copy(poses[i].values.begin(), poses[i].values.end(), array.mutable_data(i, 0, 0));
    return array;
  }

 private:
  const Problem& problem_;
  Measured measured_;
  Buffer<double, 1> mean_;
  Buffer<double, 2> information_;
  Work work_;
  Cost cost_;
};

}  // namespace

void bind_pose(py::module_& m) {
  m.def(
      "robust_kernel",
      [](int kernel, double k, double s) {
        const Robust robust = robust_kernel(static_cast<Kernel>(kernel), k, s);
        return py::make_tuple(robust.rho, robust.weight, robust.slope);
      },
      "kernel"_a, "k"_a, "s"_a,
      "rho, w and w' of one squared residual s >= 0, of a kernel by its index in KERNELS and its "
      "scale k [sigma].");
  m.attr("RANGE_KERNEL") = static_cast<int>(RANGE_KERNEL);
  m.attr("RANGE_KERNEL_SCALE") = RANGE_KERNEL_SCALE;

  py::class_<DepthView>(m, "DepthView", "A depth image (H, W), uint16 in mm or float32 in m.")
      .def(py::init([](const py::array& z, const Lens& lens, const Array<double>& R_depth_cam,
                       const Array<double>& t_depth_cam) {
             check_shape<2>(R_depth_cam, {3, 3}, "R_depth_cam");
             check_shape<1>(t_depth_cam, {3}, "t_depth_cam");
             DepthView depth;
             if (py::isinstance<Array<std::uint16_t>>(z))
               depth.z_mm = view<2>(py::reinterpret_borrow<Array<std::uint16_t>>(z));
             else if (py::isinstance<Array<float>>(z))
               depth.z_m = view<2>(py::reinterpret_borrow<Array<float>>(z));
             else
               throw py::type_error("z: expected a contiguous array of uint16 or float32");
             depth.lens = lens;
             std::copy_n(R_depth_cam.data(), 9, depth.R_depth_cam.values.begin());
             std::copy_n(t_depth_cam.data(), 3, depth.t_depth_cam.begin());
             return depth;
           }),
           "z"_a, "lens"_a, "R_depth_cam"_a.noconvert(), "t_depth_cam"_a.noconvert(),
           py::keep_alive<1, 2>());

  py::class_<Problem>(m, "PoseProblem", "What all faces of many calls of `fit_pose` have in common.")
      .def(py::init([](const py::tuple& points, const py::tuple& coarse, const py::tuple& surface,
                       Index stride, const Array<std::int64_t>& sample_order, double size_sigma,
                       int kernel, double kernel_scale, bool visibility,
                       double independent_keypoints, int max_iterations, double step_tolerance,
                       double cost_tolerance, double coarse_cost_tolerance, double alpha,
                       double beta, double range_alpha, double noise_per_m, double bias_per_m) {
             Buffer<std::int64_t, 2> order(shape_of<2>(sample_order));
             std::copy_n(sample_order.data(), order.size(), order.data());
             return Problem{points_of(points),
                            points_of(coarse),
                            points_of(surface),
                            stride,
                            std::move(order),
                            size_sigma,
                            static_cast<Kernel>(kernel),
                            kernel_scale,
                            visibility,
                            independent_keypoints,
                            {max_iterations, step_tolerance, cost_tolerance},
                            {max_iterations, step_tolerance, coarse_cost_tolerance},
                            {alpha, beta},
                            range_alpha,
                            {noise_per_m, bias_per_m}};
           }),
           py::kw_only(), "points"_a, "coarse"_a, "surface"_a, "stride"_a,
           "sample_order"_a.noconvert(), "size_sigma"_a, "kernel"_a, "kernel_scale"_a,
           "visibility"_a, "independent_keypoints"_a, "max_iterations"_a, "step_tolerance"_a,
           "cost_tolerance"_a, "coarse_cost_tolerance"_a, "alpha"_a, "beta"_a, "range_alpha"_a,
           "noise_per_m"_a, "bias_per_m"_a)
      .def("solve", &solve_arrays, "uv"_a.noconvert(), "cov_uv"_a.noconvert(), "lens"_a,
           "mean"_a.noconvert(), "covariance"_a.noconvert(), "T_init"_a.noconvert(), "depth"_a,
           "threads"_a,
           "T_cam_head, covariance, covariance_given_shape, pose_of_shape, shape, "
           "shape_covariance, depth, cost, iterations and stop of `HeadPoses` and `PoseResult`.");

  py::class_<Stages>(m, "PoseStages", "The stages of the fit of one face, for tests.")
      .def(py::init<const Problem&, const Lens&, const Array<double>&, const Array<double>&>(),
           py::keep_alive<1, 2>())
      .def("A", &Stages::A)
      .def("weight", &Stages::weight)
      .def("visible_A", &Stages::visible_A)
      .def("linearise", &Stages::linearise)
      .def("minimise", &Stages::minimise)
      .def("closed_form", &Stages::closed_form);
}

}  // namespace face_pose
