// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Many ops of one kind at once.
#pragma once

#include <span>

#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// What running the parts one after the other gives, bit for bit; none reads what another writes,
/// but for a number that all add to.
///
/// Optional  a backend without it lacks nothing: run_series runs the parts. One whose launches take
///           longer than small arrays has it, and prefers(ctx, series)
template <class Op>
struct series {
  static constexpr const char* name = Op::name;
  std::span<const Op> parts;

  void check() const {
    for (const Op& op : parts) op.check();
  }
  double flops() const {
    double all = 0;
    for (const Op& op : parts) all += op.flops();
    return all;
  }
  double bytes() const {
    double all = 0;
    for (const Op& op : parts) all += op.bytes();
    return all;
  }
};

template <class B, class Op>
void run_series(context<B>& ctx, std::span<const Op> parts) {
  if constexpr (requires(const series<Op>& all) { prefers(ctx, all); }) {
    const series<Op> all{parts};
    if (prefers(ctx, all)) return run(ctx, all);
  }
  for (const Op& op : parts) run(ctx, op);
}

}  // namespace mlmamba::ops
