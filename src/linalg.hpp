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

// Rotates A and the rows in the plane of axes p and q so that A(p, q) becomes 0.
template <class MA, class MR>
inline void jacobi_rotate(MA&& A, MR&& rows, Index p, Index q) {
  const double half = 0.5 * (A(q, q) - A(p, p)) / A(p, q);
  const double tan = (half >= 0 ? 1 : -1) / (std::abs(half) + std::sqrt(1 + half * half));
  const double cos = 1 / std::sqrt(1 + tan * tan), sin = tan * cos;
  const Index n = A.rows();
  const auto rotate = [=](double* __restrict a, double* __restrict b, Index count) {
    for (Index k = 0; k < count; ++k) {
      const double x = a[k], y = b[k];
      a[k] = cos * x - sin * y;
      b[k] = sin * x + cos * y;
    }
  };
  rotate(&rows(p, 0), &rows(q, 0), n);
  rotate(&A(p, 0), &A(q, 0), n);
  rotate(&A(p, p), &A(p, q), 1);
  rotate(&A(q, p), &A(q, q), 1);
  for (Index k = 0; k < n; ++k)
    if (k != p && k != q) {  // the columns of a symmetric matrix are its rows
      A(k, p) = A(p, k);
      A(k, q) = A(q, k);
    }
}

// Eigenvalues (n,), ascending, and eigenvectors as rows (n, n) of a symmetric A (n, n), which is
// overwritten. Jacobi's cyclic method (Golub and Van Loan 2013, "Matrix computations", section
// 8.5).
template <class MA, class V, class MR>
inline void symmetric_eigen(MA&& A, V&& values, MR&& rows) {
  constexpr int max_sweeps = 30;     // quadratic convergence: matrices of twelve rows need six
  constexpr double rounding = 1e-30;  // off-diagonal share of the sum of squares
  const Index n = A.rows();
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) rows(i, j) = i == j ? 1 : 0;
  for (int sweep = 0; sweep < max_sweeps; ++sweep) {
    double total = 0, off = 0;
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) {
        const double square = A(i, j) * A(i, j);
        total += square;
        if (i != j) off += square;
      }
    if (!(off > rounding * total)) break;
    for (Index p = 0; p < n - 1; ++p)
      for (Index q = p + 1; q < n; ++q)
        if (n * n * A(p, q) * A(p, q) > rounding * total) jacobi_rotate(A, rows, p, q);
  }
  for (Index i = 0; i < n; ++i) values[i] = A(i, i);
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
