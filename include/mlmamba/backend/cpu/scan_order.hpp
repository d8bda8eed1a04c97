// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Scan orders on the CPU: runs of tokens per task.
#pragma once

#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/scan_order.hpp"

namespace mlmamba::backend {

template <class E>
void execute(context<cpu>& ctx, const ops::scan_order<E>& op) {
  const index_t tokens = op.x.size[1], n = op.x.size[2];
  detail::for_each_run(
      ctx, op.x.size[0] * tokens, 16384 / std::max<index_t>(n, 1), [&](index_t from, index_t to) {
        for (index_t t = from; t < to; ++t) {
          const index_t b = t / tokens, k = t % tokens;
          const index_t s = ops::scan_source(op.direction, k, op.grid_rows, op.grid_columns);
          std::copy_n(op.x.data + b * op.x.stride[0] + (op.inverse ? k : s) * op.x.stride[1], n,
                      op.y.data + b * op.y.stride[0] + (op.inverse ? s : k) * op.y.stride[1]);
        }
      });
}

}  // namespace mlmamba::backend
