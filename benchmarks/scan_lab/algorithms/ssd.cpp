// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The library's own algorithms for SSD.
#include "ops/ssd_cases.hpp"
#include "scan_lab/lab.hpp"

namespace {

using namespace mlmamba;

template <class E>
void run_as(context_of<E>& ctx, ops::ssd<E> op, ops::scan_algorithm algorithm, index_t chunk) {
  op.algorithm = algorithm, op.chunk_size = chunk;
  mlmamba::run(ctx, op);
}

/// Token by token with the op that decodes: what a runtime without a scan does with a prompt.
struct token_by_token {
  static constexpr const char* name = "token by token";
  template <class E>
  static void run(context_of<E>& ctx, const ops::ssd<E>& op) {
    auto frame = ctx.scratch.make_frame();
    const out_accum<E, 4> state = ctx.scratch.template make<typename E::accum, 4>(op.state_shape());
    std::fill_n(state.data, state.count(), 0);
    verify::ssd_by_steps(ctx, op, state);
  }
};
/// One head after the other, its state in cache; states in lanes.
struct sequential {
  static constexpr const char* name = "sequential";
  template <class E>
  static void run(context_of<E>& ctx, const ops::ssd<E>& op) {
    run_as<E>(ctx, op, ops::scan_algorithm::sequential, 0);
  }
};
template <int chunk>
struct chunked {
  static constexpr const char* name = chunk == 16    ? "chunked 16"
                                      : chunk == 32  ? "chunked 32"
                                      : chunk == 64  ? "chunked 64"
                                      : chunk == 128 ? "chunked 128"
                                                     : "chunked";
  template <class E>
  static void run(context_of<E>& ctx, const ops::ssd<E>& op) {
    run_as<E>(ctx, op, ops::scan_algorithm::chunked, chunk);
  }
  template <class E>
  static void run(context_of<E>& ctx, ops::ssd_backward<E> op) {
    op.chunk_size = chunk;
    mlmamba::run(ctx, op);
  }
};

const lab::add<token_by_token> a;
const lab::add<sequential> b;
const lab::add<chunked<0>> c;
const lab::add<chunked<16>> c16;
const lab::add<chunked<32>> c32;
const lab::add<chunked<64>> c64;
const lab::add<chunked<128>> c128;

}  // namespace
