// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// numpy arrays as arguments and results of bound functions.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>
#include <type_traits>

#include "arrays.hpp"

namespace face_pose {

namespace py = pybind11;
using namespace pybind11::literals;

// Take it with "name"_a.noconvert(): an array of another type or order is then refused with a
// TypeError, instead of being copied at every call.
template <class T>
using Array = py::array_t<T, py::array::c_style>;

// Raises ValueError if an array has another number of dimensions.
inline void check_dimensions(const py::array& array, int count) {
  if (array.ndim() != count)
    throw py::value_error("expected an array of " + std::to_string(count) +
                          " dimensions, got one of " + std::to_string(array.ndim()));
}

template <int N>
std::array<Index, N> shape_of(const py::array& array) {
  check_dimensions(array, N);
  std::array<Index, N> shape{};
  for (int axis = 0; axis < N; ++axis) shape[axis] = array.shape(axis);
  return shape;
}

// The elements of an argument.
template <int N, class T>
View<const T, N> view(const Array<T>& array) {
  return {array.data(), shape_of<N>(array)};
}

// The elements of an argument or result that is written. Raises ValueError if it is read-only.
template <int N, class T>
View<T, N> writable(Array<T>& array) {
  return {array.mutable_data(), shape_of<N>(array)};
}

// A new array, not initialised.
template <class T, class... I>
Array<T> make_array(I... lengths) {
  return Array<T>(std::array<py::ssize_t, sizeof...(I)>{static_cast<py::ssize_t>(lengths)...});
}

// An argument of fixed shape, by value. Raises ValueError if its shape is another.
template <int N>
Vector<N> vector(const Array<double>& array) {
  if (shape_of<1>(array)[0] != N)
    throw py::value_error("expected " + std::to_string(N) + " numbers, got " +
                          std::to_string(array.size()));
  Vector<N> values;
  std::copy(array.data(), array.data() + N, values.begin());
  return values;
}

template <int R, int C>
Matrix<R, C> matrix(const Array<double>& array) {
  const auto [rows, columns] = shape_of<2>(array);
  if (rows != R || columns != C)
    throw py::value_error("expected a matrix of " + std::to_string(R) + " x " + std::to_string(C) +
                          ", got one of " + std::to_string(rows) + " x " +
                          std::to_string(columns));
  Matrix<R, C> values;
  std::copy(array.data(), array.data() + R * C, values.values.begin());
  return values;
}

// A new array of these numbers.
template <std::size_t N>
Array<double> array_of(const std::array<double, N>& values) {
  return Array<double>(static_cast<py::ssize_t>(N), values.data());
}

template <class T, int N>
Array<std::remove_const_t<T>> array_of(const View<T, N>& values) {
  return Array<std::remove_const_t<T>>(values.shape(), values.data());
}

template <int R, int C>
Array<double> array_of(const Matrix<R, C>& values) {
  return Array<double>({R, C}, values.values.data());
}

}  // namespace face_pose
