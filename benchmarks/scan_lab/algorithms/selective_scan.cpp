// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The library's own algorithms for the selective scan of Mamba-1.
#include "ops/selective_scan_cases.hpp"
#include "scan_lab/lab.hpp"

namespace {

using namespace mlmamba;

struct token_by_token {
  static constexpr const char* name = "token by token";
  template <class E>
  static void run(context_of<E>& ctx, const ops::selective_scan<E>& op) {
    auto frame = ctx.scratch.make_frame();
    const out_accum<E, 3> state = ctx.scratch.template make<typename E::accum, 3>(
        shape<3>{{op.x.size[0], op.x.size[2], op.A.size[1]}});
    std::fill_n(state.data, state.count(), 0);
    verify::scan_by_steps(ctx, op, state);
  }
};
/// Channels in lanes and tasks, tokens in order.
struct channels_in_lanes {
  static constexpr const char* name = "channels in lanes";
  template <class E>
  static void run(context_of<E>& ctx, const ops::selective_scan<E>& op) {
    mlmamba::run(ctx, op);
  }
  template <class E>
  static void run(context_of<E>& ctx, const ops::selective_scan_backward<E>& op) {
    mlmamba::run(ctx, op);
  }
};
const lab::add<token_by_token> a;
const lab::add<channels_in_lanes> b;

}  // namespace
