// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of norms with each element read once: a row's gradient and its share of the weights' in
// one pass. A rule says what a norm does with a piece of four elements.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/column_sums.cuh"
#include "mlmamba/backend/cuda/row_norm.cuh"
#include "mlmamba/ops/norm.hpp"

namespace mlmamba::backend::kernels {

inline constexpr int wide_row_threads = 640;  // 5120 elements are two pieces for each

/// Rows [part span, (part + 1) span) of one group of columns are a block's, one after the other; a
/// thread has `Per` pieces of each. What rows add to the gradients of weights stays in registers,
/// and then in `parts`. The order of sums depends on the sizes only.
///
/// A Rule (host: name, fits, wants_columns; see column_sums_plan for target):
///   struct part;                          what is read of a piece
///   struct row_type;  row_type row(t, group)                    what a row has one of
///   void read(part&, t, d)
///   void sum(part&, row, d, A (&sums)[row_sums], columns)       columns[output][i] are added to
///   void write(part, row, A (&means)[row_sums], t, d)
template <class Rule>
struct row_norm_backward_plan {
  static constexpr const char* name = Rule::name;
  Rule rule;
  index_t rows, groups, width, span;  // width: of a group
  view<typename Rule::accum, 3, memory::device>
      parts;  // (parts, outputs, columns); empty: not wanted
};

template <class Per, class Threads, class Rule>
__global__ void __launch_bounds__(Threads::value, Threads::value <= block_threads ? 2 : 1)
    row_norm_backward_kernel(const row_norm_backward_plan<Rule> plan) {
  using A = typename Rule::accum;
  constexpr int per = Per::value, count = row_norm_count, most_warps = Threads::value / warp_size;
  __shared__ A shared[2][Rule::row_sums][most_warps];
  index_t part = blockIdx.x;
  const index_t group = take_index(part, plan.groups), from = group * plan.width;
  const index_t begin = part * plan.span;
  const index_t end = begin + plan.span < plan.rows ? begin + plan.span : plan.rows;
  const auto place = [&](int k) { return index_t(int(threadIdx.x) + k * int(blockDim.x)) * count; };
  typename Rule::part now[per], next[per];
  A columns[per][Rule::outputs][count] = {};
  const auto read = [&](index_t t) {
#pragma unroll
    for (int k = 0; k < per; ++k)
      if (place(k) < plan.width) plan.rule.read(next[k], t, from + place(k));
  };
  read(begin);
  for (index_t t = begin; t < end; ++t) {
#pragma unroll
    for (int k = 0; k < per; ++k) now[k] = next[k];
    if (t + 1 < end) read(t + 1);  // memory would idle else while this row is worked on
    const auto row = plan.rule.row(t, group);
    A sums[Rule::row_sums] = {};
#pragma unroll
    for (int k = 0; k < per; ++k)
      if (place(k) < plan.width) plan.rule.sum(now[k], row, from + place(k), sums, columns[k]);
#pragma unroll
    for (int r = 0; r < Rule::row_sums; ++r) {
      sums[r] = warp_sum(sums[r]);
      if (lane_index() == 0) shared[t & 1][r][warp_index()] = sums[r];
    }
    __syncthreads();  // and nobody reads the row before the last
#pragma unroll
    for (int r = 0; r < Rule::row_sums; ++r) {
      sums[r] = 0;
      for (int w = 0; w < int(blockDim.x) / warp_size; ++w) sums[r] += shared[t & 1][r][w];
      sums[r] /= A(plan.width);
    }
#pragma unroll
    for (int k = 0; k < per; ++k)
      if (place(k) < plan.width) plan.rule.write(now[k], row, sums, t, from + place(k));
  }
  if (!plan.parts) return;
#pragma unroll
  for (int k = 0; k < per; ++k)
    if (place(k) < plan.width)
#pragma unroll
      for (int o = 0; o < Rule::outputs; ++o)
        write_piece(&plan.parts(part, o, from + place(k)), columns[k][o]);
}

/// Four weights, or ones.
template <class A>
__device__ void read_weights(A (&to)[row_norm_count], const view<const A, 1, memory::device>& from,
                             index_t d) {
#pragma unroll
  for (A& w : to) w = A(1);
  if (from) read_piece(to, &from(d));
}
template <class T>
__device__ auto piece_at(const T& x) {
  using V = std::remove_const_t<T>;
  return *reinterpret_cast<const piece<V, row_norm_count>*>(&x);
}

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
    piece<X, count> x, dx;
    piece<typename E::value, count> dy;
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
    p.x = piece_at(op.x(t, d)), p.dy = piece_at(op.dy(t, d));
    if (op.accumulate) p.dx = piece_at(op.dx(t, d));
  }
  __device__ A normed(const part& p, const row_type& r, int i) const {  // xhat
    return (A(p.x.at[i]) - r.center) * r.rstd;
  }
  __device__ void sum(const part& p, const row_type& r, index_t d, A (&sums)[row_sums],
                      A (&columns)[outputs][count]) const {
    A weight[count];
    read_weights(weight, op.weight, d);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const A dy = A(p.dy.at[i]), q = dy * normed(p, r, i);
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
      dx[i] = A(p.dy.at[i]) * weight[i] - normed(p, r, i) * means[0];
      if constexpr (centred) dx[i] -= means[1];
      dx[i] *= r.rstd;
      if (op.accumulate) dx[i] += A(p.dx.at[i]);
    }
    write_piece(&op.dx(t, d), dx);
  }
};

template <class E>
struct gated_rms_norm_backward_rule {
  static constexpr const char* name = ops::gated_rms_norm_backward<E>::name;
  static constexpr int row_sums = 1, outputs = 1, count = row_norm_count;
  using accum = typename E::accum;
  using A = accum;
  using V = typename E::value;
  ops::gated_rms_norm_backward<E> op;

  struct part {
    piece<V, count> x, z, dy;
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
    p.x = piece_at(op.x(t, d)), p.dy = piece_at(op.dy(t, d));
    if (op.z) p.z = piece_at(op.z(t, d));
  }
  __device__ A gate(const part& p, int i) const {
    return op.z ? A(p.z.at[i]) * p.sigmoid[i] : A(1);
  }
  __device__ void sum(part& p, const row_type& r, index_t d, A (&sums)[row_sums],
                      A (&columns)[outputs][count]) const {
    A weight[count];
    read_weights(weight, op.weight, d);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if (op.z) p.sigmoid[i] = sigmoid_as<V>(A(p.z.at[i]));
      // g uhat holds the gate once, in whichever of the two it is
      const A q = A(p.dy.at[i]) * (A(p.x.at[i]) * gate(p, i) * r.rstd);
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
      const A x = A(p.x.at[i]), dyw = A(p.dy.at[i]) * weight[i], own = gate(p, i);
      const A slope = op.z ? p.sigmoid[i] * (A(1) + A(p.z.at[i]) * (A(1) - p.sigmoid[i])) : A(0);
      if (op.norm_before_gate) {
        dx[i] = (dyw * own - x * r.rstd * means[0]) * r.rstd;
        dz[i] = dyw * (x * r.rstd) * slope;
      } else {
        const A du = (dyw - x * own * r.rstd * means[0]) * r.rstd;
        dx[i] = du * own;
        dz[i] = du * x * slope;
      }
    }
    write_piece(&op.dx(t, d), dx);
    if (op.z) write_piece(&op.dz(t, d), dz);
  }
};

/// Launches it if operands are aligned and rows (of `width`, in so many groups) not too wide; says
/// whether.
template <class Rule>
bool launch_row_norm_backward(context<cuda>& ctx, const Rule& rule, index_t rows, index_t groups,
                              index_t width) {
  if constexpr (!std::is_same_v<typename Rule::accum, float>) {
    return false;
  } else {
    const index_t pieces = width / row_norm_count;
    if (width % row_norm_count != 0 || pieces > 2 * wide_row_threads || !rule.fits()) return false;
    if (rows == 0 || pieces == 0) return true;
    constexpr index_t most_parts = 1056, least_span = 4;
    const index_t span = std::max(least_span, (rows * groups + most_parts - 1) / most_parts);
    const index_t parts = (rows + span - 1) / span, columns = groups * width;
    auto frame = ctx.scratch.make_frame();
    row_norm_backward_plan<Rule> plan{rule, rows, groups, width, span, {}};
    if (rule.wants_columns())
      plan.parts =
          ctx.scratch.template make<float>(shape<3>{{parts, index_t(Rule::outputs), columns}});
    const auto launch = [&](auto per, auto most) {
      const index_t threads = (pieces + per.value - 1) / per.value;
      const index_t warps = (threads + warp_size - 1) / warp_size;
      row_norm_backward_kernel<decltype(per), decltype(most), Rule>
          <<<blocks_for(parts * groups, 1), unsigned(warps * warp_size), 0, ctx.stream>>>(plan);
      launched(plan.name);
    };
    if (pieces <= block_threads) {
      launch(constant<1>{}, constant<block_threads>{});
    } else if (pieces <= 2 * block_threads) {
      launch(constant<2>{}, constant<block_threads>{});
    } else {
      launch(constant<2>{}, constant<wide_row_threads>{});
    }
    if (plan.parts) add_parts(ctx, column_totals<Rule>{rule, plan.parts});
    return true;
  }
}

}  // namespace mlmamba::backend::kernels
