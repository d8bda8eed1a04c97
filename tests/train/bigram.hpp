// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The smallest language model: the next token from this one. For tests of training.
#pragma once

#include "mlmamba/backend/reference/adamw.hpp"
#include "mlmamba/backend/reference/cross_entropy.hpp"
#include "mlmamba/backend/reference/embedding.hpp"
#include "mlmamba/backend/reference/reduce.hpp"
#include "mlmamba/nn/module.hpp"
#include "mlmamba/ops/embedding.hpp"
#include "mlmamba/train/batch.hpp"
#include "mlmamba/train/loss.hpp"

namespace mlmamba::test {

/// logits[b,s,:] = table[ids[b,s],:]; `unused` is a parameter that nothing depends on.
template <engine E>
struct bigram {
  using engine_type = E;
  nn::parameter<E, 2> table, unused;

  explicit bigram(index_t v) : table(shape<2>{{v, v}}), unused(shape<2>{{2, 3}}) {}
  static void fields(auto& self, auto&& f) { f("table", self.table), f("unused", self.unused); }
  static void initialise(auto& self, random_stream r) {
    nn::fill(self.table, [&] { return 0.1 * r.normal(); });
    nn::fill(self.unused, [&] { return r.normal(); });
  }
};

struct bigram_gradients {
  template <engine E>
  double operator()(context_of<E>& ctx, bigram<E>& m, const train::micro_batch& b,
                    double scale) const {
    const auto ids = b.ids.view().flat();
    out<E, 3> y = ctx.template make<E, 3>(shape<3>{{b.batch(), b.length(), m.table.value.size(1)}});
    run(ctx, ops::embedding<E>{.index = ids, .table = m.table.value, .y = rows(y)});
    const auto wanted = train::shift_labels(b.labels.view(), 0);
    const double sum = train::cross_entropy_gradient<E>(ctx, y, wanted.view(), scale);
    if (m.table.grad)
      run(ctx, ops::embedding_backward<E>{.index = ids, .dy = rows(y), .dtable = m.table.grad});
    return sum;
  }
};

/// Rows of tokens: (rows, length), drawn from `v` tokens, each followed by a fixed successor.
inline train::micro_batch chains(index_t rows, index_t length, index_t v, std::uint64_t seed) {
  train::micro_batch b;
  b.ids = tensor<std::int32_t, 2>({rows, length});
  b.labels = tensor<std::int32_t, 2>({rows, length});
  random_stream r{seed, 0, 0};
  for (index_t i = 0; i < rows; ++i) {
    std::int32_t t = std::int32_t(r.below(std::uint64_t(v)));
    for (index_t s = 0; s < length; ++s) {
      b.ids(i, s) = t;
      b.labels(i, s) = s < 2 + i % 3 ? train::ignored : t;
      t = std::int32_t((5 * t + 3) % v);
    }
  }
  return b;
}

}  // namespace mlmamba::test
