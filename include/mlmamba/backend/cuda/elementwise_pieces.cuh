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

/// An op of elements of rows; compute_piece computes the four from (t, d) on.
template <class Op>
struct row_pieces {
  static constexpr const char* name = Op::name;
  Op op;
  index_t count, columns;
};
template <class E, class T, class U>
__device__ void compute_piece(const ops::add<E, T, U>& op, index_t t, index_t d) {
  float a[4], b[4];
  read_piece(a, &op.a(t, d)), read_piece(b, &op.b(t, d));
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = (a[i] + b[i]) * float(op.scale);
  write_piece(&op.y(t, d), a);
}
template <class E, class Y>
__device__ void compute_piece(const ops::channel_scale<E, Y>& op, index_t t, index_t d) {
  float x[4], gamma[4], residual[4] = {};
  read_piece(x, &op.x(t, d)), read_piece(gamma, &op.gamma(d));
  if (op.residual) read_piece(residual, &op.residual(t, d));
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = x[i] * gamma[i] + residual[i];
  write_piece(&op.y(t, d), x);
}
template <class E>
__device__ void compute_piece(const ops::activate<E>& op, index_t t, index_t d) {
  float x[4];
  read_piece(x, &op.x(t, d));
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = activation_as<typename E::value>(op.activation, x[i]);
  write_piece(&op.y(t, d), x);
}
template <class E>
__device__ void compute_piece(const ops::activate_backward<E>& op, index_t t, index_t d) {
  float x[4], dy[4];
  read_piece(x, &op.x(t, d)), read_piece(dy, &op.dy(t, d));
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = dy[i] * activation_derivative(op.activation, x[i]);
  write_piece(&op.dx(t, d), x);
}
template <class E>
__device__ void compute_piece(const ops::gated_backward<E>& op, index_t t, index_t d) {
  float gate[4], up[4], dy[4];
  read_piece(gate, &op.gate(t, d)), read_piece(up, &op.up(t, d)), read_piece(dy, &op.dy(t, d));
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float own = apply_activation(op.activation, gate[i]);
    gate[i] = dy[i] * up[i] * activation_derivative(op.activation, gate[i]);
    up[i] = dy[i] * own;
  }
  write_piece(&op.dgate(t, d), gate), write_piece(&op.dup(t, d), up);
}
template <class E>
__device__ void compute_piece(const ops::channel_scale_backward<E>& op, index_t t, index_t d) {
  float dy[4], gamma[4];
  read_piece(dy, &op.dy(t, d)), read_piece(gamma, &op.gamma(d));
#pragma unroll
  for (int i = 0; i < 4; ++i) dy[i] *= gamma[i];
  write_piece(&op.dx(t, d), dy);
}

template <class Op>
__global__ void row_pieces_kernel(const row_pieces<Op> of) {
  index_t t = thread_index() * 4;
  if (t >= of.count) return;
  const index_t d = take_index(t, of.columns);
  compute_piece(of.op, t, d);
}
/// False: operands are not aligned, or sums are not in float, and nothing was enqueued.
template <class E, class Op, class Y, class... Operands>
bool in_row_pieces(context<cuda>& ctx, const Op& op, const Y& y, const Operands&... operands) {
  if constexpr (!std::is_same_v<typename E::accum, float>) {
    return false;
  } else {
    if (!in_pieces(y, 4) || !(in_pieces(operands, 4) && ...)) return false;
    launch_elements(ctx, row_pieces_kernel<Op>, y.count() / 4,
                    row_pieces<Op>{op, y.count(), y.size[1]});
    return true;
  }
}

}  // namespace mlmamba::backend::kernels
