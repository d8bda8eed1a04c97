// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD forward on Hopper's tensor cores (N <= 128): the mathematics of ssd_tiles.cuh with products
// by four warps from shared memory.
#pragma once

#include "mlmamba/backend/cuda/ssd_pair_parts.cuh"

namespace mlmamba::backend::kernels {

/// A block has two heads of a group, 64 rows p of their states and one segment of the sequence, in
/// chunks of 64 tokens (see ssd_tile_kernel). `Work`: ssd_y and so on. `Gated`: 1: by z, 2: and
/// with weight and squares as ops::mamba2_scan has them.
template <class Work, class Starts, class Gated, class E>
__global__ void __launch_bounds__(ssd_pair_threads, std::is_same_v<Work, ssd_ends> ? 2 : 1)
    ssd_pair_kernel(const ssd_plan<E> plan) {
#if defined(MLMAMBA_WARPGROUPS)
  using V = typename E::value;
  constexpr bool ends = std::is_same_v<Work, ssd_ends>, both = std::is_same_v<Work, ssd_both>;
  constexpr bool starts = Starts::value != 0, gated = Gated::value != 0;
  extern __shared__ __align__(128) unsigned char raw[];
  auto& s = *reinterpret_cast<ssd_pair_memory<V, ends, gated>*>(
      raw + (1024 - shared_address(raw) % 1024) % 1024);

  const ops::ssd<E>& op = plan.op;
  const index_t length = op.x.size[1], heads = op.x.size[2], groups = op.B.size[2];
  const int width = int(op.x.size[3]), states = int(op.B.size[3]);
  const index_t segments = ends ? (plan.chunks - 1) * plan.pieces : plan.chunks;
  const index_t in_group = heads / groups, pairs = (in_group + ssd_pair - 1) / ssd_pair;
  index_t b = blockIdx.x;
  const index_t p_tile = take_index(b, (width + ssd_tile - 1) / ssd_tile),
                pair_index = take_index(b, pairs), g = take_index(b, groups),
                segment = take_index(b, segments);
  const int p0 = int(p_tile) * ssd_tile, columns = width - p0 < ssd_tile ? width - p0 : ssd_tile;
  const index_t begin =
      ends ? segment / plan.pieces * plan.chunk + segment % plan.pieces * plan.piece
           : segment * plan.chunk;
  index_t end = (ends ? segment / plan.pieces : segment) * plan.chunk + plan.chunk;
  if (ends && end > begin + plan.piece) end = begin + plan.piece;
  if (end > length) end = length;
  const int chunks = int((end - begin + ssd_tile - 1) / ssd_tile);
  const int warp = __shfl_sync(all_lanes, warp_index(), 0);  // known to be one for the warp
  const int lane = lane_index(), row = lane >> 2, pair = 2 * (lane & 3);
  const int mine = warp >> 2, quarter = warp & 3, t = 16 * quarter + row;
  // The last head of an odd group is done twice.
  const auto head = [&](int i) {
    const index_t h = g * in_group + pair_index * ssd_pair + i;
    return h < (g + 1) * in_group ? h : (g + 1) * in_group - 1;
  };
  const bool writes = pair_index * ssd_pair + mine < in_group;
  const index_t h = head(mine);

  const index_t all_chunks = (length + ssd_tile - 1) / ssd_tile, chunk0 = begin / ssd_tile;
  // Whole chunks, which most are: pointers that walk, no tests.
  const bool whole = states == 128 && columns == ssd_tile;
  const int copied_row = int(threadIdx.x) / 8, copied_piece = int(threadIdx.x) % 8;
  const int copied_to = piece_at<8>(copied_row, copied_piece);
  constexpr int half_tile = 32 * ssd_tile;  // a thread has rows r and r + 32
  const V *B_at = &op.B(b, begin + copied_row, g, 8 * copied_piece),
          *C_at = &op.C(b, begin + copied_row, g, 8 * copied_piece), *x_at[ssd_pair];
#pragma unroll
  for (int i = 0; i < ssd_pair; ++i)
    x_at[i] = &op.x(b, begin + copied_row, head(i), p0 + 8 * copied_piece);
  const int token_piece = int(threadIdx.x) % 128;
  const bool copies_tokens = token_piece < int(ssd_tokens_size(op)) / 4;
  const float* tokens_at =
      plan.tokens + ((b * all_chunks + chunk0) * heads + h) * ssd_tokens_size(op) + 4 * token_piece;
  const index_t tokens_step = heads * ssd_tokens_size(op);
  // Where a turn's operands are. States alone need no C: its place is a third turn.
  const auto B_of = [&](int turn) { return both && turn == 2 ? s.C[0] : s.B[turn]; };
  const auto x_of = [&](int turn, int i) {
    return both && turn == 2 ? s.C[1] + i * operand_tile : s.x[turn][i];
  };
  const auto copy = [&](int c, auto with_y) {
    constexpr bool y_too = decltype(with_y)::value != 0;
    if (c < chunks) {
      const index_t t = begin + index_t(c) * ssd_tile;
      const int rows = end - t < ssd_tile ? int(end - t) : ssd_tile, at = c % (y_too ? 2 : 3);
      V *const Bs = B_of(at), *const Cs = s.C[y_too ? at : 0];
      if (whole && rows == ssd_tile) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const index_t down = index_t(r) * 32;
          V* const to = Bs + copied_to + r * half_tile;
          copy_piece(to, B_at + down * op.B.stride[1], true);
          copy_piece(to + operand_tile, B_at + down * op.B.stride[1] + 64, true);
          if constexpr (y_too) {
            V* const to = Cs + copied_to + r * half_tile;
            copy_piece(to, C_at + down * op.C.stride[1], true);
            copy_piece(to + operand_tile, C_at + down * op.C.stride[1] + 64, true);
          }
#pragma unroll
          for (int i = 0; i < ssd_pair; ++i)
            copy_piece(x_of(at, i) + copied_to + r * half_tile, x_at[i] + down * op.x.stride[1],
                       true);
        }
      } else {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int from = i * 64 < states ? i * 64 : 0, here = states - i * 64;
          copy_tile<ssd_pair_threads, 8>(Bs + i * operand_tile, &op.B(b, t, g, from),
                                         op.B.stride[1], rows, here < 64 ? here : 64);
          if constexpr (y_too)
            copy_tile<ssd_pair_threads, 8>(Cs + i * operand_tile, &op.C(b, t, g, from),
                                           op.C.stride[1], rows, here < 64 ? here : 64);
        }
#pragma unroll
        for (int i = 0; i < ssd_pair; ++i)
          copy_tile<ssd_pair_threads, 8>(x_of(at, i), &op.x(b, t, head(i), p0), op.x.stride[1],
                                         rows, columns);
      }
      if constexpr (y_too && gated) {
#pragma unroll
        for (int i = 0; i < ssd_pair; ++i)
          copy_tile<ssd_pair_threads, 8>(s.z[at][i], &op.z(b, t, head(i), p0), op.z.stride[1], rows,
                                         columns);
      }
      if (copies_tokens) copy_piece(s.tokens[at][mine].decay + 4 * token_piece, tokens_at, true);
      B_at += ssd_tile * op.B.stride[1], C_at += ssd_tile * op.C.stride[1];
#pragma unroll
      for (int i = 0; i < ssd_pair; ++i) x_at[i] += ssd_tile * op.x.stride[1];
      tokens_at += tokens_step;
    }
    commit_copies();
  };
  const constant<0> states_only;
  const constant<1> with_y;
  wait_for_launch_before();

  float S[16][4];
  // f(element, element of memory), inside the state only; `at` is of this head's p0.
  const auto each_state = [&](auto* at, index_t stride, auto&& f) {
    at += t * stride + pair;
#pragma unroll
    for (int i = 0; i < 2; ++i, at += 8 * stride) {
      if (t + 8 * i >= columns) break;
#pragma unroll
      for (int j = 0; j < 16; ++j)
        if (8 * j + pair < states)  // N is even
          f(S[j][2 * i], at[8 * j]), f(S[j][2 * i + 1], at[8 * j + 1]);
    }
  };
  const auto read = [](float& v, const float& m) { v = m; };
  const auto write = [](float& v, float& m) { m = v; };
  const auto clear_state = [&] {
#pragma unroll
    for (int j = 0; j < 16; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) S[j][e] = 0.0f;
  };
  clear_state();
  // The same of ends that only these kernels read, in the order in which threads have them.
  const auto part = [&](index_t e) {
    return reinterpret_cast<float4*>(&plan.ends(b, e, h, p0, 0)) + threadIdx.x % 128;
  };
  const auto write_part = [&](index_t e) {
    float4* const to = part(e);
#pragma unroll
    for (int j = 0; j < 16; ++j) to[128 * j] = make_float4(S[j][0], S[j][1], S[j][2], S[j][3]);
  };
  // S from its parts e < count, or as part e; half a part is on its way while the other is added.
  const auto read_half = [&](float4(&v)[8], index_t e, int half) {
    const float4* const from = part(e) + half * 8 * 128;
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = __ldcg(from + 128 * j);
  };
  const auto add_half = [&](const float4(&v)[8], float decay, int half) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float left[4] = {v[j].x, v[j].y, v[j].z, v[j].w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& state = S[8 * half + j][i];
        state = decay == 0.0f ? left[i] : multiply_add(decay, state, left[i]);
      }
    }
  };
  const auto join_parts = [&](index_t first, index_t count) {
    float4 lower[8], upper[8];
    read_half(lower, first, 0);
    for (index_t e = first; e < first + count; ++e) {
      const float decay = e == first ? 0.0f : __ldcg(&plan.decay(b, e, h));
      read_half(upper, e, 1);
      add_half(lower, decay, 0);
      if (e + 1 < first + count) read_half(lower, e + 1, 0);
      add_half(upper, decay, 1);
    }
  };
  float total = 1;  // the decay over the segment
  // S of the chunk's end from that of its beginning; is under way when this returns.
  const auto add_chunk = [&](const ssd_tokens& tokens, const V* xs, const V* Bs) {
    const float carried = tokens.carry[ssd_tile - 1];
    total *= carried;
#pragma unroll
    for (int j = 0; j < 16; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) S[j][e] *= carried;
    if (carried == 0.0f) clear_state();  // drops even infinities
    unsigned left[4][4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float2 near = *reinterpret_cast<const float2*>(tokens.weight + 16 * k + pair);
      const float2 far = *reinterpret_cast<const float2*>(tokens.weight + 16 * k + pair + 8);
      load_left_transposed<8>(left[k], xs, 16 * k, 2 * quarter);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float2 weight = e < 2 ? near : far;
        left[k][e] = pack<V>(weight.x * low_of<V>(left[k][e]), weight.y * high_of<V>(left[k][e]));
      }
    }
    begin_products();
#pragma unroll
    for (int k = 0; k < 4; ++k)
      multiply_add_right<V>(S, left[k], operand_at(Bs, 16 * k * ssd_tile));
    commit_products();
  };

  const bool leaves = ends || (both && segment + 1 < segments);  // an end that somebody wants
  if constexpr (ends || both) {
    if (segment == 0 && op.initial_states) {
      each_state(&op.initial_states(b, h, p0, 0), op.initial_states.stride[2], read);
      if (writes) write_part(plan.ends.size[1] - 1);  // the last segment may write it before others
    }                                                 // have read it
    if (leaves) {
      copy(0, states_only);
      copy(1, states_only);
      for (int c = 0; c < chunks; ++c) {
        const int at = c % 3;
        wait_copies<1>();
        show_to_products();
        __syncthreads();  // this chunk is there, and everybody is done with the chunk before
        copy(c + 2, states_only);
        add_chunk(s.tokens[at][mine], x_of(at, mine), B_of(at));
        wait_products<0>();
        take_products(S);
      }
      if (writes) {
        write_part(segment);
        if (p_tile == 0 && threadIdx.x % 128 == 0) plan.decay(b, segment, h) = total;
      }
    }
  }
  int* const flag = plan.flags + blockIdx.x;  // of this block
  if constexpr (both) {
    if (leaves) {  // and back to the first chunk
      wait_copies<0>();
      raise_flag(flag);  // nobody is at work on a chunk behind it
      const index_t back = index_t(chunks) * ssd_tile;
      B_at -= back * op.B.stride[1], C_at -= back * op.C.stride[1];
#pragma unroll
      for (int i = 0; i < ssd_pair; ++i) x_at[i] -= back * op.x.stride[1];
      tokens_at -= chunks * tokens_step;
    }
  }
  if constexpr (!ends) {
    copy(0, with_y);
    if constexpr (both) {  // the ends of the segments before
      const index_t apart = gridDim.x / op.x.size[0] / segments;
      wait_for_flags(flag - segment * apart, int(segment), apart);
    }
    if (plan.chunks == 1) {
      if (op.initial_states)
        each_state(&op.initial_states(b, h, p0, 0), op.initial_states.stride[2], read);
    } else if (!plan.joins) {
      join_parts(segment * plan.pieces, 1);
    } else if (segment > 0) {
      join_parts(0, segment * plan.pieces);
    } else if (op.initial_states) {
      join_parts(plan.ends.size[1] - 1, 1);
    } else if (both) {
      clear_state();
    }

    const unsigned state_place = stored_at(s.S[mine], 16 * quarter);
    const auto share_state = [&] {
#pragma unroll
      for (int j = 0; j < 16; j += 2)
        store_matrices(state_place + j / 8 * (operand_tile * 2), j % 8, pack<V>(S[j][0], S[j][1]),
                       pack<V>(S[j][2], S[j][3]), pack<V>(S[j + 1][0], S[j + 1][1]),
                       pack<V>(S[j + 1][2], S[j + 1][3]));
    };
    share_state();
    const int p = int(threadIdx.x) % 128;
    if (p < ssd_tile) {
      s.D[mine][p] = op.D && p < columns ? op.D(h, p0 + p) : 0.0f;
      if constexpr (Gated::value == 2)
        s.weight[mine][p] = p < columns ? plan.gate_weight(h * width + p0 + p) : 0.0f;
    }

    for (int c = 0; c < chunks; ++c) {
      const index_t t0 = begin + index_t(c) * ssd_tile;
      const int at = c % 2;
      const ssd_tokens& tokens = s.tokens[at][mine];
      const V *xs = s.x[at][mine], *Bs = s.B[at];
      wait_copies<0>();
      show_to_products();
      __syncthreads();  // this chunk and S are there, and everybody is done with the chunk before
      copy(c + 1, with_y);

      float y[8][4];
      {
        float cb[8][4];
        const V* Cs = s.C[at];
        begin_products();
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          const int from = k / 4 * operand_tile + k % 4 * 16;
          multiply_shared<V>(cb, operand_at(Cs, from), operand_at(Bs, from), k > 0);
        }
        commit_products();
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          const int from = k / 4 * operand_tile + k % 4 * 16;
          multiply_shared<V>(y, operand_at(Cs, from), operand_at(s.S[mine], from), k > 0);
        }
        commit_products();
        wait_products<1>();
        take_products(cb);

        unsigned scores[4][4];
        ssd_pair_scores<V, starts>(scores, cb, tokens, quarter);
        const float carry[2] = {tokens.carry[t], tokens.carry[t + 8]};
        wait_products<0>();
        take_products(y);
#pragma unroll
        for (int j = 0; j < 8; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            y[j][e] = carry[e / 2] == 0.0f ? 0.0f : carry[e / 2] * y[j][e];
        begin_products();
#pragma unroll
        for (int k = 0; k < 4; ++k)
          multiply_add_right<V>(y, scores[k], operand_at(xs, 16 * k * ssd_tile));
        commit_products();
      }

      add_chunk(tokens, xs, Bs);

      wait_products<1>();
      take_products(y);
      // D x and the gate; then through shared memory, to write whole rows.
      const unsigned y_place = stored_at(s.y[mine], 16 * quarter);
      float squares[2] = {};
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        unsigned x[4], z[4], out[4];
        load_left<8>(x, xs, 16 * quarter, j);
        if constexpr (gated) load_left<8>(z, s.z[at][mine], 16 * quarter, j);
#pragma unroll
        for (int i = 0; i < 4; ++i) {  // rows t and t + 8 of columns 8 j, then of the next 8
          const int p = 8 * (j + i / 2) + pair, e = i % 2;
          const float2 D = *reinterpret_cast<const float2*>(s.D[mine] + p);
          float v[2] = {multiply_add(D.x, low_of<V>(x[i]), y[j + i / 2][2 * e]),
                        multiply_add(D.y, high_of<V>(x[i]), y[j + i / 2][2 * e + 1])};
          if constexpr (gated) {
            v[0] *= silu_as<V>(low_of<V>(z[i]));
            v[1] *= silu_as<V>(high_of<V>(z[i]));
          }
          if constexpr (Gated::value == 2) {
            squares[e] += v[0] * v[0] + v[1] * v[1];
            const float2 weight = *reinterpret_cast<const float2*>(s.weight[mine] + p);
            v[0] *= weight.x, v[1] *= weight.y;
          }
          out[i] = pack<V>(v[0], v[1]);
        }
        store_matrices(y_place, j, out[0], out[1], out[2], out[3]);
      }
      if constexpr (Gated::value == 2) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float sum = warp_sum<4>(squares[e]);
          const index_t at = t0 + t + 8 * e;
          if (lane % 4 == 0 && at < end && writes) plan.squares(b, at, h) = sum;
        }
      }
      __syncwarp();
      V* y_at = &op.y(b, t0 + 16 * quarter + lane / 8, h, p0 + 8 * (lane % 8));
      const index_t last = end - t0 - 16 * quarter - lane / 8;  // rows before it are there
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int r = 16 * quarter + 4 * i + lane / 8;
        const uint4 v = *reinterpret_cast<const uint4*>(s.y[mine] + piece_at<8>(r, lane % 8));
        if (4 * i < last && 8 * (lane % 8) < columns && writes) *reinterpret_cast<uint4*>(y_at) = v;
        y_at += 4 * op.y.stride[1];
      }
      __syncwarp();
      wait_products<0>();
      take_products(S);
      share_state();
    }
    if (writes && op.final_states && segment + 1 == plan.chunks)
      each_state(&op.final_states(b, h, p0, 0), op.final_states.stride[2], write);
  }
#endif
}

}  // namespace mlmamba::backend::kernels
