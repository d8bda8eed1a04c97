// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Softmax attention on Hopper's tensor cores (heads of 40 to 128): the mathematics of
// attention_tiles.cuh with products by four warps.
#pragma once

#include "mlmamba/backend/cuda/attention_tiles.cuh"
#include "mlmamba/backend/cuda/warpgroup.cuh"

namespace mlmamba::backend::kernels {

/// Keys come in blocks of 64. A block is operand tiles of 64 columns: K's, then V's. Of heads of up
/// to 80 the last 16 columns of K are columns 16 to 31 of V's second tile: so two blocks of threads
/// fit into a multiprocessor.
template <int Width>
struct attention_group {
  static constexpr int keys = 64, stages = 3, depth = Width / 16, columns = (Width + 63) / 64;
  static constexpr bool tail = Width == 80;
  static constexpr int whole = Width / 64;  // operand tiles with all columns
  static constexpr int tiles = whole + columns, v_tile = whole, v_tail = tiles - 1;
  template <int Groups>
  static constexpr unsigned bytes() {  // Q and the stages
    return (Groups * columns + stages * tiles) * operand_tile * 2;
  }
  /// Where columns 16 step to 16 step + 15 of K begin.
  __device__ static constexpr int k_columns(int step) {
    return tail && step == 4 ? v_tail * operand_tile + 16 : step / 4 * operand_tile + step % 4 * 16;
  }
};

/// A block has 64 queries of a head for each of its `Groups` warpgroups, which share K and V.
template <class W, class Groups, class E>
__global__ void __launch_bounds__(128 * Groups::value, W::value == 128 ? 1 : 4 / Groups::value)
    attention_warpgroups_kernel(const ops::attention<E> op) {
#if defined(MLMAMBA_WARPGROUPS)
  using T = attention_group<W::value>;
  using V = typename E::value;
  constexpr int groups = Groups::value, threads = 128 * groups, queries = 64 * groups;
  constexpr int at_once = threads / 8;  // rows that are copied side by side, 8 pieces each
  extern __shared__ __align__(128) unsigned char raw[];
  V* const qs = reinterpret_cast<V*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
  V* const stages = qs + groups * T::columns * operand_tile;

  const index_t length = op.q.size[1], heads = op.q.size[2], sources = op.k.size[1];
  index_t b = blockIdx.x;
  const index_t tile = take_index(b, (length + queries - 1) / queries);
  const index_t h = take_index(b, heads);
  const int warp = __shfl_sync(all_lanes, warp_index(), 0);  // known to be one for the warp
  const int lane = lane_index(), quarter = warp & 3, mine = warp >> 2;
  const index_t first = tile * queries, shift = sources - length;
  const auto visible = [&](index_t query) {  // keys [0, n) count
    const index_t n = op.causal ? query + shift + 1 : sources;
    return n < 0 ? 0 : n < sources ? n : sources;
  };
  // The two queries of a lane.
  const index_t row = first + 64 * mine + 16 * quarter + lane / 4;
  const index_t seen[2] = {visible(row), visible(row + 8)};
  const index_t wanted = visible(first + queries - 1);

  const int there = int(op.q.size[3] / 8);  // pieces of a row
  const int r0 = int(threadIdx.x) / 8, c0 = int(threadIdx.x) % 8, to0 = piece_at<8>(r0, c0);
  const auto row_of = [&](const in<E, 4>& v, index_t j, int piece) {
    return v.data + b * v.stride[0] + j * v.stride[1] + h * v.stride[2] + piece * 8;
  };
  // 64 or more rows of 64 columns
  const auto copy = [&](V* to, const V* from, index_t stride, int all, int rows, int column) {
#pragma unroll
    for (int i = 0; i < all / at_once; ++i) {
      const bool inside = r0 + i * at_once < rows && column + c0 < there;
      copy_piece(to + to0 + i * at_once * 64, from + (inside ? i * at_once * stride : 0), inside);
    }
  };
  // 16 columns of K and of V: two pieces of a row each
  const int tail_row = int(threadIdx.x) / 4, tail_piece = int(threadIdx.x) % 4;
  const bool tail_of_v = tail_piece < 2, tail_inside = 8 + tail_piece % 2 < there;
  const in<E, 4>& tail_source = tail_of_v ? op.v : op.k;
  const V *k_from = row_of(op.k, r0 < sources ? r0 : 0, c0 < there ? c0 : 0),
          *v_from = row_of(op.v, r0 < sources ? r0 : 0, c0 < there ? c0 : 0),
          *tail_from = row_of(tail_source, tail_row < sources ? tail_row : 0,
                              tail_inside ? 8 + tail_piece % 2 : 0);
  index_t next = 0;  // key to be copied
  const auto fetch = [&](int stage) {
    if (next < wanted) {
      V* const to = stages + stage * T::tiles * operand_tile;
      const int rows = sources - next < T::keys ? int(sources - next) : T::keys;
#pragma unroll
      for (int w = 0; w < T::whole; ++w) {
        copy(to + w * operand_tile, k_from + 64 * w, op.k.stride[1], T::keys, rows, 8 * w);
        copy(to + (T::v_tile + w) * operand_tile, v_from + 64 * w, op.v.stride[1], T::keys, rows,
             8 * w);
      }
      if constexpr (T::tail) {
#pragma unroll
        for (int i = 0; i < T::keys * 4 / threads; ++i) {
          const int r = tail_row + i * (threads / 4);
          const bool inside = tail_inside && r < rows;
          copy_piece(to + T::v_tail * operand_tile + piece_at<8>(r, tail_piece),
                     tail_from + (inside ? i * (threads / 4) * tail_source.stride[1] : 0), inside);
        }
      }
      // what is past the last row is not copied, but pointers stay inside
      next += T::keys;
      if (next < sources) {
        const auto down = [&](const V*& from, index_t stride, int r) {
          if (next + r < sources) from += T::keys * stride;
        };
        down(k_from, op.k.stride[1], r0), down(v_from, op.v.stride[1], r0);
        if constexpr (T::tail) down(tail_from, tail_source.stride[1], tail_row);
      }
    }
    commit_copies();
  };

  const int q_rows = length - first < queries ? int(length - first) : queries;
  const V* const q_from = row_of(op.q, first + (r0 < q_rows ? r0 : 0), c0 < there ? c0 : 0);
#pragma unroll
  for (int w = 0; w < T::columns; ++w)
    if (8 * w + c0 < W::value / 8)
      copy(qs + w * groups * operand_tile, q_from + (8 * w + c0 < there ? 64 * w : 0),
           op.q.stride[1], queries, q_rows, 8 * w);
  fetch(0);  // with Q
  fetch(1);

  float y[2 * T::depth][4] = {}, sum[2] = {}, largest[2] = {-INFINITY, -INFINITY};
  const float scale = float(op.scale) * 1.4426950408889634f;  // exponentials are of base 2
  int stage = 0;
  for (index_t j0 = 0; j0 < wanted; j0 += T::keys) {
    const V* const k = stages + stage * T::tiles * operand_tile;
    const V* const v = k + T::v_tile * operand_tile;
    wait_copies<1>();
    show_to_products();
    __syncthreads();  // this block of keys is there; everybody is done with the one before
    fetch(stage == 0 ? T::stages - 1 : stage - 1);
    stage = stage + 1 < T::stages ? stage + 1 : 0;

    float s[8][4];
    begin_products();
#pragma unroll
    for (int d = 0; d < T::depth; ++d)
      multiply_shared<V>(s, operand_at(qs + (d / 4 * groups + mine) * operand_tile, d % 4 * 16),
                         operand_at(k, T::k_columns(d)), d > 0);
    commit_products();
    wait_products<0>();
    take_products(s);

    if (j0 + T::keys > seen[0]) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const index_t left = seen[i] - j0;
        const int here = int(left < T::keys ? left : T::keys) - 2 * (lane % 4);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          if (8 * j >= here) s[j][2 * i] = -INFINITY;
          if (8 * j + 1 >= here) s[j][2 * i + 1] = -INFINITY;
        }
      }
    }
    unsigned p[4][4];
#pragma unroll
    for (int r = 0; r < 2; ++r) {  // four lanes share a query
      float most = s[0][2 * r];
#pragma unroll
      for (int j = 0; j < 8; ++j) most = fmaxf(most, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
      most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 1));
      most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 2));
      most = fmaxf(largest[r], most * scale);
      const float base = most == -INFINITY ? 0.0f : most;
      const float rescale = power_of_2(largest[r] - base);
      largest[r] = most;
      float part = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float low = power_of_2(multiply_add(s[j][2 * r], scale, -base)),
                    high = power_of_2(multiply_add(s[j][2 * r + 1], scale, -base));
        part += low + high;
        p[j / 2][2 * (j % 2) + r] = pack<V>(low, high);
      }
      sum[r] = multiply_add(sum[r], rescale, part);
#pragma unroll
      for (int c = 0; c < 2 * T::depth; ++c) y[c][2 * r] *= rescale, y[c][2 * r + 1] *= rescale;
    }
    begin_products();
#pragma unroll
    for (int j = 0; j < 4; ++j) multiply_add_right<V>(y, p[j], operand_at(v, 16 * j * 64));
    commit_products();
    wait_products<0>();  // other warpgroups work meanwhile
    take_products(y);
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float all = sum[r];
    all += __shfl_xor_sync(all_lanes, all, 1);
    all += __shfl_xor_sync(all_lanes, all, 2);
    const index_t i = row + 8 * r;
    if (i >= length) continue;
    const bool sees_any = seen[r] > 0;
    const float inverse = sees_any ? 1.0f / all : 0.0f;
    V* const to = &op.y(b, i, h, 0);
#pragma unroll
    for (int c = 0; c < 2 * T::depth; ++c) {
      const int column = 8 * c + 2 * (lane % 4);
      if (column < 8 * there)
        *reinterpret_cast<unsigned*>(to + column) =
            pack<V>(y[c][2 * r] * inverse, y[c][2 * r + 1] * inverse);
    }
    if (op.log_sum_exp && lane % 4 == 0)
      op.log_sum_exp(b, h, i) = sees_any ? largest[r] * 0.6931471805599453f + logf(all) : -INFINITY;
  }
#endif
}

/// For operands that fit_attention_tiles. False: not for it, and nothing was enqueued.
template <class E>
bool attention_by_warpgroups(context<cuda>& ctx, const ops::attention<E>& op) {
  const index_t width = op.q.size[3];
  // The largest product has the largest score only if scale is positive.
  if (width < 40 || !(float(op.scale) > 0.0f) || !has_warpgroups()) return false;
  const auto launch = [&](auto w, auto groups) {
    const index_t queries = 64 * groups.value, tiles = (op.q.size[1] + queries - 1) / queries;
    const unsigned blocks = blocks_for(op.q.size[0] * op.q.size[2] * tiles, 1);
    if (blocks == 0) return;
    const auto kernel = attention_warpgroups_kernel<decltype(w), decltype(groups), E>;
    constexpr int bytes =
        int(attention_group<w.value>::template bytes<groups.value>()) + 1024;  // to align
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               op.name);
    kernel<<<blocks, 128 * groups.value, bytes, ctx.stream>>>(op);
    launched(op.name);
  };
  // Few queries are spread over more blocks.
  const bool few = op.q.size[0] * op.q.size[2] * op.q.size[1] < 128 * ctx.multiprocessors;
  const auto launch_width = [&](auto w) {
    few ? launch(w, constant<1>{}) : launch(w, constant<2>{});
  };
  if (width <= 64) {
    launch_width(constant<64>{});
  } else if (width <= 80) {
    launch_width(constant<80>{});
  } else {
    launch_width(constant<128>{});
  }
  return true;
}

}  // namespace mlmamba::backend::kernels
