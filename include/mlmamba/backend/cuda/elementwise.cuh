// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Elementwise ops on a GPU: one thread per element.
#pragma once

#include "mlmamba/backend/cuda/column_sums.cuh"
#include "mlmamba/backend/cuda/elementwise_pieces.cuh"
#include "mlmamba/ops/elementwise.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class B, class To, class From, int R>
__global__ void copy_kernel(const ops::copy<B, To, From, R> op) {
  index_t i = thread_index();
  if (i >= op.y.count()) return;
  index_t from = 0, to = 0;
  for (int axis = R - 1; axis >= 0; --axis) {
    const index_t at = take_index(i, op.y.size[axis]);
    from += at * op.x.stride[axis];
    to += at * op.y.stride[axis];
  }
  if constexpr (std::is_same_v<To, From>) {
    op.y.data[to] = op.x.data[from];
  } else {
    op.y.data[to] = To(accum_t<From>(op.x.data[from]));
  }
}

template <class E, class T, class U>
__global__ void add_kernel(const ops::add<E, T, U> op) {
  using A = typename E::accum;
  index_t t = thread_index();
  if (t >= op.y.count()) return;
  const index_t d = take_index(t, op.y.size[1]);
  op.y(t, d) = T((A(op.a(t, d)) + A(op.b(t, d))) * A(op.scale));
}

template <class E>
__global__ void activate_kernel(const ops::activate<E> op) {
  using A = typename E::accum;
  index_t t = thread_index();
  if (t >= op.y.count()) return;
  const index_t d = take_index(t, op.y.size[1]);
  op.y(t, d) = typename E::value(apply_activation(op.activation, A(op.x(t, d))));
}

template <class E>
__global__ void activate_backward_kernel(const ops::activate_backward<E> op) {
  using A = typename E::accum;
  index_t t = thread_index();
  if (t >= op.dx.count()) return;
  const index_t d = take_index(t, op.dx.size[1]);
  op.dx(t, d) =
      typename E::value(A(op.dy(t, d)) * activation_derivative(op.activation, A(op.x(t, d))));
}

template <class E>
__global__ void gated_kernel(const ops::gated<E> op) {
  using A = typename E::accum;
  index_t t = thread_index();
  if (t >= op.y.count()) return;
  const index_t d = take_index(t, op.y.size[1]);
  op.y(t, d) =
      typename E::value(apply_activation(op.activation, A(op.gate(t, d))) * A(op.up(t, d)));
}

template <class E>
__global__ void gated_backward_kernel(const ops::gated_backward<E> op) {
  using A = typename E::accum;
  using V = typename E::value;
  index_t t = thread_index();
  if (t >= op.dgate.count()) return;
  const index_t d = take_index(t, op.dgate.size[1]);
  const A gate = A(op.gate(t, d)), up = A(op.up(t, d)), dy = A(op.dy(t, d));
  op.dgate(t, d) = V(dy * up * activation_derivative(op.activation, gate));
  op.dup(t, d) = V(dy * apply_activation(op.activation, gate));
}

template <class E, class Y>
__global__ void channel_scale_kernel(const ops::channel_scale<E, Y> op) {
  using A = typename E::accum;
  index_t t = thread_index();
  if (t >= op.y.count()) return;
  const index_t d = take_index(t, op.y.size[1]);
  const A residual = op.residual ? A(op.residual(t, d)) : A(0);
  op.y(t, d) = Y(A(op.x(t, d)) * op.gamma(d) + residual);
}

template <class E>
__global__ void channel_scale_backward_kernel(const ops::channel_scale_backward<E> op) {
  using A = typename E::accum;
  index_t t = thread_index();
  if (t >= op.dx.count()) return;
  const index_t d = take_index(t, op.dx.size[1]);
  op.dx(t, d) = typename E::value(A(op.dy(t, d)) * op.gamma(d));
}

template <class E>
struct channel_scale_term {
  static constexpr const char* name = ops::channel_scale_backward<E>::name;
  static constexpr int outputs = 1;
  using accum = typename E::accum;
  ops::channel_scale_backward<E> op;

  index_t rows() const { return op.x.size[0]; }
  index_t columns() const { return op.x.size[1]; }
  __device__ void add(index_t t, index_t d, accum (&sums)[outputs]) const {
    sums[0] = multiply_add(accum(op.dy(t, d)), accum(op.x(t, d)), sums[0]);
  }
  __device__ accum* target(int, index_t d) const { return &op.dgamma(d); }
};

template <class E>
__global__ void add_position_kernel(const ops::add_position<E> op) {
  using A = typename E::accum;
  index_t b = thread_index();
  if (b >= op.y.count()) return;
  const index_t d = take_index(b, op.y.size[2]), t = take_index(b, op.y.size[1]);
  op.y(b, t, d) = typename E::value(A(op.x(b, t, d)) + op.p(t, d));
}

template <class E>
__global__ void add_position_backward_kernel(const ops::add_position_backward<E> op) {
  using A = typename E::accum;
  index_t t = thread_index();
  if (t >= op.dp.count()) return;
  const index_t d = take_index(t, op.dp.size[1]);
  A sum = op.dp(t, d);
  for (index_t b = 0; b < op.dy.size[0]; ++b) sum += A(op.dy(b, t, d));
  op.dp(t, d) = sum;
}

template <class E>
__global__ void negative_exp_kernel(const ops::negative_exp<E> op) {
  const index_t i = thread_index();
  if (i < op.y.size[0]) op.y(i) = -math::exp(op.x(i));
}

template <class E>
__global__ void negative_exp_backward_kernel(const ops::negative_exp_backward<E> op) {
  const index_t i = thread_index();
  if (i < op.dx.size[0]) op.dx(i) = multiply_add(op.dy(i), op.y(i), op.dx(i));
}

template <class E, class T>
__global__ void fill_kernel(const ops::fill<E, T> op) {
  const index_t i = thread_index();
  if (i < op.y.size[0]) op.y(i) = T(op.value);
}

}  // namespace kernels

template <class B, class To, class From, int R>
void execute(context<cuda>& ctx, const ops::copy<B, To, From, R>& op) {
  if (kernels::copy_in_pieces(ctx, op)) return;
  kernels::launch_elements(ctx, kernels::copy_kernel<B, To, From, R>, op.y.count(), op);
}
template <class E, class T, class U>
void execute(context<cuda>& ctx, const ops::add<E, T, U>& op) {
  if (kernels::in_row_pieces<E>(ctx, op, op.y, op.a, op.b)) return;
  kernels::launch_elements(ctx, kernels::add_kernel<E, T, U>, op.y.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::activate<E>& op) {
  if (kernels::in_row_pieces<E>(ctx, op, op.y, op.x)) return;
  kernels::launch_elements(ctx, kernels::activate_kernel<E>, op.y.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::activate_backward<E>& op) {
  if (kernels::in_row_pieces<E>(ctx, op, op.dx, op.x, op.dy)) return;
  kernels::launch_elements(ctx, kernels::activate_backward_kernel<E>, op.dx.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::gated<E>& op) {
  kernels::launch_elements(ctx, kernels::gated_kernel<E>, op.y.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::gated_backward<E>& op) {
  if (kernels::in_row_pieces<E>(ctx, op, op.dgate, op.dup, op.gate, op.up, op.dy)) return;
  kernels::launch_elements(ctx, kernels::gated_backward_kernel<E>, op.dgate.count(), op);
}
template <class E, class Y>
void execute(context<cuda>& ctx, const ops::channel_scale<E, Y>& op) {
  if (kernels::in_row_pieces<E>(ctx, op, op.y, op.x, op.gamma, op.residual)) return;
  kernels::launch_elements(ctx, kernels::channel_scale_kernel<E, Y>, op.y.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::channel_scale_backward<E>& op) {
  if (op.dgamma) kernels::add_column_sums(ctx, kernels::channel_scale_term<E>{op});
  if (kernels::in_row_pieces<E>(ctx, op, op.dx, op.dy, op.gamma)) return;
  kernels::launch_elements(ctx, kernels::channel_scale_backward_kernel<E>, op.dx.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::add_position<E>& op) {
  kernels::launch_elements(ctx, kernels::add_position_kernel<E>, op.y.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::add_position_backward<E>& op) {
  kernels::launch_elements(ctx, kernels::add_position_backward_kernel<E>, op.dp.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::negative_exp<E>& op) {
  kernels::launch_elements(ctx, kernels::negative_exp_kernel<E>, op.y.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::negative_exp_backward<E>& op) {
  kernels::launch_elements(ctx, kernels::negative_exp_backward_kernel<E>, op.dx.count(), op);
}
template <class E, class T>
void execute(context<cuda>& ctx, const ops::fill<E, T>& op) {
  kernels::launch_elements(ctx, kernels::fill_kernel<E, T>, op.y.count(), op);
}

}  // namespace mlmamba::backend
