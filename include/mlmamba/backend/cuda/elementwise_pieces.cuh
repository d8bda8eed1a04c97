// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sums, scales and activations of arrays, four elements a thread.
#pragma once

#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/ops/elementwise.hpp"

namespace mlmamba::backend::kernels {

template <class B, class To, class From, int R>
__global__ void copy_pieces_kernel(const ops::copy<B, To, From, R> op) {
  constexpr int count = 4;
  index_t i = thread_index() * count, from = 0, to = 0;
  if (i >= op.y.count()) return;
#pragma unroll
  for (int axis = R - 1; axis >= 0; --axis) {
    const index_t at = take_index(i, op.y.size[axis]);
    from += at * op.x.stride[axis];
    to += at * op.y.stride[axis];
  }
  if constexpr (std::is_same_v<To, From>) {  // as it is, a NaN too
    To x[count];
    read_piece(x, op.x.data + from);
    write_piece(op.y.data + to, x);
  } else {
    accum_t<From> x[count];
    read_piece(x, op.x.data + from);
    write_piece(op.y.data + to, x);
  }
}
template <class B, class To, class From, int R>
bool copy_in_pieces(context<cuda>& ctx, const ops::copy<B, To, From, R>& op) {
  if (!in_pieces(op.x, 4) || !in_pieces(op.y, 4)) return false;
  launch_elements(ctx, copy_pieces_kernel<B, To, From, R>, op.y.count() / 4, op);
  return true;
}

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

template <class E>
__global__ void activate_backward_pieces_kernel(const ops::activate_backward<E> op) {
  using A = typename E::accum;
  constexpr int count = 4;
  index_t t = thread_index() * count;
  if (t >= op.dx.count()) return;
  const index_t d = take_index(t, op.dx.size[1]);
  A x[count], dy[count];
  read_piece(x, &op.x(t, d)), read_piece(dy, &op.dy(t, d));
#pragma unroll
  for (int i = 0; i < count; ++i) x[i] = dy[i] * activation_derivative(op.activation, x[i]);
  write_piece(&op.dx(t, d), x);
}
template <class E>
bool activate_backward_in_pieces(context<cuda>& ctx, const ops::activate_backward<E>& op) {
  if (!in_pieces(op.x, 4) || !in_pieces(op.dy, 4) || !in_pieces(op.dx, 4)) return false;
  launch_elements(ctx, activate_backward_pieces_kernel<E>, op.dx.count() / 4, op);
  return true;
}

template <class E>
__global__ void gated_backward_pieces_kernel(const ops::gated_backward<E> op) {
  using A = typename E::accum;
  constexpr int count = 4;
  index_t t = thread_index() * count;
  if (t >= op.dgate.count()) return;
  const index_t d = take_index(t, op.dgate.size[1]);
  A gate[count], up[count], dy[count];
  read_piece(gate, &op.gate(t, d)), read_piece(up, &op.up(t, d)), read_piece(dy, &op.dy(t, d));
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const A own = apply_activation(op.activation, gate[i]);
    gate[i] = dy[i] * up[i] * activation_derivative(op.activation, gate[i]);
    up[i] = dy[i] * own;
  }
  write_piece(&op.dgate(t, d), gate), write_piece(&op.dup(t, d), up);
}
template <class E>
bool gated_backward_in_pieces(context<cuda>& ctx, const ops::gated_backward<E>& op) {
  if (!in_pieces(op.gate, 4) || !in_pieces(op.up, 4) || !in_pieces(op.dy, 4) ||
      !in_pieces(op.dgate, 4) || !in_pieces(op.dup, 4))
    return false;
  launch_elements(ctx, gated_backward_pieces_kernel<E>, op.dgate.count() / 4, op);
  return true;
}

template <class E>
__global__ void channel_scale_backward_pieces_kernel(const ops::channel_scale_backward<E> op) {
  using A = typename E::accum;
  constexpr int count = 4;
  index_t t = thread_index() * count;
  if (t >= op.dx.count()) return;
  const index_t d = take_index(t, op.dx.size[1]);
  A dy[count], gamma[count];
  read_piece(dy, &op.dy(t, d)), read_piece(gamma, &op.gamma(d));
#pragma unroll
  for (int i = 0; i < count; ++i) dy[i] *= gamma[i];
  write_piece(&op.dx(t, d), dy);
}
template <class E>
bool channel_scale_backward_in_pieces(context<cuda>& ctx,
                                      const ops::channel_scale_backward<E>& op) {
  if (!in_pieces(op.dy, 4) || !in_pieces(op.gamma, 4) || !in_pieces(op.dx, 4)) return false;
  launch_elements(ctx, channel_scale_backward_pieces_kernel<E>, op.dx.count() / 4, op);
  return true;
}

}  // namespace mlmamba::backend::kernels
