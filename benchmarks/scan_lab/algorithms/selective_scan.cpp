// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The library's own algorithms for the selective scan of Mamba-1.
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
    for (index_t t = 0; t < op.x.size[1]; ++t)
      mlmamba::run(ctx, ops::selective_scan_step<E>{.state = state,
                                                    .x = op.x.select(1, t),
                                                    .dt = op.dt.select(1, t),
                                                    .A = op.A,
                                                    .B = op.B.select(1, t),
                                                    .C = op.C.select(1, t),
                                                    .D = op.D,
                                                    .dt_bias = op.dt_bias,
                                                    .y = op.y.select(1, t),
                                                    .dt_softplus = op.dt_softplus});
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
