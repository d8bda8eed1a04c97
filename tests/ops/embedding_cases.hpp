// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Table look-ups as op cases.
#pragma once

#include "mlmamba/ops/embedding.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct embedding_options {
  index_t tokens = 7, vocabulary = 4, width = 5, first = 0;
};

namespace detail {
/// Indices below n that repeat and miss some, in no order: those of a longer row from `first` on.
template <class Memory>
tensor<std::int32_t, 1, Memory> draw_indices(index_t count, index_t n, std::uint64_t seed,
                                             index_t first = 0) {
  tensor<std::int32_t, 1> host({count});
  random_stream s{seed, 7, 0};
  for (index_t t = -first; t < count; ++t) {
    const auto drawn = std::int32_t(s.below(std::uint64_t(n)));
    if (t >= 0) host(t) = drawn;
  }
  tensor<std::int32_t, 1, Memory> r({count});
  from_host(r.view(), std::as_const(host).view());
  return r;
}
}  // namespace detail

template <engine E>
struct embedding_case {
  using engine_type = E;
  using backward_op = ops::embedding_backward<E>;
  embedding_options o;
  tensor<std::int32_t, 1, typename E::memory> index;
  tensor<typename E::weight, 2, typename E::memory> table;
  tensor<typename E::accum, 2, typename E::memory> dtable;
  tensor_of<E, 2> y, dy;

  explicit embedding_case(embedding_options o)
      : o(o),
        index(detail::draw_indices<typename E::memory>(o.tokens, o.vocabulary, 3, o.first)),
        table({o.vocabulary, o.width}),
        dtable(table.shape()),
        y({o.tokens, o.width}),
        dy(y.shape()) {}
  static void inputs(auto& s, auto&& f) { f("table", s.table, s.dtable); }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::embedding<E>{.index = index, .table = table, .y = y});
  }
  void backward(context_of<E>& ctx) {
    run(ctx, backward_op{.index = index, .dy = dy, .dtable = dtable});
  }
  double terms() const { return double(o.tokens); }
};

}  // namespace mlmamba::verify
