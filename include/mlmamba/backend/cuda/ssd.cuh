// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD on a GPU: chunks of tokens that are scanned side by side and joined by their states.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/ssd_plan.cuh"
#include "mlmamba/backend/cuda/ssd_tiles.cuh"
#include "mlmamba/backend/cuda/ssd_heads.cuh"

namespace mlmamba::backend {

namespace kernels {

/// A block scans one chunk of one head, 64 rows p of its state: a warp has 8 rows, a lane has
/// elements n = lane, lane + 32, ... (`Per` of them) of each. Inputs are staged through shared
/// memory, 16 tokens at a time. `Ends`: launch 1; else launch 3.
template <class Per, class Ends, class E>
__global__ void __launch_bounds__(block_threads) ssd_scan_kernel(const ssd_plan<E> plan) {
  using A = typename E::accum;
  constexpr int per = Per::value, span = per * warp_size, tokens = 16;
  constexpr int rows_of_warp = 8, rows_of_block = rows_of_warp * (block_threads / warp_size);
  constexpr bool ends = Ends::value != 0;
  __shared__ A Bs[tokens][span], Cs[ends ? 1 : tokens][span], xs[tokens][rows_of_block];
  __shared__ A dts[tokens], decays[tokens];  // dt'; exp(dt' A), or -1 where a sequence starts

  const ops::ssd<E>& op = plan.op;
  const index_t length = op.x.size[1], heads = op.x.size[2], width = op.x.size[3],
                states = op.B.size[3], groups = op.B.size[2];
  index_t b = blockIdx.x;
  const index_t p_tile = take_index(b, (width + rows_of_block - 1) / rows_of_block),
                h = take_index(b, heads), c = take_index(b, plan.chunks);
  const index_t g = h / (heads / groups), p0 = p_tile * rows_of_block, n0 = plan.first_n;
  const int lane = lane_index(), row0 = warp_index() * rows_of_warp;
  const index_t begin = c * plan.chunk,
                end = begin + plan.chunk < length ? begin + plan.chunk : length;
  const A rate = op.A(h);

  A S[rows_of_warp][per];
#pragma unroll
  for (int r = 0; r < rows_of_warp; ++r) {
#pragma unroll
    for (int k = 0; k < per; ++k) {
      const index_t p = p0 + row0 + r, n = n0 + lane + k * warp_size;
      const bool there = !ends && p < width && n < states;
      S[r][k] = A(0);
      if (there && plan.chunks > 1) S[r][k] = plan.ends(b, c, h, p, n);
      if (there && plan.chunks == 1 && op.initial_states)
        S[r][k] = A(op.initial_states(b, h, p, n));
    }
  }

  A chunk_decay = 1;
  for (index_t t0 = begin; t0 < end; t0 += tokens) {
    const int count = int(end - t0 < tokens ? end - t0 : index_t(tokens));
    __syncthreads();  // everybody is done with the tokens before
    for (int e = int(threadIdx.x); e < count * span; e += block_threads) {
      const int t = e / span, n = e % span;
      const bool there = n0 + n < states;
      Bs[t][n] = there ? A(op.B(b, t0 + t, g, n0 + n)) : A(0);
      if constexpr (!ends) Cs[t][n] = there ? A(op.C(b, t0 + t, g, n0 + n)) : A(0);
    }
    for (int e = int(threadIdx.x); e < count * rows_of_block; e += block_threads) {
      const int t = e / rows_of_block, p = e % rows_of_block;
      xs[t][p] = p0 + p < width ? A(op.x(b, t0 + t, h, p0 + p)) : A(0);
    }
    if (int(threadIdx.x) < count) {
      const index_t t = t0 + index_t(threadIdx.x);
      const A dt = ssd_dt(op, b, t, h);
      dts[threadIdx.x] = dt;
      decays[threadIdx.x] = ssd_starts(op, b, t) ? A(-1) : math::exp(dt * rate);
    }
    __syncthreads();

    for (int t = 0; t < count; ++t) {
      const bool starts = decays[t] < A(0);
      const A decay = starts ? A(0) : decays[t];
      chunk_decay *= decay;
      A sums[rows_of_warp];
#pragma unroll
      for (int r = 0; r < rows_of_warp; ++r) {
        const A x = dts[t] * xs[t][row0 + r];
        sums[r] = A(0);
#pragma unroll
        for (int k = 0; k < per; ++k) {
          const A carried = starts ? A(0) : decay * S[r][k];  // a start drops even infinities
          S[r][k] = multiply_add(x, Bs[t][lane + k * warp_size], carried);
          if constexpr (!ends)
            sums[r] = multiply_add(Cs[t][lane + k * warp_size], S[r][k], sums[r]);
        }
      }
      if constexpr (!ends) {
        A mine = 0;  // lane r takes the sum of row r
#pragma unroll
        for (int r = 0; r < rows_of_warp; ++r) {
          const A sum = warp_sum(sums[r]);
          if (lane == r) mine = sum;
        }
        const index_t p = p0 + row0 + lane, at = t0 + t;
        if (lane < rows_of_warp && p < width) {
          if (n0 > 0) mine += plan.partial(b, at, h, p);
          if (n0 + span < states) {
            plan.partial(b, at, h, p) = mine;
          } else {
            if (op.D) mine = multiply_add(op.D(h, p), xs[t][row0 + lane], mine);
            if (op.z) mine *= apply_activation(activation::silu, A(op.z(b, at, h, p)));
            op.y(b, at, h, p) = typename E::value(mine);
          }
        }
      }
    }
  }

  const bool keep = ends || (plan.chunks == 1 && op.final_states);
#pragma unroll
  for (int r = 0; r < rows_of_warp; ++r) {
#pragma unroll
    for (int k = 0; k < per; ++k) {
      const index_t p = p0 + row0 + r, n = n0 + lane + k * warp_size;
      if (!keep || p >= width || n >= states) continue;
      if constexpr (ends) {
        plan.ends(b, c, h, p, n) = S[r][k];
      } else {
        op.final_states(b, h, p, n) = typename E::state(S[r][k]);
      }
    }
  }
  if (ends && p_tile == 0 && threadIdx.x == 0) plan.decay(b, c, h) = chunk_decay;
}

template <class Ends, class E>
void launch_ssd_scan(context<cuda>& ctx, ssd_plan<E> plan) {
  constexpr index_t rows_of_block = 64;
  const auto& n = plan.op.x.size;
  const unsigned blocks =
      blocks_for(n[0] * plan.chunks * n[2] * ((n[3] + rows_of_block - 1) / rows_of_block), 1);
  const index_t states = plan.op.state_size();
  const auto launch = [&](auto per) {
    for (plan.first_n = 0; plan.first_n == 0 || plan.first_n < states;
         plan.first_n += per.value * warp_size) {
      ssd_scan_kernel<decltype(per), Ends, E><<<blocks, block_threads, 0, ctx.stream>>>(plan);
      launched(plan.name);
    }
  };
  if (states <= 32) {
    launch(constant<1>{});
  } else if (states <= 64) {
    launch(constant<2>{});
  } else if (states <= 128) {
    launch(constant<4>{});
  } else {
    launch(constant<8>{});  // more than 256 in several launches, joined by partial sums
  }
}

/// Does ssd_tile_kernel do this op? Others are done by plain kernels.
template <class E>
bool ssd_has_tiles(const ops::ssd<E>& op) {
  if constexpr (!is_16_bit<typename E::value> || !std::is_same_v<typename E::accum, float>) {
    return false;
  } else {
    return op.algorithm != ops::scan_algorithm::sequential && op.x.size[1] >= 16 &&
           op.state_size() <= 128 && (op.chunk_size == 0 || op.chunk_size >= ssd_tile) &&
           in_pieces(op.x) && in_pieces(op.B) && in_pieces(op.C) && in_pieces(op.y) &&
           in_pieces(op.z);
  }
}

template <class N16, class E>
void launch_ssd_tiles(context<cuda>& ctx, ssd_plan<E> plan) {
  const auto& n = plan.op.x.size;
  const index_t p_tiles = (n[3] + ssd_tile - 1) / ssd_tile;
  launch_ssd_tokens<constant<2 * N16::value>, E>(ctx, plan.op, plan.tokens, plan.scores);
  const auto launch = [&](auto ends, index_t segments) {
    using Ends = decltype(ends);
    constexpr int bytes =
        int(sizeof(ssd_tile_memory<typename E::value, N16::value, Ends::value != 0>));
    const auto kernel = ssd_tile_kernel<N16, Ends, E>;
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               plan.name);
    kernel<<<blocks_for(n[0] * segments * n[2] * p_tiles, 1), ssd_block_threads, bytes,
             ctx.stream>>>(plan);
    launched(plan.name);
  };
  if (plan.chunks > 1) {
    launch(constant<1>{}, plan.chunks - 1);
    ssd_plan<E> join = plan;
    join.op.final_states = {};  // the last segment writes it
    launch_ssd_join(ctx, join);
  }
  launch(constant<0>{}, plan.chunks);
}

/// How many segments a sequence is cut into: no more than keep the multiprocessors busy, since each
/// cut costs a pass for the states. A function of sizes and of the GPU: runs repeat bit for bit,
/// but rows of another batch size may be cut elsewhere (unless they are to be independent).
inline index_t ssd_segments(index_t blocks, index_t chunks, int multiprocessors) {
  const index_t room = 2 * index_t(multiprocessors) / std::max<index_t>(blocks, 1);
  return std::max<index_t>(std::min(room, chunks / 4), 1);
}

template <class E>
void run_ssd_tiles(context<cuda>& ctx, const ops::ssd<E>& op) {
  if (ssd_by_heads(op)) return run_ssd_heads(ctx, op);
  const index_t b = op.x.size[0], l = op.x.size[1], h = op.x.size[2], p = op.x.size[3],
                n = op.state_size(), chunks = (l + ssd_tile - 1) / ssd_tile;
  auto frame = ctx.scratch.make_frame();
  const index_t blocks = (ctx.independent_rows ? 1 : b) * ((p + ssd_tile - 1) / ssd_tile) * h;
  const index_t segments = ssd_segments(blocks, chunks, ctx.multiprocessors);
  const index_t per = (chunks + segments - 1) / segments;
  const auto make = [&](index_t count) {
    return ctx.scratch.template make<float>(shape<1>{{count}}).data;
  };
  ssd_plan<E> plan{op, per * ssd_tile, (chunks + per - 1) / per};
  plan.tokens = make(b * chunks * h * ssd_tokens_size(op));
  if (plan.chunks > 1) {
    plan.ends = ctx.scratch.template make<float>(shape<5>{{b, plan.chunks, h, p, n}});
    plan.decay = ctx.scratch.template make<float>(shape<3>{{b, plan.chunks, h}});
  }
  plan.scores = make(b * chunks * op.groups() * ssd_scores_size);
  if (n <= 32) {
    launch_ssd_tiles<constant<2>>(ctx, plan);
  } else if (n <= 64) {
    launch_ssd_tiles<constant<4>>(ctx, plan);
  } else {
    launch_ssd_tiles<constant<8>>(ctx, plan);
  }
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::ssd<E>& op) {
  using A = typename E::accum;
  const index_t b = op.x.size[0], l = op.x.size[1], h = op.x.size[2], p = op.x.size[3],
                n = op.state_size();
  if (b == 0 || h == 0 || p == 0) return;
  if constexpr (is_16_bit<typename E::value>) {
    if (kernels::ssd_has_tiles(op)) return kernels::run_ssd_tiles(ctx, op);
  }
  constexpr index_t usual_chunk = 128;
  auto frame = ctx.scratch.make_frame();
  kernels::ssd_plan<E> plan{op, std::max<index_t>(l, 1), 1, {}, {}, {}, 0};
  if (op.algorithm != ops::scan_algorithm::sequential && l > 0) {
    plan.chunk = op.chunk_size > 0 ? std::min(op.chunk_size, l) : std::min(usual_chunk, l);
    plan.chunks = (l + plan.chunk - 1) / plan.chunk;
  }
  if (n > 256) plan.partial = ctx.scratch.template make<A>(shape<4>{{b, l, h, p}});
  if (plan.chunks > 1) {
    plan.ends = ctx.scratch.template make<A>(shape<5>{{b, plan.chunks, h, p, n}});
    plan.decay = ctx.scratch.template make<A>(shape<3>{{b, plan.chunks, h}});
    kernels::launch_ssd_scan<kernels::constant<1>>(ctx, plan);
    kernels::launch_ssd_join(ctx, plan);
  }
  kernels::launch_ssd_scan<kernels::constant<0>>(ctx, plan);
}

}  // namespace mlmamba::backend
