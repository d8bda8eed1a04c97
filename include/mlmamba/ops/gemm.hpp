// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix product with bias and activation.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// Matrix product of rows with rows.
///
///   v[m,n] = sum_k x[m,k] w[n,k] + bias[n]        (+ y[m,n] if accumulate)
///   y[m,n] = activation(v[m,n])
///
/// Shapes    x (M, K); w (N, K); bias (N); y, pre_activation (M, N)
/// Layout    any strides with a unit stride on either axis of x and w, so a transposed operand is a
///           transposed view; y and pre_activation: unit stride over n
/// Numerics  each y[m,n] is one sum over k in accum, in a fixed order that does not depend on M, on
///           N or on the threads; bias is added after the sum, then rounded to Y. Where a processor
///           multiplies pairs or tiles of bf16, denormal numbers count as zero in them. On a GPU
///           the order may depend on M unless rows are to be independent (cuda_options), and large
///           products to bf16 or f16 round bias too, and v before the activation
/// Empty     bias; pre_activation: v, wanted by a backward pass. M, N or K may be 0 (an empty sum)
/// Errors    shape_error if sizes differ; accumulate with an activation
template <engine E, class Y = typename E::value, class W = typename E::value,
          class X = typename E::value>
struct gemm {
  static constexpr const char* name = "gemm";
  view<const X, 2, typename E::memory> x{};         // (M, K)
  view<const W, 2, typename E::memory> w{};         // (N, K)
  in_accum<E, 1> bias{};                            // (N) or empty
  view<Y, 2, typename E::memory> y{};               // (M, N)
  view<Y, 2, typename E::memory> pre_activation{};  // (M, N) or empty
  mlmamba::activation activation = mlmamba::activation::none;
  bool accumulate = false;

  void check() const {
    check::given(name, "x", x);
    check::given(name, "w", w);
    if (x.size[1] != w.size[1])
      fail<shape_error>(name, ": x is ", to_string(x), " and w is ", to_string(w),
                        "; the inner sizes differ");
    check::size(name, "y", y, shape<2>{{x.size[0], w.size[0]}});
    check::size_if_given(name, "bias", bias, shape<1>{{w.size[0]}});
    check::unit_stride(name, "bias", bias);
    check::size_if_given(name, "pre_activation", pre_activation, shape<2>{{x.size[0], w.size[0]}});
    check::unit_stride(name, "y", y);
    check::unit_stride(name, "pre_activation", pre_activation);
    one_unit_stride("x", x);
    one_unit_stride("w", w);
    check::that(!accumulate || activation == mlmamba::activation::none, name,
                "accumulate with an activation; wanted is one of them");
  }
  double flops() const { return 2.0 * double(x.size[0]) * double(x.size[1]) * double(w.size[0]); }
  double bytes() const {
    return check::total_bytes(x, w, bias, y, pre_activation) + (accumulate ? check::bytes(y) : 0.0);
  }

 private:
  template <class T>
  static void one_unit_stride(const char* operand, const view<T, 2, typename E::memory>& v) {
    const bool unit = v.stride[0] == 1 || v.stride[1] == 1 || v.size[0] <= 1 || v.size[1] <= 1;
    check::that(unit, name, std::string(operand) + " has no axis of unit stride; wanted is one");
  }
};

}  // namespace mlmamba::ops
