// Copyright the face_pose_ros authors
// SPDX-License-Identifier: Apache-2.0
// Linear algebra for small matrices: of fixed size (Matrix) or not (View, Buffer).
#pragma once

#include <cmath>
#include <utility>

#include "arrays.hpp"

namespace face_pose {

// Product of two matrices.
template <int R, int K, int C>
inline Matrix<R, C> multiply(const Matrix<R, K>& A, const Matrix<K, C>& B) {
  Matrix<R, C> product{};
  for (Index i = 0; i < R; ++i)
    for (Index k = 0; k < K; ++k)
      for (Index j = 0; j < C; ++j) product(i, j) += A(i, k) * B(k, j);
  return product;
}

// C = A B.
template <class MA, class MB, class MC>
inline void multiply(const MA& A, const MB& B, MC&& C) {
  for (Index i = 0; i < A.rows(); ++i) {
    for (Index j = 0; j < B.columns(); ++j) C(i, j) = 0;
    for (Index k = 0; k < A.columns(); ++k)
      for (Index j = 0; j < B.columns(); ++j) C(i, j) += A(i, k) * B(k, j);
  }
}

// A P A^T: the covariance of A e if P is the covariance of e.
template <int R, int K>
inline Matrix<R, R> congruent(const Matrix<R, K>& A, const Matrix<K, K>& P) {
  const Matrix<R, K> AP = multiply(A, P);
  Matrix<R, R> C{};
  for (Index i = 0; i < R; ++i)
    for (Index j = 0; j < R; ++j)
      for (Index k = 0; k < K; ++k) C(i, j) += AP(i, k) * A(j, k);
  return C;
}

// C = A P A^T; AP is scratch space of the shape of A.
template <class MA, class MP, class MAP, class MC>
inline void congruent(const MA& A, const MP& P, MAP&& AP, MC&& C) {
  multiply(A, P, AP);
  for (Index i = 0; i < A.rows(); ++i)
    for (Index j = 0; j < A.rows(); ++j) {
      double total = 0;
      for (Index k = 0; k < A.columns(); ++k) total += AP(i, k) * A(j, k);
      C(i, j) = total;
    }
}

// A^-1 by cofactors; not finite if A is singular.
inline Matrix<3, 3> inverse_3x3(const Matrix<3, 3>& A) {
  Matrix<3, 3> B{};
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 3; ++j) {
      const Index a = (i + 1) % 3, b = (i + 2) % 3, c = (j + 1) % 3, d = (j + 2) % 3;
      B(j, i) = A(a, c) * A(b, d) - A(a, d) * A(b, c);
    }
  const double determinant = A(0, 0) * B(0, 0) + A(0, 1) * B(1, 0) + A(0, 2) * B(2, 0);
  for (double& value : B.values) value /= determinant;
  return B;
}

// Writes the lower Cholesky factor of A (n, n) into L; false if A is not positive definite. Only
// the lower triangles of both are used; L may be A.
template <class MA, class ML>
inline bool cholesky(const MA& A, ML&& L) {
  for (Index i = 0; i < A.rows(); ++i)
    for (Index j = 0; j <= i; ++j) {
      double total = A(i, j);
      for (Index k = 0; k < j; ++k) total -= L(i, k) * L(j, k);
      if (i != j) {
        L(i, j) = total / L(j, j);
      } else {
        if (!(total > 0)) return false;
        L(i, i) = std::sqrt(total);
      }
    }
  return true;
}

// Replaces B (n, m) by A^-1 B, from the lower factor L of A.
template <class ML, class MB>
inline void cholesky_solve(const ML& L, MB&& B) {
  const Index n = L.rows(), m = B.columns();
  for (Index i = 0; i < n; ++i) {
    for (Index k = 0; k < i; ++k)
      for (Index j = 0; j < m; ++j) B(i, j) -= L(i, k) * B(k, j);
    for (Index j = 0; j < m; ++j) B(i, j) /= L(i, i);
  }
  for (Index i = n - 1; i >= 0; --i) {
    for (Index k = i + 1; k < n; ++k)
      for (Index j = 0; j < m; ++j) B(i, j) -= L(k, i) * B(k, j);
    for (Index j = 0; j < m; ++j) B(i, j) /= L(i, i);
  }
}

// A^-1 of a symmetric A (n, n) into A_inv, with scratch space L (n, n); false if A is not positive
// definite.
template <class MA, class ML, class MI>
inline bool cholesky_inverse(const MA& A, ML&& L, MI&& A_inv) {
  if (!cholesky(A, L)) return false;
  for (Index i = 0; i < A.rows(); ++i)
    for (Index j = 0; j < A.rows(); ++j) A_inv(i, j) = i == j ? 1 : 0;
  cholesky_solve(L, A_inv);
  return true;
}

// Reflects a symmetric A (n, n) until it is tridiagonal, and the rows (n, n) with it; of A only the
// diagonal and the elements above it are of use then. `scratch` (n,) is.
template <class MA, class V, class MR>
inline void tridiagonalise(MA&& A, V&& scratch, MR&& rows) {
  const Index n = A.rows();
  double* __restrict w = &scratch[0];
  const auto multiply_into_w = [=](const double* v, double factor, auto&& M, Index first) {
    for (Index j = 0; j < n; ++j) w[j] = 0;
    for (Index i = first; i < n; ++i)
      for (Index j = 0; j < n; ++j) w[j] += factor * v[i] * M(i, j);
  };
  for (Index k = 0; k < n - 2; ++k) {
    double* v = &A(k, 0);
    double rest_sq = 0, along = 0;
    for (Index j = k + 2; j < n; ++j) rest_sq += v[j] * v[j];
    if (!(rest_sq > 0)) continue;
    const double norm_sq = v[k + 1] * v[k + 1] + rest_sq;
    const double image = std::copysign(std::sqrt(norm_sq), -v[k + 1]);
    const double factor = 1 / (norm_sq - image * v[k + 1]);  // I - factor v v^T reflects
    v[k + 1] -= image;
    multiply_into_w(v, factor, rows, k + 1);
    for (Index i = k + 1; i < n; ++i)
      for (Index j = 0; j < n; ++j) rows(i, j) -= v[i] * w[j];
    multiply_into_w(v, factor, A, k + 1);
    for (Index j = k + 1; j < n; ++j) along += 0.5 * factor * w[j] * v[j];
    for (Index j = k + 1; j < n; ++j) w[j] -= along * v[j];
    for (Index i = k + 1; i < n; ++i)
      for (Index j = k + 1; j < n; ++j) A(i, j) -= v[i] * w[j] + w[i] * v[j];
    v[k + 1] = image;
  }
}

// Eigenvalues (n,), ascending, and eigenvectors as rows (n, n) of a symmetric A (n, n), which is
// overwritten. Symmetric QR steps with Wilkinson's shift on a tridiagonal matrix (Golub and Van
// Loan 2013, "Matrix computations", section 8.3).
template <class MA, class V, class MR>
inline void symmetric_eigen(MA&& A, V&& values, MR&& rows) {
  constexpr double rounding = 1.1e-16;
  const Index n = A.rows();
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) rows(i, j) = i == j ? 1 : 0;
  tridiagonalise(A, values, rows);
  for (Index i = 0; i < n; ++i) values[i] = A(i, i);
  const auto is_split = [&](Index k) {  // between rows k and k + 1
    return std::abs(A(k, k + 1)) <= rounding * (std::abs(values[k]) + std::abs(values[k + 1]));
  };
  Index last = n - 1;
  for (Index step = 0; last > 0 && step < 30 * n; ++step) {  // two for each value are usual
    if (is_split(last - 1)) {
      --last;
      continue;
    }
    Index first = last - 1;
    while (first > 0 && !is_split(first - 1)) --first;
    const double half = 0.5 * (values[last - 1] - values[last]), off = A(last - 1, last);
    const double root = std::sqrt(half * half + off * off);
    double x = values[first] - values[last] + off * off / (half + std::copysign(root, half));
    double z = A(first, first + 1);
    for (Index k = first; k < last; ++k) {  // turns axes k and k + 1 so that z becomes 0
      const double norm = std::sqrt(x * x + z * z);
      const double cos = norm > 0 ? x / norm : 1, sin = norm > 0 ? z / norm : 0;
      const double a = values[k], b = values[k + 1], c = A(k, k + 1);
      if (k > first) A(k - 1, k) = norm;
      values[k] = cos * cos * a + 2 * cos * sin * c + sin * sin * b;
      values[k + 1] = sin * sin * a - 2 * cos * sin * c + cos * cos * b;
      A(k, k + 1) = x = cos * sin * (b - a) + (cos * cos - sin * sin) * c;
      if (k + 1 < last) {
        z = sin * A(k + 1, k + 2);
        A(k + 1, k + 2) *= cos;
      }
      double* __restrict row = &rows(k, 0);
      double* __restrict next = &rows(k + 1, 0);
      for (Index j = 0; j < n; ++j) {
        const double of_row = row[j], of_next = next[j];
        row[j] = cos * of_row + sin * of_next;
        next[j] = cos * of_next - sin * of_row;
      }
    }
  }
  for (Index i = 0; i < n - 1; ++i) {
    Index least = i;
    for (Index j = i + 1; j < n; ++j)
      if (values[j] < values[least]) least = j;
    std::swap(values[i], values[least]);
    for (Index j = 0; j < n; ++j) std::swap(rows(i, j), rows(least, j));
  }
}

// Replaces Y (n, m) by M^-1 Y; Gaussian elimination with row pivots overwrites M (n, n). False if
// M is singular.
template <class MM, class MY>
inline bool eliminate(MM&& M, MY&& Y) {
  const Index n = M.rows(), m = Y.columns();
  for (Index i = 0; i < n; ++i) {
    Index pivot = i;
    for (Index r = i + 1; r < n; ++r)
      if (std::abs(M(r, i)) > std::abs(M(pivot, i))) pivot = r;
    if (M(pivot, i) == 0) return false;
    if (pivot != i) {
      for (Index c = 0; c < n; ++c) std::swap(M(i, c), M(pivot, c));
      for (Index c = 0; c < m; ++c) std::swap(Y(i, c), Y(pivot, c));
    }
    for (Index r = i + 1; r < n; ++r) {
      const double factor = M(r, i) / M(i, i);
      for (Index c = i + 1; c < n; ++c) M(r, c) -= factor * M(i, c);
      for (Index c = 0; c < m; ++c) Y(r, c) -= factor * Y(i, c);
    }
  }
  for (Index i = n - 1; i >= 0; --i) {
    for (Index k = i + 1; k < n; ++k)
      for (Index c = 0; c < m; ++c) Y(i, c) -= M(i, k) * Y(k, c);
    for (Index c = 0; c < m; ++c) Y(i, c) /= M(i, i);
  }
  return true;
}

}  // namespace face_pose
