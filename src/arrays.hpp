// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Views on arrays that someone else owns, arrays of our own, and small matrices of fixed size.
//
// All are row-major, and all answer to rows(), columns() and (i, j) where they have two
// dimensions, so that the templates of linalg.hpp take any of them.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <type_traits>

// Marks a function that is compiled for CPUs with AVX2 and FMA too, and chosen when the module is
// loaded. What it calls is inlined, or else would be compiled for the oldest CPU only.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12
#define FACE_POSE_WIDE __attribute__((target_clones("arch=x86-64-v3", "default"), flatten))
#else
#define FACE_POSE_WIDE
#endif

namespace face_pose {

using Index = std::ptrdiff_t;

// A C-contiguous array of N dimensions; copies share the memory. View<const T, N> is read-only.
template <class T, int N>
class View {
 public:
  View() = default;
  View(T* data, const std::array<Index, N>& shape) : data_(data), shape_(shape) {}
  // A view that may write is also one that reads.
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T>>>
  View(const View<U, N>& other) : data_(other.data()), shape_(other.shape()) {}

  T* data() const { return data_; }
  const std::array<Index, N>& shape() const { return shape_; }
  Index size(int axis) const { return shape_[axis]; }
  Index size() const {  // number of elements
    Index count = 1;
    for (Index length : shape_) count *= length;
    return count;
  }
  Index rows() const { return shape_[0]; }
  Index columns() const {
    static_assert(N == 2);
    return shape_[1];
  }
  T* begin() const { return data_; }
  T* end() const { return data_ + size(); }

  template <class... I>
  T& operator()(I... indices) const {
    static_assert(sizeof...(I) == N);
    Index place = 0, axis = 0;
    ((place = place * shape_[axis++] + static_cast<Index>(indices)), ...);
    return data_[place];
  }
  T& operator[](Index i) const {
    static_assert(N == 1);
    return data_[i];
  }
  View<T, N - 1> row(Index i) const {
    std::array<Index, N - 1> shape{};
    Index step = 1;
    for (int axis = 1; axis < N; ++axis) step *= shape[axis - 1] = shape_[axis];
    return {data_ + i * step, shape};
  }

 private:
  T* data_ = nullptr;
  std::array<Index, N> shape_{};
};

// A View with memory of its own, zero at first; scratch space that is made once per call.
template <class T, int N>
class Buffer : public View<T, N> {
 public:
  template <class... I>
  explicit Buffer(I... lengths) : Buffer(std::array<Index, N>{static_cast<Index>(lengths)...}) {}
  explicit Buffer(const std::array<Index, N>& shape) : View<T, N>(nullptr, shape) {
    memory_.reset(new T[static_cast<std::size_t>(this->size())]());
    static_cast<View<T, N>&>(*this) = View<T, N>(memory_.get(), shape);
  }

 private:
  std::unique_ptr<T[]> memory_;
};

template <int N>
using Vector = std::array<double, N>;

// R x C numbers by value. Matrix<R, C>{} is zero.
template <int R, int C>
struct Matrix {
  std::array<double, R * C> values;

  static constexpr Index rows() { return R; }
  static constexpr Index columns() { return C; }
  double& operator()(Index i, Index j) { return values[i * C + j]; }
  double operator()(Index i, Index j) const { return values[i * C + j]; }
};

}  // namespace face_pose
