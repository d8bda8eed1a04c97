// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix product with weights that were prepared once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"
#include "mlmamba/core/packed_matrix.hpp"

namespace mlmamba::ops {

/// Matrix product of rows with packed rows.
///
///   v[m,n] = sum_k x[m,k] w[n,k] + bias[n]
///   y[m,n] = activation(v[m,n])
///
/// With weights of 8 or 4 bits x is rounded to 8 bits too, by row and group (of the weights):
///   a = max_k |x[m,k]|;  sx = a / 127;  r[m,k] = nearest(x[m,k] (127 / a))      in float
///   v[m,n] = sum_g (sx[m,g] scale[n,g]) sum_{k in g} r[m,k] q[n,k] + bias[n]
/// A group with a < 1e-30 counts as zero, one with a number that is not finite as NaN.
///
/// Shapes    x (M, K); w (N, K), perhaps in parts, rows below one another; bias (N); y (M, N)
/// Layout    x, y: unit stride along rows
/// Numerics  f32 and bf16 weights: as ops::gemm with such w, bit for bit. 8 and 4 bits: sums
///           in a group are exact integers, groups are added in ascending order, one fused
///           multiply-add in accum each: the same bits for any M, N, threads and instructions
/// Errors    shape_error if sizes differ
template <engine E, class Y = typename E::value>
struct packed_gemm {
  static constexpr const char* name = "packed_gemm";
  in<E, 2> x{};                        // (M, K)
  const packed_rows* w = nullptr;      // (N, K), or the first of its parts
  in_accum<E, 1> bias{};               // (N) or empty
  view<Y, 2, typename E::memory> y{};  // (M, N)
  mlmamba::activation activation = mlmamba::activation::none;
  index_t parts = 1;  // of w, each in a format of its own

  /// N
  index_t rows() const {
    index_t n = 0;
    for (index_t i = 0; i < parts; ++i) n += w[i].rows();
    return n;
  }
  void check() const {
    check::given(name, "x", x);
    check::that(w != nullptr && parts > 0, name, "w is missing; wanted are packed rows");
    for (index_t i = 0; i < parts; ++i)
      if (x.size[1] != w[i].columns())
        fail<shape_error>(name, ": x is ", to_string(x), " and w is (", w[i].rows(), ", ",
                          w[i].columns(), "); the inner sizes differ");
    check::size(name, "y", y, shape<2>{{x.size[0], rows()}});
    check::size_if_given(name, "bias", bias, shape<1>{{rows()}});
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "y", y);
    check::unit_stride(name, "bias", bias);
  }
  double flops() const { return 2.0 * double(x.size[0]) * double(x.size[1]) * double(rows()); }
  double bytes() const {
    double n = check::total_bytes(x, bias, y);
    for (index_t i = 0; i < parts; ++i) n += double(w[i].bytes());
    return n;
  }
};

}  // namespace mlmamba::ops
