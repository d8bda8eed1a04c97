// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// All gradients of the chunks of SSD on Hopper's tensor cores (N <= 128, P <= 64): the mathematics
// of ssd_chunk_tiles_kernel. Of the two warpgroups of a block one has the tokens as what reads
// (dC), the other as what is read (dB, dx).
#pragma once

#include "mlmamba/backend/cuda/ssd_gradient_parts.cuh"

namespace mlmamba::backend::kernels {

template <class Starts, class E>
__global__ void __launch_bounds__(ssd_backward_threads, 1)
    ssd_gradient_kernel(const ssd_backward_tiles_plan<E> plan) {
#if defined(MLMAMBA_WARPGROUPS)
  using V = typename E::value;
  constexpr bool starts = Starts::value != 0;
  constexpr int threads = ssd_backward_threads;
  extern __shared__ __align__(128) unsigned char raw[];
  auto& s =
      *reinterpret_cast<ssd_gradient_memory<V>*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
  const auto& op = plan.op;
  const index_t length = op.x.size[1], heads = op.x.size[2], groups = op.B.size[2];
  const int width = int(op.x.size[3]), states = int(op.B.size[3]);
  index_t b = blockIdx.x;
  const index_t set = take_index(b, plan.sets * groups), c = take_index(b, plan.chunks);
  const index_t g = set / plan.sets, group_heads = heads / groups;
  const index_t first = g * group_heads + (set % plan.sets) * plan.set_heads;
  const index_t group_end = (g + 1) * group_heads;
  const int count = int(group_end - first < plan.set_heads ? group_end - first : plan.set_heads);
  const index_t t0 = c * ssd_tile;
  const int rows = length - t0 < ssd_tile ? int(length - t0) : ssd_tile;
  const int warp = __shfl_sync(all_lanes, warp_index(), 0);  // known to be one for the warp
  const int lane = lane_index(), row = lane >> 2, pair = 2 * (lane & 3);
  const int quarter = warp & 3, t = 16 * quarter + row;
  const bool reads = warp < 4;  // dC; else dB and dx

  const auto copy_wide = [&](V* to, const V* from, index_t stride, int rows) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int here = states - 64 * i;
      copy_tile<threads, 8>(to + i * operand_tile, from + (here > 0 ? 64 * i : 0), stride, rows,
                            here < 64 ? here : 64);
    }
  };
  const auto copy = [&](int i) {
    if (i < count) {
      const index_t h = first + i;
      const int at = i & 1;
      copy_tile<threads, 8>(s.x[at], &op.x(b, t0, h, 0), op.x.stride[1], rows, width);
      copy_tile<threads, 8>(s.dy[at], &op.dy(b, t0, h, 0), op.dy.stride[1], rows, width);
      copy_wide(s.S[at], plan.states + plan.state_at(b, c, h), states, width);
      copy_wide(s.G[at], plan.adjoints + plan.state_at(b, c, h), states, width);
      const int e = int(threadIdx.x);
      if (e < int(ssd_tokens_size(op)) / 4)
        copy_piece(s.tokens[i % 3].decay + 4 * e, plan.tokens_at(b, c, h) + 4 * e, true);
      if (op.D && e < width) copy_word(&s.D[at][e], &op.D(h, e));
    }
    commit_copies();
  };
  copy_wide(s.B, &op.B(b, t0, g, 0), op.B.stride[1], rows);
  copy_wide(s.C, &op.C(b, t0, g, 0), op.C.stride[1], rows);
  if (threadIdx.x < 2 * ssd_tile) s.D[0][threadIdx.x] = 0.0f;
  __syncthreads();
  copy(0);

  float sums[16][4] = {};  // dC or dB
  float cb[8][4];          // C B^T, or its transpose
  float raw_dt[2] = {};    // of the head before
  for (int turn = 0; turn <= count; ++turn) {
    const int at = turn & 1;
    wait_copies<0>();
    show_to_products();
    __syncthreads();  // this head is there, and everybody is done with the one before
    copy(turn + 1);
    if (warp == 0) {
      if (turn > 0)
        ssd_head_gradients(plan, s, s.tokens[(turn - 1) % 3], at ^ 1, raw_dt, b, c,
                           first + turn - 1);
#pragma unroll
      for (int e = 0; e < 2; ++e) {  // for the turn after this
        const index_t i = t0 + 2 * lane + e, h = first + turn;
        if (turn < count && i < length)
          raw_dt[e] = float(op.dt(b, i, h)) + (op.dt_bias ? op.dt_bias(h) : 0.0f);
      }
    }
    if (turn == count) break;
    const index_t h = first + turn;
    const ssd_tokens& tokens = s.tokens[turn % 3];
    const V *xs = s.x[at], *dys = s.dy[at];
    const V *mine = reads ? s.C : s.B, *others = reads ? s.B : s.C;
    const V *left_tile = reads ? dys : xs, *right_tile = reads ? xs : dys;
    const V* state = reads ? s.S[at] : s.G[at];

    float dots[8][4];  // dy x^T, or its transpose
    begin_products();
    if (turn == 0) {
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const int from = k / 4 * operand_tile + k % 4 * 16;
        multiply_shared<V>(cb, operand_at(mine, from), operand_at(others, from), k > 0);
      }
    }
#pragma unroll
    for (int k = 0; k < 4; ++k)
      multiply_shared<V>(dots, operand_at(left_tile, 16 * k), operand_at(right_tile, 16 * k),
                         k > 0);
    commit_products();

    {  // paths through the whole chunk
      float sum = 0;
#pragma unroll
      for (int k = 0; k < ssd_tile * 16 / threads; ++k) {
        const int e = 8 * (int(threadIdx.x) + k * threads);
        float a[8], v[8];
        read_piece(a, s.S[at] + e), read_piece(v, s.G[at] + e);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum = multiply_add(a[i], v[i], sum);
      }
      sum = warp_sum(sum);
      if (lane == 0) s.through[at][warp] = sum;
    }
    wait_products<0>();
    take_products(dots);
    if (turn == 0) take_products(cb);

    unsigned xv[4][4], decayed[4][4];
    float path_sum[2];
    const float decay[2] = {tokens.decay[t], tokens.decay[t + 8]};
    const float dt[2] = {tokens.dt[t], tokens.dt[t + 8]};
    if (reads) {
      ssd_gradient_pairs<V, true, starts>(xv, decayed, path_sum, dots, cb, tokens, decay, dt,
                                          quarter);
    } else {
      ssd_gradient_pairs<V, false, starts>(xv, decayed, path_sum, dots, cb, tokens, decay, dt,
                                           quarter);
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      path_sum[e] = warp_sum<4>(path_sum[e]);
      if (pair == 0) (reads ? s.row : s.column)[at][t + 8 * e] = path_sum[e];
    }

    if (!reads) {  // dx
      float u[8][4], near[8][4] = {};
      begin_products();
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const int from = k / 4 * operand_tile + k % 4 * 16;
        multiply_shared<V>(u, operand_at(s.B, from), operand_at(s.G[at], from), k > 0);
      }
      begin_products();
#pragma unroll
      for (int k = 0; k < 4; ++k)
        multiply_add_right<V>(near, decayed[k], operand_at(dys, 16 * k * ssd_tile));
      commit_products();
      wait_products<0>();
      take_products(u);
      take_products(near);
      float after[2] = {}, inside[2] = {}, to_end[2], skip[16];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const bool reaches = !starts || tokens.sequence[t + 8 * e] == tokens.sequence[ssd_tile - 1];
        to_end[e] = reaches ? power_of_2(tokens.decay[ssd_tile - 1] - decay[e]) : 0.0f;
      }
      const unsigned place = stored_at(s.dx, 16 * quarter);
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        unsigned x[4], dy[4], out[4];
        load_left<8>(x, xs, 16 * quarter, j);
        load_left<8>(dy, dys, 16 * quarter, j);
#pragma unroll
        for (int i = 0; i < 4; ++i) {  // rows t and t + 8 of columns 8 j, then of the next 8
          const int n = j + i / 2, e = i % 2;
          const float2 D = *reinterpret_cast<const float2*>(s.D[at] + 8 * n + pair);
          const float far0 = to_end[e] * u[n][2 * e], far1 = to_end[e] * u[n][2 * e + 1];
          const float near0 = near[n][2 * e], near1 = near[n][2 * e + 1];
          const float x0 = low_of<V>(x[i]), x1 = high_of<V>(x[i]), dy0 = low_of<V>(dy[i]),
                      dy1 = high_of<V>(dy[i]);
          after[e] = multiply_add(x0, far0, multiply_add(x1, far1, after[e]));
          inside[e] = multiply_add(x0, near0, multiply_add(x1, near1, inside[e]));
          skip[2 * n] = e == 0 ? x0 * dy0 : multiply_add(x0, dy0, skip[2 * n]);
          skip[2 * n + 1] = e == 0 ? x1 * dy1 : multiply_add(x1, dy1, skip[2 * n + 1]);
          out[i] = pack<V>(multiply_add(D.x, dy0, dt[e] * (far0 + near0)),
                           multiply_add(D.y, dy1, dt[e] * (far1 + near1)));
        }
        store_matrices(place, j, out[0], out[1], out[2], out[3]);
      }
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        after[e] = warp_sum<4>(after[e]), inside[e] = warp_sum<4>(inside[e]);
        if (pair == 0) {
          s.after[at][t + 8 * e] = after[e];
          s.xu[at][t + 8 * e] = after[e] + inside[e];
        }
      }
      if (op.dD) {
        ssd_row_sums(skip);
        s.dD[at][quarter][8 * row + pair] = skip[0];
        s.dD[at][quarter][8 * row + pair + 1] = skip[1];
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = 16 * quarter + 4 * i + lane / 8, p = 8 * (lane % 8);
        if (r < rows && p < width)
          *reinterpret_cast<uint4*>(&op.dx(b, t0 + r, h, p)) =
              *reinterpret_cast<const uint4*>(s.dx + piece_at<8>(r, lane % 8));
      }
      __syncwarp();
    }

    // dC: rows that read, by the state before the chunk; dB: by the adjoint after it.
    float far[16][4];
    begin_products();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      multiply_shared_right<V>(far, operand_at(left_tile, 16 * k),
                               operand_at(state, 16 * k * ssd_tile), k > 0);
    commit_products();
    begin_products();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      multiply_add_right<V>(sums, xv[k], operand_at(others, 16 * k * ssd_tile));
    commit_products();
    const float* factors = reads ? tokens.carry : tokens.weight;
    const float factor[2] = {factors[t], factors[t + 8]};
    wait_products<0>();
    take_products(far);
    take_products(sums);
    float before[2] = {};
#pragma unroll
    for (int j = 0; j < 16; j += 2) {
      unsigned C[4];
      if (reads) load_left<8>(C, s.C + j / 8 * operand_tile, 16 * quarter, j % 8);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int n = j + i / 2, e = i % 2;
        const float v0 = factor[e] * far[n][2 * e], v1 = factor[e] * far[n][2 * e + 1];
        sums[n][2 * e] += v0, sums[n][2 * e + 1] += v1;
        if (reads)
          before[e] =
              multiply_add(low_of<V>(C[i]), v0, multiply_add(high_of<V>(C[i]), v1, before[e]));
      }
    }
    if (reads) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        before[e] = warp_sum<4>(before[e]);
        if (pair == 0) s.before[at][t + 8 * e] = before[e];
      }
    }
  }
  const auto& to = reads ? plan.dC : plan.dB;
#pragma unroll
  for (int j = 0; j < 16; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int i = t + 8 * e, n = 8 * j + pair;
      if (i < rows && n < states)
        *reinterpret_cast<float2*>(&to(b, t0 + i, set, n)) =
            make_float2(sums[j][2 * e], sums[j][2 * e + 1]);
    }
#endif
}

template <class E>
void launch_ssd_gradients(context<cuda>& ctx, const ssd_backward_tiles_plan<E>& plan) {
  const auto& op = plan.op;
  constexpr int bytes = ssd_gradient_bytes<typename E::value>;
  const auto launch = [&](auto kernel) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               plan.name);
    kernel<<<blocks_for(op.x.size[0] * plan.chunks * op.groups() * plan.sets, 1),
             ssd_backward_threads, bytes, ctx.stream>>>(plan);
    launched(plan.name);
  };
  if (op.seq_idx) {
    launch(ssd_gradient_kernel<constant<1>, E>);
  } else {
    launch(ssd_gradient_kernel<constant<0>, E>);
  }
}

}  // namespace mlmamba::backend::kernels
