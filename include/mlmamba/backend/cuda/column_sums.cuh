// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sums over many rows on a GPU, as gradients of weights are: spread over blocks, in a fixed order.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/launch.cuh"

namespace mlmamba::backend::kernels {

/// The second of two launches: parts of column sums, added in one order.
template <class Term>
struct column_totals {
  static constexpr const char* name = Term::name;
  Term term;
  view<typename Term::accum, 3, memory::device> parts;  // (parts, outputs, columns)
};
/// Column sums in two launches: blocks of `span` rows are summed side by side, then the blocks. The
/// order of the sums depends on the sizes only.
///
/// A Term says what is summed:
///   using accum;  static constexpr int outputs;  static constexpr const char* name;
///   index_t rows() const;  index_t columns() const;                                   (host too)
///   __device__ void add(index_t row, index_t column, accum (&sums)[outputs]) const;
///   __device__ accum* target(int output, index_t column) const;   added to; null: not wanted
template <class Term>
struct column_sums_plan {
  static constexpr const char* name = Term::name;
  using accum = typename Term::accum;
  Term term;
  index_t rows, columns, span, tiles;
  view<accum, 3, memory::device> parts;  // (blocks of rows, outputs, columns)
};

/// A block has 32 columns; its warps take the rows of its span in turn.
template <class Term>
__global__ void __launch_bounds__(block_threads)
    column_parts_kernel(const column_sums_plan<Term> plan) {
  using A = typename Term::accum;
  constexpr int warps = block_threads / warp_size;
  __shared__ A shared[warps][warp_size];
  index_t part = blockIdx.x;
  const index_t tile = take_index(part, plan.tiles);
  const int lane = lane_index(), warp = warp_index();
  const index_t column = tile * warp_size + lane, begin = part * plan.span;
  const index_t end = begin + plan.span < plan.rows ? begin + plan.span : plan.rows;
  const bool there = column < plan.columns;
  A sums[Term::outputs] = {};
  if (there)
    for (index_t t = begin + warp; t < end; t += warps) plan.term.add(t, column, sums);
#pragma unroll
  for (int k = 0; k < Term::outputs; ++k) {
    __syncthreads();  // the sums of the output before have been read
    shared[warp][lane] = sums[k];
    __syncthreads();
    if (warp != 0 || !there) continue;
    A sum = 0;
    for (int w = 0; w < warps; ++w) sum += shared[w][lane];
    plan.parts(part, k, column) = sum;
  }
}

inline constexpr int column_totals_threads = 1024;

/// A block has 32 columns; its warps take the parts in turn, and are added in ascending order.
template <class Term>
__global__ void __launch_bounds__(column_totals_threads)
    column_totals_kernel(const column_totals<Term> plan) {
  using A = typename Term::accum;
  constexpr int warps = column_totals_threads / warp_size;
  __shared__ A shared[warps][warp_size];
  const index_t columns = plan.parts.size[2];
  index_t k = blockIdx.x;
  const int lane = lane_index(), warp = warp_index();
  const index_t column = take_index(k, (columns + warp_size - 1) / warp_size) * warp_size + lane;
  A* const to = column < columns ? plan.term.target(int(k), column) : nullptr;
  A sum = 0;
  if (to)
    for (index_t part = warp; part < plan.parts.size[0]; part += warps)
      sum += plan.parts(part, k, column);
  shared[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || !to) return;
  for (int w = 1; w < warps; ++w) sum += shared[w][lane];
  *to += sum;
}
template <class Term>
void add_parts(context<cuda>& ctx, const column_totals<Term>& plan) {
  const index_t tiles = (plan.parts.size[2] + warp_size - 1) / warp_size;
  column_totals_kernel<Term>
      <<<blocks_for(tiles * Term::outputs, 1), column_totals_threads, 0, ctx.stream>>>(plan);
  launched(plan.name);
}

template <class Term>
void add_column_sums(context<cuda>& ctx, const Term& term) {
  const index_t rows = term.rows(), columns = term.columns();
  if (rows == 0 || columns == 0) return;
  constexpr index_t warps = block_threads / warp_size, most_parts = 128;
  const index_t share = (rows + most_parts - 1) / most_parts;
  const index_t span = std::max(8 * warps, (share + warps - 1) / warps * warps);
  auto frame = ctx.scratch.make_frame();
  column_sums_plan<Term> plan{term, rows, columns, span, (columns + warp_size - 1) / warp_size, {}};
  const index_t parts = (rows + span - 1) / span;
  plan.parts = ctx.scratch.template make<typename Term::accum>(
      shape<3>{{parts, index_t(Term::outputs), columns}});
  column_parts_kernel<Term>
      <<<blocks_for(parts * plan.tiles, 1), block_threads, 0, ctx.stream>>>(plan);
  launched(plan.name);
  add_parts(ctx, column_totals<Term>{term, plan.parts});
}

}  // namespace mlmamba::backend::kernels
