// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
#include "crops.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "boxes.hpp"

namespace face_pose {

namespace {

// Rotation with its z axis along the ray x, y, z and a horizontal x axis.
Matrix<3, 3> look_at(double x, double y, double z) {
  double norm = std::max(std::sqrt(x * x + y * y + z * z), 1e-12);
  x /= norm;
  y /= norm;
  z /= norm;
  // A ray of a fisheye may be vertical; then every x axis is horizontal.
  const bool vertical = std::abs(y) > 0.999;
  double a = vertical ? -y : z, b = vertical ? x : 0, c = vertical ? 0 : -x;
  norm = std::max(std::sqrt(a * a + b * b + c * c), 1e-12);
  a /= norm;
  b /= norm;
  c /= norm;
  return {{a, y * c - z * b, x, b, z * a - x * c, y, c, x * b - y * a, z}};
}

// Rotates R about its z axis until the face is upright. Eye line and midline add up, weighted by
// their lengths: in profile the eye line is short, and the midline defines the roll.
//   across  From the person's right eye to the left one, camera frame.
//   down    From the top of the face to its bottom, camera frame.
void roll(Matrix<3, 3>& R, const Vector<3>& across, const Vector<3>& down) {
  double cos = 0, sin = 0;
  for (Index j = 0; j < 3; ++j) {
    cos += R(j, 0) * across[j] + R(j, 1) * down[j];
    sin += R(j, 1) * across[j] - R(j, 0) * down[j];
  }
  const double norm = std::max(std::sqrt(cos * cos + sin * sin), 1e-12);
  cos /= norm;
  sin /= norm;
  for (Index j = 0; j < 3; ++j) {
    const double x = R(j, 0), y = R(j, 1);
    R(j, 0) = cos * x + sin * y;
    R(j, 1) = cos * y - sin * x;
  }
}

// Ray k of (3, K) in the plane z = 1 of R's frame.
Vector<2> in_plane(const Matrix<3, 3>& R, const View<double, 2>& rays, Index k) {
  const double a = rays(0, k), b = rays(1, k), c = rays(2, k);
  const double inv_z = 1 / std::max(R(0, 2) * a + R(1, 2) * b + R(2, 2) * c, 1e-3);
  return {(R(0, 0) * a + R(1, 0) * b + R(2, 0) * c) * inv_z,
          (R(0, 1) * a + R(1, 1) * b + R(2, 1) * c) * inv_z};
}

double distance_in_plane(const Matrix<3, 3>& R, const View<double, 2>& rays, Index k,
                         Index other) {
  const Vector<2> one = in_plane(R, rays, k), two = in_plane(R, rays, other);
  return std::sqrt((one[0] - two[0]) * (one[0] - two[0]) +
                   (one[1] - two[1]) * (one[1] - two[1]));
}

// Bounds of rays (3, K) in the plane z = 1 of R's frame.
Box bounds_in_plane(const Matrix<3, 3>& R, const View<double, 2>& rays) {
  Box bounds;
  for (Index k = 0; k < rays.columns(); ++k) {
    const auto [x, y] = in_plane(R, rays, k);
    bounds.add(x, y);
  }
  return bounds;
}

// Mean of some of the rays (3, K).
Vector<3> mean(const View<double, 2>& rays, const std::vector<Index>& points) {
  Vector<3> total{};
  for (Index j = 0; j < 3; ++j) {
    for (Index k : points) total[j] += rays(j, k);
    total[j] /= static_cast<double>(points.size());
  }
  return total;
}

Vector<3> difference(const Vector<3>& a, const Vector<3>& b) {
  return {a[0] - b[0], a[1] - b[1], a[2] - b[2]};
}

// Unit rays (3, K) of pixels (2, K); false if one of them has none.
bool rays_of(const Lens& lens, View<const double, 2> uv, View<double, 2> rays) {
  const Index count = uv.columns();
  const Buffer<double, 3> J(2, 3, count);
  const Buffer<bool, 1> seen(count);
  std::fill(seen.begin(), seen.end(), true);
  unproject(lens, uv, rays, J, seen);
  return std::all_of(seen.begin(), seen.end(), [](bool is_seen) { return is_seen; });
}

// Where a pixel position is cut off at the image border. The position may be too large for an
// integer, or NaN if the crop has no valid rays.
Index within(double position, Index size) {
  if (position >= static_cast<double>(size)) return size - 1;
  return position > 0 ? static_cast<Index>(position) : 0;
}

// Means of 2 x 2 pixels of two rows, whose pixels begin `step` bytes apart. Each mean is written
// where its first pixel is; the last pixel counts twice, for an odd width.
FACE_POSE_WIDE
void halve_rows(const std::uint8_t* __restrict upper, const std::uint8_t* __restrict lower,
                Index width, Index step, std::uint8_t* __restrict means) {
  const auto mean = [](int a, int b) { return static_cast<std::uint8_t>((a + b + 1) >> 1); };
  const Index last = (width - 1) * step;
  for (Index at = 0; at < last; ++at) {
    const std::uint8_t a = upper[at], b = upper[at + step], c = lower[at], d = lower[at + step];
    const std::uint8_t above = mean(a, b), below = mean(c, d);
    // (a + b + c + d + 2) >> 2 in bytes, of which a vector holds the most
    const int excess = ((a ^ b) | (c ^ d)) & (above ^ below) & 1;
    means[at] = static_cast<std::uint8_t>(mean(above, below) - excess);
  }
  for (Index at = last; at < last + 3; ++at) means[at] = mean(upper[at], lower[at]);
}

// Row r of an image halved n >= 1 times, whose pixels begin 3 * 2^n bytes apart: to move them
// together takes as long as their means. An odd last row counts twice. `rows` (n, 2, 3 * width or
// more) is scratch space that stays in the cache.
const std::uint8_t* halved_row(const Picture& image, int n, Index r, View<std::uint8_t, 3> rows,
                               Index place) {
  const Index height = ((image.height - 1) >> (n - 1)) + 1;
  const Index width = ((image.width - 1) >> (n - 1)) + 1;
  const std::uint8_t* pair[2];
  for (Index i = 0; i < 2; ++i) {
    const Index row = std::min(2 * r + i, height - 1);
    pair[i] = n == 1 ? image.pixels + row * image.row_bytes
                     : halved_row(image, n - 1, row, rows, i);
  }
  std::uint8_t* means = rows.row(n - 1).row(place).data();
  halve_rows(pair[0], pair[1], width, 3 << (n - 1), means);
  return means;
}

// An image halved n >= 1 times, with one byte more; an odd last row or column counts twice.
std::vector<std::uint8_t> halved(const Picture& image, int n, Index height, Index width) {
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(3 * height * width + 1));
  const Buffer<std::uint8_t, 3> rows(n, 2, 3 * (image.width + (1 << n)));
  std::uint8_t* to = pixels.data();
  for (Index r = 0; r < height; ++r) {
    const std::uint8_t* row = halved_row(image, n, r, rows, 0);
    for (Index c = 0; c < width; ++c, to += 3) std::memcpy(to, row + (3 * c << n), 4);
  }
  return pixels;
}

// Part of an image that a crop shows, and the positions of the crop's nodes in it.
struct Part {
  int halvings;
  Index left, top, right, bottom;  // px of the image
};

// Writes the positions of a crop's nodes in the part of the image that it shows into us and vs
// (n, n), in pixels of this part after halving it. It is halved until the step between crop pixels
// is at most MAX_STEP_PX.
Part map_nodes(const Matrix<3, 3>& R, double focal_px, const Lens& lens, Index size, Index width,
               Index height, View<double, 2> us, View<double, 2> vs) {
  const Index count = us.rows();
  const double step = NODE_SPACING_PX / focal_px;
  const double first = -0.5 * static_cast<double>(size + NODE_SPACING_PX) / focal_px;
  Buffer<double, 2> nodes(3, count * count);
  for (Index i = 0; i < 3; ++i)
    for (Index r = 0; r < count; ++r) {
      const double y = first + static_cast<double>(r) * step;
      for (Index c = 0; c < count; ++c)
        nodes(i, r * count + c) =
            R(i, 0) * (first + static_cast<double>(c) * step) + (R(i, 1) * y + R(i, 2));
    }
  project(lens, nodes);
  std::copy(nodes.row(0).begin(), nodes.row(0).end(), us.begin());
  std::copy(nodes.row(1).begin(), nodes.row(1).end(), vs.begin());

  Box bounds;
  for (Index k = 0; k < us.size(); ++k) bounds.add(us.data()[k], vs.data()[k]);
  double step_sq = 0;
  for (Index r = 0; r + 1 < count; ++r)
    for (Index c = 0; c + 1 < count; ++c) {
      const double du = us(r + 1, c + 1) - us(r, c), dv = vs(r + 1, c + 1) - vs(r, c);
      step_sq = std::max(step_sq, du * du + dv * dv);
    }
  step_sq /= 2 * NODE_SPACING_PX * NODE_SPACING_PX;
  Part part{};
  part.left = within(bounds.left - 1, width);
  part.top = within(bounds.top - 1, height);
  part.right = std::max(within(bounds.right + 2, width), part.left) + 1;
  part.bottom = std::max(within(bounds.bottom + 2, height), part.top) + 1;
  const Index shorter = std::min(part.right - part.left, part.bottom - part.top);
  Index scale = 1;
  // Bounded by the size of the part, for crops without valid rays.
  while (step_sq > scale * MAX_STEP_PX * (scale * MAX_STEP_PX) && 2 * scale < shorter) {
    ++part.halvings;
    scale *= 2;
  }
  // Aligned to the grid of halved pixels, so that a small motion changes little.
  const auto up = [scale](Index length) { return (length + scale - 1) / scale * scale; };
  part.left -= part.left % scale;
  part.top -= part.top % scale;
  part.right = std::min(part.left + up(part.right - part.left), width);
  part.bottom = std::min(part.top + up(part.bottom - part.top), height);
  const double inv_scale = 1 / static_cast<double>(scale);
  for (Index k = 0; k < us.size(); ++k) {
    double &u = us.data()[k], &v = vs.data()[k];
    u = (u - static_cast<double>(part.left) + 0.5) * inv_scale - 0.5;
    v = (v - static_cast<double>(part.top) + 0.5) * inv_scale - 0.5;
  }
  return part;
}

// Positions of the pixels of a row, linear between n nodes.
inline void interpolate(const double* nodes, Index count, float* __restrict positions) {
  for (Index node = 0; node + 1 < count; ++node) {
    const float start = static_cast<float>(nodes[node]);
    const float step = static_cast<float>((nodes[node + 1] - nodes[node]) / NODE_SPACING_PX);
    for (int k = 0; k < NODE_SPACING_PX; ++k)
      positions[node * NODE_SPACING_PX + k] =
          start + (static_cast<float>(k) + 0.5f) * step;
  }
}

// A pixel in the low or, from a load that begins a byte earlier, in the high three bytes.
inline std::uint32_t load(const std::uint8_t* pixel) {
  std::uint32_t bytes;
  std::memcpy(&bytes, pixel, sizeof bytes);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  bytes = __builtin_bswap32(bytes);
#endif
  return bytes;
}

// Bilinear samples at positions that are interpolated bilinearly between nodes. Outside the image,
// of at least 2 x 2 pixels, its border is repeated.
FACE_POSE_WIDE
void sample(const Picture& image, View<const double, 2> us, View<const double, 2> vs,
            View<float, 3> picture) {
  const Index size = picture.size(1), half = NODE_SPACING_PX / 2, count = us.rows();
  const Index length = (count - 1) * NODE_SPACING_PX;
  Buffer<float, 2> lines(6, length);
  Buffer<std::uint32_t, 2> corners(4, size);
  Buffer<std::int32_t, 1> bytes(size);
  float *x_upper = lines.row(0).data(), *x_lower = lines.row(1).data();
  float *y_upper = lines.row(2).data(), *y_lower = lines.row(3).data();
  float* __restrict across = lines.row(4).data();
  float* __restrict down = lines.row(5).data();
  std::int32_t* __restrict places = bytes.data();
  std::uint32_t* __restrict a = corners.row(0).data();
  std::uint32_t* __restrict b = corners.row(1).data();
  std::uint32_t* __restrict c = corners.row(2).data();
  std::uint32_t* __restrict d = corners.row(3).data();
  const auto last_x = static_cast<float>(image.width - 1);
  const auto last_y = static_cast<float>(image.height - 1);
  const auto before_x = static_cast<std::int32_t>(image.width - 2);
  const auto before_y = static_cast<std::int32_t>(image.height - 2);
  const auto row_bytes = static_cast<std::int32_t>(image.row_bytes);
  for (Index r = 0; r < size; ++r) {
    const Index node = (r + half) / NODE_SPACING_PX, inside = (r + half) % NODE_SPACING_PX;
    if (inside == 0 || r == 0) {
      interpolate(us.row(node).data(), count, x_upper);
      interpolate(us.row(node + 1).data(), count, x_lower);
      interpolate(vs.row(node).data(), count, y_upper);
      interpolate(vs.row(node + 1).data(), count, y_lower);
    }
    const float part = (static_cast<float>(inside) + 0.5f) / NODE_SPACING_PX;
    for (Index k = 0; k < size; ++k) {
      float x = x_upper[half + k] + part * (x_lower[half + k] - x_upper[half + k]);
      float y = y_upper[half + k] + part * (y_lower[half + k] - y_upper[half + k]);
      // NaN becomes 0, because every position is loaded.
      x = x > 0 ? x : 0;
      y = y > 0 ? y : 0;
      x = x < last_x ? x : last_x;
      y = y < last_y ? y : last_y;
      const std::int32_t left = std::min(static_cast<std::int32_t>(x), before_x);
      const std::int32_t top = std::min(static_cast<std::int32_t>(y), before_y);
      places[k] = top * row_bytes + 3 * left;
      across[k] = x - static_cast<float>(left);
      down[k] = y - static_cast<float>(top);
    }
    for (Index k = 0; k < size; ++k) {
      // Right pixels from a byte earlier on, because none follows the last pixel.
      const std::uint8_t* pixel = image.pixels + places[k];
      a[k] = load(pixel);
      b[k] = load(pixel + 2);
      c[k] = load(pixel + row_bytes);
      d[k] = load(pixel + row_bytes + 2);
    }
    for (int channel = 0; channel < 3; ++channel) {
      float* __restrict mixed = &picture(channel, r, 0);
      const auto byte = [](std::uint32_t bytes, int place) {
        return static_cast<float>(static_cast<std::int32_t>(bytes >> (8 * place) & 255));
      };
      for (Index k = 0; k < size; ++k) {
        const float left = byte(a[k], channel), right = byte(b[k], channel + 1);
        const float left_below = byte(c[k], channel), right_below = byte(d[k], channel + 1);
        const float above = left + across[k] * (right - left);
        const float rise = (left_below - above) + across[k] * (right_below - left_below);
        mixed[k] = (above + down[k] * rise) * (1.0f / 255);
      }
    }
  }
}

}  // namespace

Aim aim_at_box(View<const double, 1> box, const Lens& lens, double size_px, double margin) {
  const double u = 0.5 * (box[0] + box[2]), v = 0.5 * (box[1] + box[3]);
  // The middle, and the ends of a cross of half the box size: the border of the box may be outside
  // the lens's range.
  const double arm = 0.25 * std::max(box[2] - box[0], box[3] - box[1]);
  const Matrix<2, 5> uv{{u, u + arm, u - arm, u, u, v, v, v, v + arm, v - arm}};
  Matrix<3, 5> memory{};
  const View<double, 2> rays(memory.values.data(), {3, 5});
  Aim aim{};
  aim.valid = rays_of(lens, {uv.values.data(), {2, 5}}, rays);
  aim.R_cam_crop = look_at(rays(0, 0), rays(1, 0), rays(2, 0));
  // The two bars of the cross are each half as long as the side of the box.
  aim.focal_px = size_px / (margin * (distance_in_plane(aim.R_cam_crop, rays, 1, 2) +
                                      distance_in_plane(aim.R_cam_crop, rays, 3, 4)));
  return aim;
}

Aim aim_at_keypoints(View<const double, 2> uv, const Upright& upright, const Lens& lens,
                     double size_px, double margin) {
  const Index count = uv.rows();
  const Buffer<double, 2> columns(2, count), rays(3, count);
  for (Index k = 0; k < count; ++k) {
    columns(0, k) = uv(k, 0);
    columns(1, k) = uv(k, 1);
  }
  Aim aim{};
  aim.valid = rays_of(lens, columns, rays);
  const Vector<3> across = difference(mean(rays, upright.eye_left), mean(rays, upright.eye_right));
  const Vector<3> down = difference(mean(rays, upright.chin), mean(rays, upright.forehead));
  Vector<3> middle{};
  for (Index j = 0; j < 3; ++j)
    for (Index k = 0; k < count; ++k) middle[j] += rays(j, k);
  Matrix<3, 3>& R = aim.R_cam_crop;
  R = look_at(middle[0], middle[1], middle[2]);
  roll(R, across, down);
  Box bounds = bounds_in_plane(R, rays);
  const double x = 0.5 * (bounds.left + bounds.right), y = 0.5 * (bounds.top + bounds.bottom);
  R = look_at(R(0, 0) * x + R(0, 1) * y + R(0, 2), R(1, 0) * x + R(1, 1) * y + R(1, 2),
              R(2, 0) * x + R(2, 1) * y + R(2, 2));
  roll(R, across, down);
  bounds = bounds_in_plane(R, rays);
  aim.focal_px = size_px / (margin * std::max({bounds.right - bounds.left,
                                               bounds.bottom - bounds.top, 1e-9}));
  return aim;
}

Matrix<2, 2> crop_jacobian(const Lens& lens, const Matrix<3, 3>& R, double focal_px) {
  const auto& D = project(lens, R(0, 2), R(1, 2), R(2, 2)).J;
  Matrix<2, 2> J{};
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 2; ++j)
      J(i, j) = (D[3 * i] * R(0, j) + D[3 * i + 1] * R(1, j) + D[3 * i + 2] * R(2, j)) / focal_px;
  return J;
}

void render_crop(Picture image, const Lens& lens, const Matrix<3, 3>& R_cam_crop, double focal_px,
                 View<float, 3> picture) {
  const Index size = picture.size(1), count = size / NODE_SPACING_PX + 2;
  const Buffer<double, 2> us(count, count), vs(count, count);
  const Part part =
      map_nodes(R_cam_crop, focal_px, lens, size, image.width, image.height, us, vs);
  image.pixels += part.top * image.row_bytes + 3 * part.left;
  image.height = part.bottom - part.top;
  image.width = part.right - part.left;
  std::vector<std::uint8_t> memory;
  if (part.halvings > 0) {
    const Index height = ((image.height - 1) >> part.halvings) + 1;
    const Index width = ((image.width - 1) >> part.halvings) + 1;
    memory = halved(image, part.halvings, height, width);
    image = {memory.data(), height, width, 3 * width};
  } else {
    // The samples' lines of cache are no sequence that a processor foresees.
    for (Index r = 0; r < image.height; ++r)
      for (Index at = 0; at < 3 * image.width; at += 64)
        __builtin_prefetch(image.pixels + r * image.row_bytes + at);
  }
  if (image.height < 2 || image.width < 2) {  // too small to sample
    const Index height = std::max<Index>(image.height, 2), width = std::max<Index>(image.width, 2);
    std::vector<std::uint8_t> enlarged(static_cast<std::size_t>(3 * height * width));
    for (Index r = 0; r < height; ++r)
      for (Index c = 0; c < width; ++c) {
        const std::uint8_t* pixel = image.pixels +
                                    std::min(r, image.height - 1) * image.row_bytes +
                                    3 * std::min(c, image.width - 1);
        std::copy(pixel, pixel + 3, &enlarged[static_cast<std::size_t>(3 * (r * width + c))]);
      }
    memory.swap(enlarged);
    image = {memory.data(), height, width, 3 * width};
  }
  sample(image, us, vs, picture);
}

}  // namespace face_pose
