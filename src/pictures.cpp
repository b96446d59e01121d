// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// What touches every pixel of an image: resizing, the networks' input, compressed depth.
#include <algorithm>
#include <cstdint>

#include "numpy.hpp"

namespace face_pose {

namespace {

// Weighted means of lines (H, n) into lines (h, n): mean i is of the lines from first[i] on, with
// weights (h, taps) that have `precision` bits behind the point.
FACE_POSE_WIDE
void weighted_lines(View<const std::uint8_t, 2> lines, View<const std::int64_t, 1> first,
                    View<const std::int32_t, 2> weights, int precision,
                    View<std::uint8_t, 2> means) {
  constexpr Index BLOCK = 64;  // sums that fit into registers
  const Index length = lines.columns();
  for (Index i = 0; i < means.rows(); ++i) {
    const Index taps = std::min(weights.columns(), lines.rows() - static_cast<Index>(first[i]));
    const std::int32_t* weight = weights.row(i).data();
    for (Index begin = 0; begin < length; begin += BLOCK) {
      const std::uint8_t* line = lines.row(first[i]).data() + begin;
      std::uint8_t* mean = means.row(i).data() + begin;
      std::int32_t total[BLOCK];
      std::fill(total, total + BLOCK, 1 << (precision - 1));
      const auto add = [&](Index count) {
        for (Index k = 0; k < taps; ++k, line += length)
          for (Index j = 0; j < count; ++j) total[j] += weight[k] * line[j];
        for (Index j = 0; j < count; ++j)
          mean[j] = static_cast<std::uint8_t>(std::clamp(total[j] >> precision, 0, 255));
      };
      if (begin + BLOCK <= length) {
        add(BLOCK);  // loops of constant length are vectorised best
      } else {
        add(length - begin);
      }
    }
  }
}

// An image (H, W, 3) of [0, 255] as planes (3, H or more, W or more) of [0, 1], in one pass.
FACE_POSE_WIDE
void normalise(View<const std::uint8_t, 3> image, View<float, 3> planes) {
  constexpr Index BLOCK = 32;
  const Index width = image.size(1);
  for (Index row = 0; row < image.size(0); ++row) {
    const std::uint8_t* __restrict pixels = image.row(row).data();
    float* __restrict red = planes.row(0).row(row).data();
    float* __restrict green = planes.row(1).row(row).data();
    float* __restrict blue = planes.row(2).row(row).data();
    const auto convert = [&](Index begin, Index end) {
      for (Index column = begin; column < end; ++column) {
        red[column] = (1.0f / 255) * pixels[3 * column];
        green[column] = (1.0f / 255) * pixels[3 * column + 1];
        blue[column] = (1.0f / 255) * pixels[3 * column + 2];
      }
    };
    const Index whole = width - width % BLOCK;
    for (Index begin = 0; begin < whole; begin += BLOCK) convert(begin, begin + BLOCK);
    convert(whole, width);
  }
}

// Numbers of an RVL code. A nibble has three bits of a number, the lowest first, and a bit that
// says whether another follows. The first nibble of a word is its most significant one.
class RvlNumbers {
 public:
  explicit RvlNumbers(View<const std::uint32_t, 1> words)
      : next_(words.begin()), end_(words.end()) {}

  // The next number, of up to 30 bits; -1: there is none.
  std::int64_t read() {
    std::int64_t number = 0;
    for (int shift = 0; shift < 30; shift += 3) {
      if (nibbles_ == 0) {
        if (next_ == end_) return -1;
        word_ = *next_++;
        nibbles_ = 8;
      }
      const std::uint32_t nibble = word_ >> 28;
      word_ <<= 4;
      --nibbles_;
      number |= static_cast<std::int64_t>(nibble & 7) << shift;
      if (nibble < 8) return number;
    }
    return -1;
  }

 private:
  const std::uint32_t* next_;
  const std::uint32_t* end_;
  std::uint32_t word_ = 0;
  int nibbles_ = 0;  // of the word that are left
};

// Depths (n,), zero at first, of the code of Wilson, "Fast Lossless Depth Image Compression"
// (2017): in turn a run of zeros and a run of depths. A run begins with its length. A depth is its
// difference from the one before, zigzag-coded. False where the words end too early or contain
// more depths.
bool decode_rvl(View<const std::uint32_t, 1> words, View<std::uint16_t, 1> z) {
  RvlNumbers numbers(words);
  std::int64_t depth = 0;
  bool is_depth = false;
  for (Index filled = 0; filled < z.size(); is_depth = !is_depth) {
    const std::int64_t run = numbers.read();
    if (run < 0 || filled + run > z.size()) return false;
    if (is_depth) {
      for (Index k = filled; k < filled + run; ++k) {
        const std::int64_t zigzag = numbers.read();
        if (zigzag < 0) return false;
        depth += (zigzag >> 1) ^ -(zigzag & 1);
        z[k] = static_cast<std::uint16_t>(depth);
      }
    }
    filled += run;
  }
  return true;
}

}  // namespace

void bind_pictures(py::module_& m) {
  m.def(
      "weighted_lines",
      [](const Array<std::uint8_t>& lines, const Array<std::int64_t>& first,
         const Array<std::int32_t>& weights, int precision) {
        const auto from = view<2>(lines);
        const auto starts = view<1>(first);
        const auto factors = view<2>(weights);
        auto means = make_array<std::uint8_t>(starts.size(), from.columns());
        const auto to = writable<2>(means);
        py::gil_scoped_release unlocked;
        weighted_lines(from, starts, factors, precision, to);
        return means;
      },
      "lines"_a.noconvert(), "first"_a.noconvert(), "weights"_a.noconvert(), "precision"_a);
  m.def(
      "normalise",
      [](const Array<std::uint8_t>& image, Array<float>& planes) {
        const auto from = view<3>(image);
        const auto to = writable<3>(planes);
        py::gil_scoped_release unlocked;
        normalise(from, to);
      },
      "image"_a.noconvert(), "planes"_a.noconvert());
  m.def(
      "decode_rvl",
      [](const Array<std::uint32_t>& words, Array<std::uint16_t>& z) {
        const auto code = view<1>(words);
        const auto depths = writable<1>(z);
        py::gil_scoped_release unlocked;
        return decode_rvl(code, depths);
      },
      "words"_a.noconvert(), "z"_a.noconvert());
}

}  // namespace face_pose
