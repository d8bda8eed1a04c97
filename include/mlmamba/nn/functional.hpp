// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Value-returning helpers: each makes its result in the context's scratch.
#pragma once

#include "mlmamba/nn/module.hpp"
#include "mlmamba/ops/elementwise.hpp"
#include "mlmamba/ops/reduce.hpp"
#include "mlmamba/ops/sample.hpp"

namespace mlmamba::nn {

/// An uninitialised array of the same shape and element type.
template <class B, class T, int R, class M>
view<std::remove_const_t<T>, R, M> like(context<B>& ctx, const view<T, R, M>& x) {
  return ctx.scratch.template make<std::remove_const_t<T>>(x.shape());
}

/// a + b, of contiguous arrays (or slices whose rows can be merged).
template <class B, class T, class U, int R, class M>
view<std::remove_const_t<T>, R, M> add(context<B>& ctx, view<T, R, M> a, view<U, R, M> b,
                                       double scale = 1) {
  using V = std::remove_const_t<T>;
  using W = std::remove_const_t<U>;
  using E = on<B, V>;
  auto y = like(ctx, a);
  run(ctx, ops::add<E, V, W>{.a = rows(view<const V, R, M>(a)),
                             .b = rows(view<const W, R, M>(b)),
                             .y = rows(y),
                             .scale = typename E::real(scale)});
  return y;
}

/// activation(x).
template <class B, class T, int R, class M>
view<std::remove_const_t<T>, R, M> activate(context<B>& ctx, view<T, R, M> x, activation a) {
  using V = std::remove_const_t<T>;
  auto y = like(ctx, x);
  run(ctx,
      ops::activate<on<B, V>>{.x = rows(view<const V, R, M>(x)), .y = rows(y), .activation = a});
  return y;
}
/// dy activation'(x).
template <class B, class T, class U, int R, class M>
view<std::remove_const_t<T>, R, M> activate_backward(context<B>& ctx, view<T, R, M> dy,
                                                     view<U, R, M> x, activation a) {
  using V = std::remove_const_t<T>;
  auto dx = like(ctx, dy);
  run(ctx, ops::activate_backward<on<B, V>>{.x = rows(view<const V, R, M>(x)),
                                            .dy = rows(view<const V, R, M>(dy)),
                                            .dx = rows(dx),
                                            .activation = a});
  return dx;
}

/// activation(gate) up.
template <class B, class T, class U, int R, class M>
view<std::remove_const_t<T>, R, M> gated(context<B>& ctx, view<T, R, M> gate, view<U, R, M> up,
                                         activation a) {
  using V = std::remove_const_t<T>;
  auto y = like(ctx, gate);
  run(ctx, ops::gated<on<B, V>>{.gate = rows(view<const V, R, M>(gate)),
                                .up = rows(view<const V, R, M>(up)),
                                .y = rows(y),
                                .activation = a});
  return y;
}
template <class T, int R, class M>
struct gated_gradients {
  view<T, R, M> gate, up;
};
template <class B, class T, class U, class W, int R, class M>
gated_gradients<std::remove_const_t<T>, R, M> gated_backward(context<B>& ctx, view<T, R, M> dy,
                                                             view<U, R, M> gate, view<W, R, M> up,
                                                             activation a) {
  using V = std::remove_const_t<T>;
  gated_gradients<V, R, M> d{like(ctx, dy), like(ctx, dy)};
  run(ctx, ops::gated_backward<on<B, V>>{.gate = rows(view<const V, R, M>(gate)),
                                         .up = rows(view<const V, R, M>(up)),
                                         .dy = rows(view<const V, R, M>(dy)),
                                         .dgate = rows(d.gate),
                                         .dup = rows(d.up),
                                         .activation = a});
  return d;
}
/// silu(gate) up, the usual gate, and its gradients.
template <class B, class T, class U, int R, class M>
auto silu_mul(context<B>& ctx, view<T, R, M> gate, view<U, R, M> up) {
  return gated(ctx, gate, up, activation::silu);
}
template <class B, class T, class U, class W, int R, class M>
auto silu_mul_backward(context<B>& ctx, view<T, R, M> dy, view<U, R, M> gate, view<W, R, M> up) {
  return gated_backward(ctx, dy, gate, up, activation::silu);
}

/// A copy as element type `To`, contiguous whatever the strides of x.
template <class To, class B, class T, int R, class M>
view<To, R, M> to(context<B>& ctx, view<T, R, M> x) {
  auto y = ctx.scratch.template make<To>(x.shape());
  run(ctx, ops::copy<B, To, std::remove_const_t<T>, R>{
               .x = view<const std::remove_const_t<T>, R, M>(x), .y = y});
  return y;
}
/// Copies x into a view of equal shape.
template <class B, class T, class U, int R, class M>
void assign(context<B>& ctx, view<U, R, M> y, view<T, R, M> x) {
  run(ctx, ops::copy<B, U, std::remove_const_t<T>, R>{
               .x = view<const std::remove_const_t<T>, R, M>(x), .y = y});
}
/// Adds x to y in place.
template <class B, class T, class U, int R, class M>
void add_to(context<B>& ctx, view<U, R, M> y, view<T, R, M> x) {
  using V = std::remove_const_t<T>;
  using E = on<B, U>;
  run(ctx, ops::add<E, U, V>{
               .a = rows(view<const U, R, M>(y)), .b = rows(view<const V, R, M>(x)), .y = rows(y)});
}

/// The place of the largest element of each row of (T, V), and whether there is one: ops::argmax.
template <class B, class T, class M>
void largest(context<B>& ctx, view<T, 2, M> x, view<std::int32_t, 1, M> place,
             view<std::int32_t, 1, M> unfit = {}) {
  using V = std::remove_const_t<T>;
  run(ctx, ops::argmax<on<B, V>, V>{.x = view<const V, 2, M>(x), .index = place, .unfit = unfit});
}

/// The next token of each row of logits (T, V): ops::sample.
template <class B, class T, class M>
void sample(context<B>& ctx, view<T, 2, M> logits, view<sampling_rule, 1, M> rules,
            view<std::uint64_t, 1, M> draws, view<std::uint32_t, 2, M> seen,
            view<std::int32_t, 1, M> place, view<std::int32_t, 1, M> unfit) {
  using V = std::remove_const_t<T>;
  run(ctx, ops::sample<on<B, V>, V>{.x = view<const V, 2, M>(logits),
                                    .rules = view<const sampling_rule, 1, M>(rules),
                                    .draws = draws,
                                    .seen = seen,
                                    .index = place,
                                    .unfit = unfit});
}

}  // namespace mlmamba::nn
