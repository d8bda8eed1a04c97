// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of norms with each element read once: a row's gradient and its share of the weights' in
// one pass. A rule says what a norm does with a piece of four elements.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/column_sums.cuh"
#include "mlmamba/backend/cuda/mma.cuh"
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
__global__ void __launch_bounds__(Threads::value, Threads::value <= block_threads ? 3 : 1)
    row_norm_backward_kernel(const row_norm_backward_plan<Rule> plan) {
  using A = typename Rule::accum;
  constexpr int per = Per::value, count = row_norm_count, most_warps = Threads::value / warp_size;
  __shared__ __align__(16) A shared[2][Rule::row_sums][most_warps];
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
  for (int i = int(threadIdx.x); i < 2 * Rule::row_sums * most_warps; i += int(blockDim.x))
    (&shared[0][0][0])[i] = 0;  // warps that are not there
  __syncthreads();
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
#pragma unroll
      for (int w = 0; w < most_warps; ++w) sums[r] += shared[t & 1][r][w];
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
  if (from) read_piece(to, from.data + d);
}
/// Four elements as they lie in memory: of 16 bits, two to a register, where an array of them would
/// take four.
template <class T>
struct packed_row {
  static constexpr int words = row_norm_count * int(sizeof(T)) / 4;
  struct alignas(words * 4) block {
    unsigned at[words];
  } bits;

  /// Elements d to d + 3 of row t. The stride over d is known to be 1, which spares a product.
  template <class U>
  __device__ void read(const view<U, 2, memory::device>& x, index_t t, index_t d) {
    static_assert(std::is_same_v<std::remove_const_t<U>, T>);
    bits = *reinterpret_cast<const block*>(x.data + t * x.stride[0] + d);
  }
  __device__ float operator[](int i) const {
    if constexpr (is_16_bit<T>) {
      return i % 2 ? high_of<T>(bits.at[i / 2]) : low_of<T>(bits.at[i / 2]);
    } else {
      static_assert(std::is_same_v<T, float>);
      return __uint_as_float(bits.at[i]);
    }
  }
};
template <class T>
__device__ void write_row(const view<T, 2, memory::device>& y, index_t t, index_t d,
                          const float (&from)[row_norm_count]) {
  using packed = packed_row<T>;
  packed p;
#pragma unroll
  for (int i = 0; i < packed::words; ++i) {
    if constexpr (is_16_bit<T>) {
      p.bits.at[i] = pack<T>(from[2 * i], from[2 * i + 1]);
    } else {
      p.bits.at[i] = __float_as_uint(from[i]);
    }
  }
  *reinterpret_cast<typename packed::block*>(y.data + t * y.stride[0] + d) = p.bits;
}

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
