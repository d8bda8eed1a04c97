// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Activation recomputation: a block that keeps its input only.
#pragma once

#include <utility>

#include "mlmamba/nn/functional.hpp"

namespace mlmamba::nn {

/// `M`, whose backward runs its forward again: the memory of one block instead of all, for a third
/// more time. The same numbers, bit for bit. Names and initialisation are those of M.
///
/// Shapes    M maps (B, T, D) of T to the same shape: a residual block, not a projection
template <module M, class T = typename M::engine_type::value>
struct checkpointed {
  using engine_type = typename M::engine_type;
  using E = engine_type;
  using in_view = view<const T, 3, typename E::memory>;
  using out_view = view<T, 3, typename E::memory>;
  M inner;

  template <class... Args>
  requires std::constructible_from<M, Args...>
  explicit checkpointed(Args&&... args) : inner(std::forward<Args>(args)...) {}
  static void fields(auto& self, auto&& f) { M::fields(self.inner, f); }
  static void initialise(auto& self, random_stream r) { nn::initialise(self.inner, r); }

  struct saved {
    in_view x;  // lives as long as the caller's frame
  };
  out_view forward(context_of<E>& ctx, in_view x, saved& s) const {
    s.x = x;
    const out_view y = ctx.scratch.template make<T>(x.shape());
    auto frame = ctx.scratch.make_frame();
    typename M::saved unused;
    put(ctx, inner.forward(ctx, x, unused), y);
    return y;
  }
  out_view backward(context_of<E>& ctx, in_view dy, const saved& s) {
    const out_view dx = ctx.scratch.template make<T>(s.x.shape());
    auto frame = ctx.scratch.make_frame();
    typename M::saved again;
    inner.forward(ctx, s.x, again);
    put(ctx, inner.backward(ctx, dy, again), dx);
    return dx;
  }

 private:
  static void put(context_of<E>& ctx, in_view from, out_view to) {
    if (!(from.shape() == to.shape()))
      fail<shape_error>("checkpointed: ", to_string(to), " in and ", to_string(from),
                        " out; a module that keeps the shape is wanted");
    run(ctx, ops::copy<typename E::backend, T, T, 3>{.x = from, .y = to});
  }
};

}  // namespace mlmamba::nn
