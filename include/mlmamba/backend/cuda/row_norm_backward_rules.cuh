// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What each norm does with its elements in the backward: rules for row_norm_backward.cuh.
#pragma once

#include "mlmamba/backend/cuda/row_norm_backward.cuh"
#include "mlmamba/ops/norm.hpp"

namespace mlmamba::backend::kernels {

/// RMSNorm, and LayerNorm: the one that has means.
template <class E, class X, class Op>
struct row_norm_backward_rule {
  static constexpr bool centred = requires(const Op& o) { o.mean; };
  static constexpr const char* name = Op::name;
  static constexpr int row_sums = centred ? 2 : 1, count = row_norm_count;
  static constexpr int outputs = row_sums;  // dweight, dbias
  using accum = typename E::accum;
  using A = accum;
  Op op;

  struct part {
    packed_row<X> x, dx;
    packed_row<typename E::value> dy;
  };
  struct row_type {
    A rstd, center;
  };
  bool fits() const {
    return in_pieces(op.x, count) && in_pieces(op.dy, count) && in_pieces(op.dx, count) &&
           in_pieces(op.weight, count);
  }
  bool wants_columns() const {
    if constexpr (centred) {
      return op.dweight || op.dbias;
    } else {
      return bool(op.dweight);
    }
  }
  __device__ accum* target(int k, index_t d) const {
    if constexpr (centred)
      if (k == 1) return op.dbias ? &op.dbias(d) : nullptr;
    return op.dweight ? &op.dweight(d) : nullptr;
  }

  __device__ row_type row(index_t t, index_t) const {
    if constexpr (centred) {
      return {op.rstd(t), op.mean(t)};
    } else {
      return {op.rstd(t), A(0)};
    }
  }
  __device__ void read(part& p, index_t t, index_t d) const {
    p.x.read(op.x, t, d), p.dy.read(op.dy, t, d);
    if (op.accumulate) p.dx.read(op.dx, t, d);
  }
  __device__ A normed(const part& p, const row_type& r, int i) const {  // xhat
    return (p.x[i] - r.center) * r.rstd;
  }
  __device__ void sum(const part& p, const row_type& r, index_t d, A (&sums)[row_sums],
                      A (&columns)[outputs][count]) const {
    A weight[count];
    read_weights(weight, op.weight, d);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const A dy = p.dy[i], q = dy * normed(p, r, i);
      sums[0] = multiply_add(q, weight[i], sums[0]);
      columns[0][i] += q;
      if constexpr (centred) sums[1] = multiply_add(dy, weight[i], sums[1]), columns[1][i] += dy;
    }
  }
  __device__ void write(const part& p, const row_type& r, const A (&means)[row_sums], index_t t,
                        index_t d) const {
    A weight[count], dx[count];
    read_weights(weight, op.weight, d);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      dx[i] = p.dy[i] * weight[i] - normed(p, r, i) * means[0];
      if constexpr (centred) dx[i] -= means[1];
      dx[i] *= r.rstd;
      if (op.accumulate) dx[i] += p.dx[i];
    }
    write_row(op.dx, t, d, dx);
  }
};

/// How a norm is gated: not at all, before the norm (Mamba-2), after it.
inline constexpr int ungated = 0, gated_first = 1, gated_last = 2;

template <class Gate, class E>
struct gated_rms_norm_backward_rule {
  static constexpr const char* name = ops::gated_rms_norm_backward<E>::name;
  static constexpr int row_sums = 1, outputs = 1, count = row_norm_count;
  using accum = typename E::accum;
  using A = accum;
  using V = typename E::value;
  static constexpr bool gated = Gate::value != ungated;
  ops::gated_rms_norm_backward<E> op;

  struct part {
    packed_row<V> x, z, dy;
    A sigmoid[count];
  };
  struct row_type {
    A rstd;
  };
  bool fits() const {
    return in_pieces(op.x, count) && in_pieces(op.z, count) && in_pieces(op.dy, count) &&
           in_pieces(op.dx, count) && in_pieces(op.dz, count) && in_pieces(op.weight, count);
  }
  bool wants_columns() const { return bool(op.dweight); }
  __device__ accum* target(int, index_t d) const { return &op.dweight(d); }

  __device__ row_type row(index_t t, index_t group) const { return {op.rstd(t, group)}; }
  __device__ void read(part& p, index_t t, index_t d) const {
    p.x.read(op.x, t, d), p.dy.read(op.dy, t, d);
    if (gated) p.z.read(op.z, t, d);
  }
  __device__ A gate(const part& p, int i) const { return gated ? p.z[i] * p.sigmoid[i] : A(1); }
  __device__ void sum(part& p, const row_type& r, index_t d, A (&sums)[row_sums],
                      A (&columns)[outputs][count]) const {
    A weight[count];
    read_weights(weight, op.weight, d);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if (gated) p.sigmoid[i] = sigmoid_as<V>(p.z[i]);
      // g uhat holds the gate once, in whichever of the two it is
      const A q = p.dy[i] * (p.x[i] * gate(p, i) * r.rstd);
      sums[0] = multiply_add(q, weight[i], sums[0]);
      columns[0][i] += q;
    }
  }
  __device__ void write(const part& p, const row_type& r, const A (&means)[row_sums], index_t t,
                        index_t d) const {
    A weight[count], dx[count], dz[count];
    read_weights(weight, op.weight, d);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const A x = p.x[i], dyw = p.dy[i] * weight[i], own = gate(p, i);
      const A slope = gated ? p.sigmoid[i] * (A(1) + p.z[i] * (A(1) - p.sigmoid[i])) : A(0);
      if constexpr (Gate::value == gated_last) {
        dx[i] = (dyw * own - x * r.rstd * means[0]) * r.rstd;
        dz[i] = dyw * (x * r.rstd) * slope;
      } else {
        const A du = (dyw - x * own * r.rstd * means[0]) * r.rstd;
        dx[i] = du * own;
        dz[i] = du * x * slope;
      }
    }
    write_row(op.dx, t, d, dx);
    if (gated) write_row(op.dz, t, d, dz);
  }
};

template <class E>
bool launch_gated_rms_norm_backward(context<cuda>& ctx, const ops::gated_rms_norm_backward<E>& op) {
  const auto launch = [&](auto gate) {
    using rule = gated_rms_norm_backward_rule<decltype(gate), E>;
    return launch_row_norm_backward(ctx, rule{op}, op.x.size[0], op.x.size[1] / op.group(),
                                    op.group());
  };
  if (!op.z) return launch(constant<ungated>{});
  return op.norm_before_gate ? launch(constant<gated_last>{}) : launch(constant<gated_first>{});
}

}  // namespace mlmamba::backend::kernels
