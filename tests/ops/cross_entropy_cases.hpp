// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Cross-entropy as op cases.
#pragma once

#include "mlmamba/ops/cross_entropy.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct cross_entropy_options {
  index_t rows = 5, vocabulary = 7;
  index_t first = 0;       ///< number of the first row: labels depend on it
  bool one_scale = false;  ///< no dloss: a constant for all rows
  bool in_place = false;   ///< dlogits are written over a copy of the logits
};

/// Every third row is ignored.
template <engine E>
struct cross_entropy_case {
  using engine_type = E;
  using backward_op = ops::cross_entropy_backward<E>;
  cross_entropy_options o;
  tensor_of<E, 2> logits, dlogits;
  tensor<std::int32_t, 1, typename E::memory> label;
  tensor<typename E::accum, 1, typename E::memory> loss, dloss;

  static constexpr std::int32_t ignored = -7;
  static constexpr double scale = 0.375;

  explicit cross_entropy_case(cross_entropy_options o)
      : o(o),
        logits({o.rows, o.vocabulary}),
        dlogits(logits.shape()),
        label({o.rows}),
        loss({o.rows}),
        dloss({o.rows}) {
    tensor<std::int32_t, 1> host({o.rows});
    for (index_t t = 0; t < o.rows; ++t)
      host(t) = (t + o.first) % 3 == 2 ? ignored : std::int32_t(5 * (t + o.first) % o.vocabulary);
    from_host(label.view(), std::as_const(host).view());
  }
  static void inputs(auto& s, auto&& f) { f("logits", s.logits, s.dlogits); }
  static void outputs(auto& s, auto&& f) { f("loss", s.loss, s.dloss); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::cross_entropy<E>{
                 .logits = logits, .label = label, .loss = loss, .ignore_index = ignored});
  }
  void backward(context_of<E>& ctx) {
    if (o.in_place)
      allocator<typename E::memory>::copy(dlogits.data(), logits.data(), logits.bytes());
    backward_op op{.logits = logits,
                   .label = label,
                   .dloss = dloss,
                   .dlogits = dlogits,
                   .ignore_index = ignored};
    if (o.in_place) op.logits = dlogits;
    if (o.one_scale) {
      op.dloss = {}, op.scale = typename E::real(scale);
      detail::write(dloss, std::vector<double>(std::size_t(o.rows), scale));  // what it stands for
    }
    run(ctx, op);
  }
  double terms() const { return double(o.vocabulary); }
};

}  // namespace mlmamba::verify
