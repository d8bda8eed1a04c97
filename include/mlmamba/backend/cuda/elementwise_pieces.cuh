// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sums, scales and activations of arrays, four elements a thread.
#pragma once

#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/ops/elementwise.hpp"

namespace mlmamba::backend::kernels {

template <class E, class T, class U>
__global__ void add_pieces_kernel(const ops::add<E, T, U> op) {
  using A = typename E::accum;
  constexpr int count = 4;
  index_t t = thread_index() * count;
  if (t >= op.y.count()) return;
  const index_t d = take_index(t, op.y.size[1]);
  A a[count], b[count];
  read_piece(a, &op.a(t, d)), read_piece(b, &op.b(t, d));
#pragma unroll
  for (int i = 0; i < count; ++i) a[i] = (a[i] + b[i]) * A(op.scale);
  write_piece(&op.y(t, d), a);
}

/// False: operands are not aligned, and nothing was enqueued.
template <class E, class T, class U>
bool add_in_pieces(context<cuda>& ctx, const ops::add<E, T, U>& op) {
  if constexpr (!std::is_same_v<typename E::accum, float>) {
    return false;
  } else {
    if (!in_pieces(op.a, 4) || !in_pieces(op.b, 4) || !in_pieces(op.y, 4)) return false;
    launch_elements(ctx, add_pieces_kernel<E, T, U>, op.y.count() / 4, op);
    return true;
  }
}

template <class E, class Y>
__global__ void channel_scale_pieces_kernel(const ops::channel_scale<E, Y> op) {
  using A = typename E::accum;
  constexpr int count = 4;
  index_t t = thread_index() * count;
  if (t >= op.y.count()) return;
  const index_t d = take_index(t, op.y.size[1]);
  A x[count], gamma[count], residual[count] = {};
  read_piece(x, &op.x(t, d)), read_piece(gamma, &op.gamma(d));
  if (op.residual) read_piece(residual, &op.residual(t, d));
#pragma unroll
  for (int i = 0; i < count; ++i) x[i] = x[i] * gamma[i] + residual[i];
  write_piece(&op.y(t, d), x);
}
template <class E, class Y>
bool channel_scale_in_pieces(context<cuda>& ctx, const ops::channel_scale<E, Y>& op) {
  if constexpr (!std::is_same_v<typename E::accum, float>) {
    return false;
  } else {
    if (!in_pieces(op.x, 4) || !in_pieces(op.gamma, 4) || !in_pieces(op.residual, 4) ||
        !in_pieces(op.y, 4))
      return false;
    launch_elements(ctx, channel_scale_pieces_kernel<E, Y>, op.y.count() / 4, op);
    return true;
  }
}

template <class E>
__global__ void activate_pieces_kernel(const ops::activate<E> op) {
  using A = typename E::accum;
  constexpr int count = 4;
  index_t t = thread_index() * count;
  if (t >= op.y.count()) return;
  const index_t d = take_index(t, op.y.size[1]);
  A x[count];
  read_piece(x, &op.x(t, d));
#pragma unroll
  for (int i = 0; i < count; ++i) x[i] = activation_as<typename E::value>(op.activation, x[i]);
  write_piece(&op.y(t, d), x);
}
template <class E>
bool activate_in_pieces(context<cuda>& ctx, const ops::activate<E>& op) {
  if constexpr (!std::is_same_v<typename E::accum, float>) {
    return false;
  } else {
    if (!in_pieces(op.x, 4) || !in_pieces(op.y, 4)) return false;
    launch_elements(ctx, activate_pieces_kernel<E>, op.y.count() / 4, op);
    return true;
  }
}

}  // namespace mlmamba::backend::kernels
