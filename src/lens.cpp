// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "lens.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace face_pose {

namespace {

constexpr double MIN_DEPTH = 1e-9;  // m; below it a point has no pinhole image
constexpr int NEWTON_STEPS = 20;    // quadratic convergence: the strongest lenses tested need 9
constexpr int BISECTIONS = 40;
constexpr double CONVERGED = 1e-7;  // step size; the next step would be of the order of its square
constexpr double TOLERANCE = 1e3 * std::numeric_limits<double>::epsilon();

using Coefficients = std::array<double, 12>;

// A distorted point and its derivatives by the undistorted one.
struct Distorted {
  double a, b, ax, ay, bx, by;
};

// A distorted point, whether it is valid, and its derivatives by x, y, z, row-major.
struct Image {
  double a, b;
  bool valid;
  std::array<double, 6> D;
};

// A pixel and its derivatives by the distorted point.
struct PlanePixel {
  double u, v;
  bool valid;
  double ua, ub, va, vb;
};

inline double squared(double x) { return x * x; }

// OpenCV's calib3d documentation, "projectPoints".
inline Distorted distort(const Coefficients& dist, double x, double y) {
  const auto& [k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4] = dist;
  const double s = x * x + y * y;
  const double inv_denominator = 1 / (1 + s * (k4 + s * (k5 + s * k6)));
  const double radial = (1 + s * (k1 + s * (k2 + s * k3))) * inv_denominator;
  const double d_numerator = k1 + s * (2 * k2 + 3 * s * k3);
  const double d_denominator = k4 + s * (2 * k5 + 3 * s * k6);
  const double slope = (d_numerator - radial * d_denominator) * inv_denominator;  // d radial / d s
  const double prism_x = s1 + 2 * s2 * s, prism_y = s3 + 2 * s4 * s;
  const double cross = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y;
  return {x * radial + 2 * p1 * x * y + p2 * (s + 2 * x * x) + s * (s1 + s2 * s),
          y * radial + 2 * p2 * x * y + p1 * (s + 2 * y * y) + s * (s3 + s4 * s),
          radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x + 2 * x * prism_x,
          cross + 2 * y * prism_x,
          cross + 2 * x * prism_y,
          radial + 2 * y * y * slope + 2 * p2 * x + 6 * p1 * y + 2 * y * prism_y};
}

inline Image project_polynomial(const Lens& lens, double x, double y, double z) {
  const bool in_front = z > MIN_DEPTH;
  const double inv_z = 1 / (in_front ? z : 1);
  x *= inv_z;
  y *= inv_z;
  const bool valid = in_front & (x * x + y * y < lens.range_max * lens.range_max);
  // An invalid point is moved to the principal point, so that nothing overflows later.
  x = valid ? x : 0;
  y = valid ? y : 0;
  const auto [a, b, ax, ay, bx, by] = distort(lens.dist, x, y);
  // d xy / d xyz = [I, -xy] / z
  const double az = -(ax * x + ay * y), bz = -(bx * x + by * y);
  // Strong tangential terms can fold the image although the radial part still grows.
  const bool unfolded = ax * by - ay * bx > 0;
  return {a, b, static_cast<bool>(valid & unfolded),
          {ax * inv_z, ay * inv_z, az * inv_z, bx * inv_z, by * inv_z, bz * inv_z}};
}

// Distorted angle [rad], and its derivative.
struct Angle {
  double value, slope;
};

inline Angle distort_angle(const Coefficients& k, double theta) {
  const double t = theta * theta;
  return {theta * (1 + t * (k[0] + t * (k[1] + t * (k[2] + t * k[3])))),
          1 + t * (3 * k[0] + t * (5 * k[1] + t * (7 * k[2] + t * 9 * k[3])))};
}

// Kannala and Brandt (2006), as in OpenCV's fisheye module, but also beyond 90 deg.
inline Image project_equidistant(const Lens& lens, double x, double y, double z) {
  const double r_sq = x * x + y * y, norm_sq = r_sq + z * z;
  if (r_sq <= 1e-16 * norm_sq) {
    const bool in_front = z > MIN_DEPTH;
    const double scale = in_front ? 1 / z : 1, axial = -scale * scale;
    return {x * scale, y * scale, in_front, {scale, 0, axial * x, 0, scale, axial * y}};
  }
  const double r = std::sqrt(r_sq), theta = std::atan2(r, z);
  const auto [theta_dist, slope] = distort_angle(lens.dist, theta);
  const double scale = theta_dist / r;
  // d(xy theta_d / r) = scale I + xy (d scale / d r) d r + xy slope / r (d theta / d z) d z
  const double radial = (slope * z / norm_sq - scale) / r_sq, axial = -slope / norm_sq;
  return {x * scale, y * scale, theta < lens.range_max,
          {scale + radial * x * x, radial * x * y, axial * x,
           radial * x * y, scale + radial * y * y, axial * y}};
}

inline PlanePixel to_pixel(const std::array<double, 9>& h, double a, double b, bool valid) {
  const double w = h[6] * a + h[7] * b + h[8];
  const bool before = w > MIN_DEPTH;  // the horizon of a tilted sensor
  const double inv_w = 1 / (before ? w : 1);
  const double u = (h[0] * a + h[1] * b + h[2]) * inv_w;
  const double v = (h[3] * a + h[4] * b + h[5]) * inv_w;
  return {u, v, static_cast<bool>(valid & before),
          (h[0] - u * h[6]) * inv_w, (h[1] - u * h[7]) * inv_w,
          (h[3] - v * h[6]) * inv_w, (h[4] - v * h[7]) * inv_w};
}

// Newton's method, started at the undistorted radius found by bisection.
std::array<double, 2> undistort_carefully(const Lens& lens, double a, double b) {
  const double target = std::hypot(a, b);
  const Coefficients& k = lens.dist;
  const Coefficients radial{k[0], k[1], 0, 0, k[4], k[5], k[6], k[7], 0, 0, 0, 0};
  double low = 0, high = std::min(lens.range_max, 1e3);
  for (int n = 0; n < BISECTIONS; ++n) {
    const double middle = 0.5 * (low + high);
    (distort(radial, middle, 0).a < target ? low : high) = middle;
  }
  double x = a * low / target, y = b * low / target;
  for (int n = 0; n < NEWTON_STEPS; ++n) {
    const Distorted at = distort(lens.dist, x, y);
    const double inv = 1 / (at.ax * at.by - at.ay * at.bx);
    const double dx = inv * (at.by * (at.a - a) - at.ay * (at.b - b));
    const double dy = inv * (at.ax * (at.b - b) - at.bx * (at.a - a));
    x -= dx;
    y -= dy;
    if (dx * dx + dy * dy < CONVERGED * CONVERGED) break;
  }
  return {x, y};
}

// Newton's method; writes the derivatives of the distorted points ab (2, K) into J.
FACE_POSE_WIDE
void unproject_polynomial(const Lens& given, View<const double, 2> ab, View<double, 2> rays,
                          View<double, 3> J, View<bool, 1> usable) {
  const Lens lens = given;  // no write can change it, so that loops over points are vectorised
  const Index count = ab.columns();
  std::vector<double> memory(ab.begin(), ab.end());
  double* __restrict x = memory.data();
  double* __restrict y = x + count;
  const double *a = ab.data(), *b = a + count;
  const double limit_sq = squared(0.999 * lens.range_max);
  // All points take the same number of steps: loops without branches are vectorised.
  for (int n = 0; n < NEWTON_STEPS; ++n) {
    double moved = 0;
    for (Index k = 0; k < count; ++k) {
      // Inside the monotone range the Jacobian is regular.
      const double radius_sq = x[k] * x[k] + y[k] * y[k];
      const double back = radius_sq > limit_sq ? std::sqrt(limit_sq / radius_sq) : 1;
      const Distorted at = distort(lens.dist, x[k] * back, y[k] * back);
      const double inv = 1 / (at.ax * at.by - at.ay * at.bx);
      const double dx = inv * (at.by * (at.a - a[k]) - at.ay * (at.b - b[k]));
      const double dy = inv * (at.ax * (at.b - b[k]) - at.bx * (at.a - a[k]));
      x[k] = x[k] * back - dx;
      y[k] = y[k] * back - dy;
      moved += dx * dx + dy * dy;
    }
    if (moved < CONVERGED * CONVERGED) break;
  }
  for (Index k = 0; k < count; ++k) {
    Distorted at = distort(lens.dist, x[k], y[k]);
    double error_sq = squared(at.a - a[k]) + squared(at.b - b[k]);
    const double tolerance_sq =
        squared(TOLERANCE * (1 + std::sqrt(squared(a[k]) + squared(b[k]))));
    if (!(error_sq < tolerance_sq)) {
      const auto [x_k, y_k] = undistort_carefully(lens, a[k], b[k]);
      x[k] = x_k;
      y[k] = y_k;
      at = distort(lens.dist, x_k, y_k);
      error_sq = squared(at.a - a[k]) + squared(at.b - b[k]);
    }
    const double radius_sq = x[k] * x[k] + y[k] * y[k];
    usable[k] = usable[k] && error_sq < tolerance_sq && radius_sq < squared(lens.range_max) &&
                at.ax * at.by - at.ay * at.bx > 0;
    const double norm = std::sqrt(1 + radius_sq);
    rays(0, k) = x[k] / norm;
    rays(1, k) = y[k] / norm;
    rays(2, k) = 1 / norm;
    // d xy / d xyz = [I, -xy] / z at the unit ray (x, y, 1) / norm.
    J(0, 0, k) = at.ax * norm;
    J(0, 1, k) = at.ay * norm;
    J(0, 2, k) = -(at.ax * x[k] + at.ay * y[k]) * norm;
    J(1, 0, k) = at.bx * norm;
    J(1, 1, k) = at.by * norm;
    J(1, 2, k) = -(at.bx * x[k] + at.by * y[k]) * norm;
  }
}

// Newton's method and bisection; writes the derivatives of the distorted points ab (2, K) into J.
void unproject_equidistant(const Lens& lens, View<const double, 2> ab, View<double, 2> rays,
                           View<double, 3> J, View<bool, 1> usable) {
  for (Index k = 0; k < ab.columns(); ++k) {
    const double a = ab(0, k), b = ab(1, k), target = std::sqrt(a * a + b * b);
    double theta = std::min(target, 0.999 * lens.range_max), low = 0, high = lens.range_max;
    for (int n = 0; n < BISECTIONS; ++n) {
      const auto [value, slope] = distort_angle(lens.dist, theta);
      (value < target ? low : high) = theta;
      double step = (value - target) / slope;
      if (!(low <= theta - step && theta - step <= high)) step = theta - 0.5 * (low + high);
      theta -= step;
      if (std::abs(step) < CONVERGED) break;
    }
    const auto [value, slope] = distort_angle(lens.dist, theta);
    usable[k] = usable[k] && std::abs(value - target) < TOLERANCE * (1 + target) &&
                theta < lens.range_max;
    const bool on_axis = !(target > 1e-12);
    const double cos = on_axis ? 1 : a / target, sin = on_axis ? 0 : b / target;
    const double r = std::sin(theta), z = std::cos(theta);
    rays(0, k) = r * cos;
    rays(1, k) = r * sin;
    rays(2, k) = z;
    // At the unit ray: radially slope * (z, -r), across value / r.
    const double across = r > 1e-12 ? value / r : 1;
    J(0, 0, k) = slope * z * cos * cos + across * sin * sin;
    J(1, 1, k) = slope * z * sin * sin + across * cos * cos;
    J(0, 1, k) = J(1, 0, k) = (slope * z - across) * cos * sin;
    J(0, 2, k) = -slope * r * cos;
    J(1, 2, k) = -slope * r * sin;
  }
}

FACE_POSE_WIDE
void project_all_polynomial(const Lens& given, double* __restrict x, double* __restrict y,
                            double* __restrict z, Index count) {
  const Lens lens = given;
  for (Index k = 0; k < count; ++k) {
    const Image at = project_polynomial(lens, x[k], y[k], z[k]);
    const PlanePixel pixel = to_pixel(lens.plane, at.a, at.b, at.valid);
    x[k] = pixel.u;
    y[k] = pixel.v;
    z[k] = pixel.valid ? 1 : 0;
  }
}

}  // namespace

Pixel project(const Lens& lens, double x, double y, double z) {
  const Image at =
      lens.fisheye ? project_equidistant(lens, x, y, z) : project_polynomial(lens, x, y, z);
  const auto [u, v, valid, ua, ub, va, vb] = to_pixel(lens.plane, at.a, at.b, at.valid);
  const auto& D = at.D;
  return {u, v, valid,
          {ua * D[0] + ub * D[3], ua * D[1] + ub * D[4], ua * D[2] + ub * D[5],
           va * D[0] + vb * D[3], va * D[1] + vb * D[4], va * D[2] + vb * D[5]}};
}

void project(const Lens& lens, View<double, 2> xyz) {
  const Index count = xyz.columns();
  double *x = xyz.data(), *y = x + count, *z = y + count;
  if (!lens.fisheye) {
    project_all_polynomial(lens, x, y, z, count);
    return;
  }
  for (Index k = 0; k < count; ++k) {
    const Image at = project_equidistant(lens, x[k], y[k], z[k]);
    const PlanePixel pixel = to_pixel(lens.plane, at.a, at.b, at.valid);
    x[k] = pixel.u;
    y[k] = pixel.v;
    z[k] = pixel.valid ? 1 : 0;
  }
}

void unproject(const Lens& lens, View<const double, 2> uv, View<double, 2> rays,
               View<double, 3> J, View<bool, 1> usable) {
  const Index count = uv.columns();
  Buffer<double, 2> ab(2, count);
  const std::array<double, 9>& g = lens.inverse;
  for (Index k = 0; k < count; ++k) {
    const double u = uv(0, k), v = uv(1, k), w = g[6] * u + g[7] * v + g[8];
    usable[k] = usable[k] && w > 0;
    ab(0, k) = (g[0] * u + g[1] * v + g[2]) / w;
    ab(1, k) = (g[3] * u + g[4] * v + g[5]) / w;
  }
  (lens.fisheye ? unproject_equidistant : unproject_polynomial)(lens, ab, rays, J, usable);
  for (Index k = 0; k < count; ++k) {
    if (!usable[k]) {
      rays(0, k) = rays(1, k) = 0;
      rays(2, k) = 1;
    }
    const PlanePixel pixel = to_pixel(lens.plane, ab(0, k), ab(1, k), true);
    for (Index i = 0; i < 3; ++i) {
      const double a = J(0, i, k), b = J(1, i, k);
      J(0, i, k) = pixel.ua * a + pixel.ub * b;
      J(1, i, k) = pixel.va * a + pixel.vb * b;
    }
  }
}

}  // namespace face_pose
