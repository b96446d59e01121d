// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// The fit as a part of face_pose_ros._core.
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fit.hpp"
#include "numpy.hpp"
#include "pnp.hpp"

namespace face_pose {
namespace {

template <int N>
void check_shape(const py::array& array, const std::array<Index, N>& shape, const char* name) {
  if (shape_of<N>(array) == shape) return;
  std::string text = std::string(name) + ": expected the shape (";
  for (Index length : shape) text += std::to_string(length) + ',';
  throw py::value_error(text + "), got " + py::str(array.attr("shape")).cast<std::string>());
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
  check_dimensions(uv, 3);
  const Index N = uv.shape(0), C = problem.modes() + 1;
  const Index K = std::max<Index>(uv.shape(1), problem.points.count());
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
  auto failed = make_array<bool>(N);
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
    fit_faces(problem, input, results, threads);
  }
  const View<bool, 1> has_failed = writable<1>(failed);
  for (Index face = 0; face < N; ++face)
    has_failed[face] = results.stop[face] >= static_cast<int>(Stop::too_few_keypoints);
  return py::make_tuple(T_cam_head, of_pose, given_shape, pose_of_shape, shape, of_shape, failed,
                        evidence, cost, iterations, stop);
}

Pose to_pose(const Array<double>& T) {
  const Matrix<4, 4> all = matrix<4, 4>(T);
  Pose pose;
  std::copy_n(all.values.begin(), pose.values.size(), pose.values.begin());
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

  Array<double> A() const { return array_of(measured_.A); }
  Array<double> weight() const { return array_of(measured_.weight); }
  Array<double> visible_A(const Array<double>& T) const {
    Measured seen(measured_.count());
    weigh_visible(measured_, problem_.points, to_pose(T), seen);
    return array_of(seen.A);
  }
  py::tuple linearise(const Array<double>& T, const Array<double>& c) {
    const Prior prior{mean_, information_};
    const Pose pose = to_pose(T);
    check_shape<1>(c, {mean_.size()}, "c");
    const View<const double, 1> shape = view<1>(c);
    const Points& points = problem_.points;
    const double cost = evaluate(pose, shape, measured_, points, nullptr, prior, cost_, work_);
    face_pose::linearise(pose, shape, measured_, points, nullptr, prior, cost_, work_);
    return py::make_tuple(cost, array_of(work_.H), array_of(work_.g));
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
             DepthView depth;
             if (py::isinstance<Array<std::uint16_t>>(z))
               depth.z_mm = view<2>(py::reinterpret_borrow<Array<std::uint16_t>>(z));
             else if (py::isinstance<Array<float>>(z))
               depth.z_m = view<2>(py::reinterpret_borrow<Array<float>>(z));
             else
               throw py::type_error("z: expected a contiguous array of uint16 or float32");
             depth.lens = lens;
             depth.R_depth_cam = matrix<3, 3>(R_depth_cam);
             depth.t_depth_cam = vector<3>(t_depth_cam);
             return depth;
           }),
           "z"_a, "lens"_a, "R_depth_cam"_a.noconvert(), "t_depth_cam"_a.noconvert(),
           py::keep_alive<1, 2>());

  py::class_<Problem>(m, "PoseProblem", "What all faces of many calls of `fit_pose` share.")
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
      .def("solve", &solve_arrays, "uv"_a, "cov_uv"_a, "lens"_a, "mean"_a, "covariance"_a,
           "T_init"_a, "depth"_a, "threads"_a,
           "The fields of `HeadPoses`, then cost, iterations and stop of `PoseResult`.");

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
