// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The states that enter the chunks of SSD and the adjoints that leave them, on Hopper's tensor
// cores: a block walks over the whole sequence, so that nothing is to be joined.
#pragma once

#include "mlmamba/backend/cuda/ssd_backward_states.cuh"
#include "mlmamba/backend/cuda/warpgroup.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int ssd_pair = 2;  ///< heads of a block, four warps each
inline constexpr int ssd_pair_threads = ssd_pair * 128;

/// Arrays [2] are the chunk at work and the next one.
template <class V>
struct ssd_walk_memory {
  alignas(1024) V B[2][2 * operand_tile], x[2][ssd_pair][operand_tile];
  alignas(1024) V S[ssd_pair][2 * operand_tile];
  alignas(16) ssd_tokens tokens[2][ssd_pair];
};
template <class V>
inline constexpr int ssd_walk_bytes = int(sizeof(ssd_walk_memory<V>)) + 1024;  // to align it

/// A block has two heads of a group, and walks forwards with their states (of x and B), or
/// backwards with the adjoints (of dy and C).
template <class E>
__global__ void __launch_bounds__(ssd_pair_threads, 2)
    ssd_walk_kernel(const ssd_backward_tiles_plan<E> plan) {
#if defined(MLMAMBA_WARPGROUPS)
  using V = typename E::value;
  extern __shared__ __align__(128) unsigned char raw[];
  auto& s =
      *reinterpret_cast<ssd_walk_memory<V>*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
  const auto& op = plan.op;
  const index_t length = op.x.size[1], heads = op.x.size[2], groups = op.B.size[2];
  const int width = int(op.x.size[3]), states = int(op.B.size[3]);
  const index_t in_group = heads / groups, pairs = (in_group + ssd_pair - 1) / ssd_pair;
  index_t b = blockIdx.x;
  const bool adjoint = take_index(b, 2) == 1;
  const index_t pair_index = take_index(b, pairs), g = take_index(b, groups);
  const int warp = __shfl_sync(all_lanes, warp_index(), 0);  // known to be one for the warp
  const int lane = lane_index(), row = lane >> 2, pair = 2 * (lane & 3);
  const int mine = warp >> 2, quarter = warp & 3;
  // The last head of an odd group is done twice.
  const auto head = [&](int i) {
    const index_t h = g * in_group + pair_index * ssd_pair + i;
    return h < (g + 1) * in_group ? h : (g + 1) * in_group - 1;
  };
  const bool writes = pair_index * ssd_pair + mine < in_group;
  const index_t h = head(mine);
  const auto& x = adjoint ? op.dy : op.x;
  const auto& B = adjoint ? op.C : op.B;
  const int chunks = int(plan.chunks);
  const auto chunk_of = [&](int turn) { return index_t(adjoint ? chunks - 1 - turn : turn); };
  const auto copy = [&](int turn) {
    if (turn < chunks) {
      const index_t t = chunk_of(turn) * ssd_tile;
      const int rows = length - t < ssd_tile ? int(length - t) : ssd_tile, at = turn & 1;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int from = i * 64 < states ? i * 64 : 0, here = states - i * 64;
        copy_tile<ssd_pair_threads, 8>(s.B[at] + i * operand_tile, &B(b, t, g, from), B.stride[1],
                                       rows, here < 64 ? here : 64);
      }
#pragma unroll
      for (int i = 0; i < ssd_pair; ++i)
        copy_tile<ssd_pair_threads, 8>(s.x[at][i], &x(b, t, head(i), 0), x.stride[1], rows, width);
      const int e = int(threadIdx.x) % 128;
      if (e < int(ssd_tokens_size(op)) / 4)
        copy_piece(s.tokens[at][mine].decay + 4 * e, plan.tokens_at(b, chunk_of(turn), h) + 4 * e,
                   true);
    }
    commit_copies();
  };
  copy(0);

  float S[16][4] = {};
  const auto each_state = [&](auto* at, index_t stride, auto&& f) {
    at += (16 * quarter + row) * stride + pair;
#pragma unroll
    for (int i = 0; i < 2; ++i, at += 8 * stride) {
      if (16 * quarter + row + 8 * i >= width) break;
#pragma unroll
      for (int j = 0; j < 16; ++j)
        if (8 * j + pair < states) f(S[j][2 * i], at[8 * j]), f(S[j][2 * i + 1], at[8 * j + 1]);
    }
  };
  const auto read_first = [&](const auto& first) {
    if (first)
      each_state(&first(b, h, 0, 0), first.stride[2],
                 [](float& v, const auto& m) { v = float(m); });
  };
  if (adjoint) {
    read_first(op.dfinal_states);
  } else {
    read_first(op.initial_states);
  }
  const unsigned place = stored_at(s.S[mine], 16 * quarter);
  V* const to = adjoint ? plan.adjoints : plan.states;

  for (int turn = 0; turn < chunks; ++turn) {
    const int at = turn & 1;
    const ssd_tokens& tokens = s.tokens[at][mine];
    wait_copies<0>();
    show_to_products();
    __syncthreads();  // this chunk is there, and everybody is done with the one before
    copy(turn + 1);

    unsigned left[4][4];
    const float* weights = adjoint ? tokens.carry : tokens.weight;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float2 near = *reinterpret_cast<const float2*>(weights + 16 * k + pair);
      const float2 far = *reinterpret_cast<const float2*>(weights + 16 * k + pair + 8);
      load_left_transposed<8>(left[k], s.x[at][mine], 16 * k, 2 * quarter);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float2 weight = e < 2 ? near : far;
        left[k][e] = pack<V>(weight.x * low_of<V>(left[k][e]), weight.y * high_of<V>(left[k][e]));
      }
    }
#pragma unroll
    for (int j = 0; j < 16; j += 2)
      store_matrices(place + j / 8 * (operand_tile * 2), j % 8, pack<V>(S[j][0], S[j][1]),
                     pack<V>(S[j][2], S[j][3]), pack<V>(S[j + 1][0], S[j + 1][1]),
                     pack<V>(S[j + 1][2], S[j + 1][3]));
    const float carried = tokens.carry[ssd_tile - 1];
#pragma unroll
    for (int j = 0; j < 16; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) S[j][e] *= carried;
    if (carried == 0.0f) {  // drops even infinities
#pragma unroll
      for (int j = 0; j < 16; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) S[j][e] = 0.0f;
    }
    begin_products();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      multiply_add_right<V>(S, left[k], operand_at(s.B[at], 16 * k * ssd_tile));
    commit_products();

    // What was before the chunk goes out, in whole rows, meanwhile.
    __syncwarp();
    V* out = to + plan.state_at(b, chunk_of(turn), h) + (16 * quarter + lane / 16) * states +
             8 * (lane % 16);
    const V* staged = s.S[mine] + lane / 8 % 2 * operand_tile;
#pragma unroll
    for (int i = 0; i < 8; ++i, out += 2 * states) {
      const int p = 16 * quarter + 2 * i + lane / 16;
      const uint4 v = *reinterpret_cast<const uint4*>(staged + piece_at<8>(p, lane % 8));
      if (writes && p < width && 8 * (lane % 16) < states) *reinterpret_cast<uint4*>(out) = v;
    }
    __syncwarp();
    wait_products<0>();
    take_products(S);
  }
  if (writes && adjoint && op.dinitial_states)
    each_state(&op.dinitial_states(b, h, 0, 0), op.dinitial_states.stride[2],
               [](float& v, float& m) { m = v; });
#endif
}

template <class E>
void launch_ssd_walk(context<cuda>& ctx, const ssd_backward_tiles_plan<E>& plan) {
  const auto& op = plan.op;
  const index_t pairs = (op.heads() / op.groups() + ssd_pair - 1) / ssd_pair;
  const auto kernel = ssd_walk_kernel<E>;
  constexpr int bytes = ssd_walk_bytes<typename E::value>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             plan.name);
  kernel<<<blocks_for(op.x.size[0] * op.groups() * pairs * 2, 1), ssd_pair_threads, bytes,
           ctx.stream>>>(plan);
  launched(plan.name);
}

}  // namespace mlmamba::backend::kernels
