// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Token embedding.
#pragma once

#include "mlmamba/nn/module.hpp"
#include "mlmamba/ops/embedding.hpp"

namespace mlmamba::nn {

/// ids (B, L) -> (B, L, D).   Names  weight (V, D)
template <engine E>
struct embedding {
  using engine_type = E;
  parameter<E, 2> weight;  // (V, D)

  explicit embedding(index_t vocabulary, index_t d) : weight({vocabulary, d}) {}
  static void fields(auto& self, auto&& f) { f("weight", self.weight); }
  static void initialise(auto& self, random_stream r) {
    fill(self.weight, [&] { return 0.02 * r.normal(); });
  }

  struct saved {
    in_index<E, 1> ids;
  };
  out<E, 3> forward(context_of<E>& ctx, in_index<E, 2> ids, saved& s) const {
    out<E, 3> y = ctx.template make<E, 3>({{ids.size[0], ids.size[1], weight.value.size(1)}});
    s.ids = ids.flat();
    run(ctx, ops::embedding<E>{.index = s.ids, .table = weight.value, .y = rows(y)});
    return y;
  }
  void backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    if (weight.grad)
      run(ctx, ops::embedding_backward<E>{.index = s.ids, .dy = rows(dy), .dtable = weight.grad});
  }
};

}  // namespace mlmamba::nn
