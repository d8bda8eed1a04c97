// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Reductions: sums over rows, sums of squares, arg max.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// Adds the sum of all rows: y[d] += sum_t x[t,d], t ascending, in accum.
///
/// Shapes    x (T, D); y (D)
/// Layout    unit stride over d
template <engine E>
struct sum_rows {
  static constexpr const char* name = "sum_rows";
  in<E, 2> x{};
  out_accum<E, 1> y{};

  void check() const {
    check::given(name, "x", x);
    check::size(name, "y", y, shape<1>{{x.size[1]}});
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return double(x.count()); }
  double bytes() const { return check::total_bytes(x, y, y); }
};

/// Adds the sum of squares: y[0] += sum_i x[i]^2.
///
/// Numerics  in double (complex: sum of x^2, not of |x|^2), over blocks of 4096 elements in
///           ascending order, so that the result does not depend on the threads
template <engine E>
struct sum_squares {
  static constexpr const char* name = "sum_squares";
  using sum_type =
      std::conditional_t<math::is_complex<typename E::accum>, typename E::accum, double>;
  static constexpr index_t block = 4096;
  in_accum<E, 1> x{};
  view<sum_type, 1, typename E::memory> y{};  // (1)

  void check() const {
    check::given(name, "x", x);
    check::unit_stride(name, "x", x);
    check::size(name, "y", y, shape<1>{{1}});
  }
  double flops() const { return 2.0 * double(x.count()); }
  double bytes() const { return check::total_bytes(x); }
};

/// Index of the largest element of each row; of equal ones the first. NaN counts as smallest.
///
/// Shapes    x (T, V), V > 0; index, unfit (T)
/// Empty     unfit: -1 if the row can be chosen from; else the first place with NaN or +infinity,
///           or 0 if all are -infinity
template <engine E, class X = typename E::value>
struct argmax {
  static constexpr const char* name = "argmax";
  view<const X, 2, typename E::memory> x{};
  out_index<E, 1> index{};
  out_index<E, 1> unfit{};

  void check() const {
    check::given(name, "x", x);
    check::that(x.size[1] > 0, name, "x has no columns; wanted is at least 1");
    check::size(name, "index", index, shape<1>{{x.size[0]}});
    check::size_if_given(name, "unfit", unfit, shape<1>{{x.size[0]}});
    check::unit_stride(name, "x", x);
  }
  double flops() const { return double(x.count()); }
  double bytes() const { return check::total_bytes(x, index, unfit); }
};

}  // namespace mlmamba::ops
