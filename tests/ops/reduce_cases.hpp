// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Reductions as op cases. They add to what is there: outputs start from an input.
#pragma once

#include "mlmamba/ops/elementwise.hpp"
#include "mlmamba/ops/reduce.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct reduce_options {
  index_t rows = 3, width = 5;
  bool strided = false;  // x is a slice of a wider array
};

template <engine E>
struct sum_rows_case {
  using engine_type = E;
  using A = typename E::accum;
  reduce_options o;
  tensor_of<E, 2> x, none;
  tensor<A, 1, typename E::memory> before, y, no_accum;

  explicit sum_rows_case(reduce_options o)
      : o(o), x({o.rows, o.width + (o.strided ? 3 : 0)}), before({o.width}), y({o.width}) {}
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.none);
    f("before", s.before, s.no_accum);
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.no_accum); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::copy<typename E::backend, A, A, 1>{.x = before, .y = y});
    run(ctx, ops::sum_rows<E>{.x = x.view().slice(1, 0, o.width), .y = y});
  }
  double terms() const { return double(o.rows + 1); }
};

template <engine E>
struct sum_squares_case {
  using engine_type = E;
  using op = ops::sum_squares<E>;
  tensor<typename E::accum, 1, typename E::memory> x, none;
  tensor<typename op::sum_type, 1, typename E::memory> before, y, no_sum;

  explicit sum_squares_case(reduce_options o) : x({o.rows * o.width}), before({1}), y({1}) {}
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.none);
    f("before", s.before, s.no_sum);
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.no_sum); }
  void forward(context_of<E>& ctx) {
    using S = typename op::sum_type;
    run(ctx, ops::copy<typename E::backend, S, S, 1>{.x = before, .y = y});
    run(ctx, op{.x = x, .y = y});
  }
  double terms() const { return double(x.count()); }
};

/// The index as a number of accum, in which every column is exact.
template <engine E>
struct argmax_case {
  using engine_type = E;
  using A = typename E::accum;
  using memory = typename E::memory;
  reduce_options o;
  tensor_of<E, 2> x, none;
  tensor<std::int32_t, 1, memory> index;
  tensor<A, 1, memory> y, no_accum;

  explicit argmax_case(reduce_options o)
      : o(o), x({o.rows, o.width + (o.strided ? 3 : 0)}), index({o.rows}), y({o.rows}) {}
  static void inputs(auto& s, auto&& f) { f("x", s.x, s.none); }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.no_accum); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::argmax<E>{.x = x.view().slice(1, 0, o.width), .index = index});
    const auto got = to_host(index.view());
    tensor<A, 1> host({o.rows});
    for (index_t i = 0; i < o.rows; ++i) host(i) = A(real_t<A>(got(i)));
    from_host(y.view(), std::as_const(host).view());
  }
  double terms() const { return 1; }
};

}  // namespace mlmamba::verify
