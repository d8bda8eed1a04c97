// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Selective scan on a GPU with a thread per channel: its whole state (N <= 16) in registers, B and
// C in shared memory for the block's channels.
#pragma once

#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/backend/cuda/selective_scan_plan.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int scan_state_size = 16;  ///< elements of a state that a thread has
inline constexpr int scan_block = 128;      ///< threads, and channels, of a block
inline constexpr int scan_tile = 32;        ///< tokens whose B and C are in shared memory
inline constexpr int scan_ahead = 4;        ///< tokens that are read before they are needed

/// 2^x for exponents that are never positive, in the precision that results of type V keep.
template <class V>
__device__ float decay_of_2(float x) {
  if constexpr (std::is_same_v<V, bf16>) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
  } else {
    return exp2f(x);
  }
}
/// softplus, in the precision that results of type V keep.
template <class V>
__device__ float fast_softplus(float x) {
  if constexpr (std::is_same_v<V, bf16>) {
    if (x > 20.0f) return x;
    const float e = __expf(x);  // for small e the series of log(1 + e), else its logarithm
    return e < 0.03f ? e * (1.0f - e * (0.5f - e * (1.0f / 3 - 0.25f * e))) : __logf(1.0f + e);
  } else {
    return math::softplus(x);
  }
}

/// `Ends`: from a zero state, only what the segment leaves and by how much it decays a state.
template <class Ends, class E>
__global__ void __launch_bounds__(scan_block, 4)
    scan_channels_kernel(const selective_scan_plan<E> plan) {
  using V = typename E::value;
  constexpr bool ends = Ends::value != 0;
  __shared__ __align__(16) float Bs[scan_tile][scan_state_size],
      Cs[ends ? 1 : scan_tile][scan_state_size];
  const ops::selective_scan<E>& op = plan.op;
  const index_t length = op.x.size[1], channels = op.x.size[2], states = op.A.size[1];
  const index_t segments = ends ? plan.chunks - 1 : plan.chunks;
  index_t b = blockIdx.x;
  const index_t d0 = take_index(b, (channels + scan_block - 1) / scan_block) * scan_block,
                segment = take_index(b, segments);
  const bool inside = d0 + threadIdx.x < channels;
  const index_t d = inside ? d0 + threadIdx.x : channels - 1;  // the last one is done twice
  const index_t begin = segment * plan.chunk,
                end = begin + plan.chunk < length ? begin + plan.chunk : length;
  float S[scan_state_size], rate[scan_state_size];
#pragma unroll
  for (int n = 0; n < scan_state_size; ++n) {
    rate[n] = n < states ? op.A(d, n) * 1.44269504f : 0.0f;  // to base 2
    S[n] = 0.0f;
    if (ends || n >= states) continue;
    if (plan.chunks > 1) S[n] = plan.ends(b, segment, d, n);
    if (plan.chunks == 1 && op.initial_states) S[n] = op.initial_states(b, d, n);
  }
  const float bias = op.dt_bias ? op.dt_bias(d) : 0.0f, skip = op.D ? op.D(d) : 0.0f;
  float steps = 0;  // the sum of dt' over the segment: its decay is 2^(steps rate)
  bool dropped = false;
  const V* x_at = &op.x(b, begin, d);
  const V* dt_at = &op.dt(b, begin, d);
  const V* z_at = op.z ? &op.z(b, begin, d) : nullptr;
  V* y_at = ends ? nullptr : &op.y(b, begin, d);
  for (index_t t0 = begin; t0 < end; t0 += scan_tile) {
    const int count = int(end - t0 < scan_tile ? end - t0 : index_t(scan_tile));
    __syncthreads();  // everybody is done with the tokens before
    for (int e = int(threadIdx.x); e < scan_tile * scan_state_size; e += scan_block) {
      const int t = e / scan_state_size, n = e % scan_state_size;
      const bool there = t < count && n < states;
      Bs[t][n] = there ? float(op.B(b, t0 + t, 0, n)) : 0.0f;
      if constexpr (!ends) Cs[t][n] = there ? float(op.C(b, t0 + t, 0, n)) : 0.0f;
    }
    __syncthreads();
    for (int t1 = 0; t1 < count; t1 += scan_ahead) {
      V xs[scan_ahead], dts[scan_ahead], zs[scan_ahead];
#pragma unroll
      for (int k = 0; k < scan_ahead; ++k) {
        const bool there = t1 + k < count;
        xs[k] = there ? x_at[k * op.x.stride[1]] : V(0.0f);
        dts[k] = there ? dt_at[k * op.dt.stride[1]] : V(0.0f);
        if (!ends && z_at) zs[k] = there ? z_at[k * op.z.stride[1]] : V(0.0f);
      }
      x_at += scan_ahead * op.x.stride[1], dt_at += scan_ahead * op.dt.stride[1];
      if (!ends && z_at) z_at += scan_ahead * op.z.stride[1];
#pragma unroll
      for (int k = 0; k < scan_ahead; ++k) {
        const int t = t1 + k;
        if (t >= count) break;
        const float x = float(xs[k]);
        float dt = float(dts[k]) + bias;
        if (op.dt_softplus) dt = fast_softplus<V>(dt);
        if (op.seq_idx) {
          const index_t at = t0 + t;
          if (op.seq_idx(b, at) != (at > 0 ? op.seq_idx(b, at - 1) : 0)) {
            dropped = true;
#pragma unroll
            for (int n = 0; n < scan_state_size; ++n) S[n] = 0.0f;
          }
        }
        if constexpr (ends) steps += dt;
        const float step = dt * x;
        float sums[4] = {};
#pragma unroll
        for (int n = 0; n < scan_state_size; n += 4) {
          float B[4], C[4];
          read_piece(B, &Bs[t][n]);
          if constexpr (!ends) read_piece(C, &Cs[t][n]);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            S[n + i] = multiply_add(step, B[i], decay_of_2<V>(dt * rate[n + i]) * S[n + i]);
            if constexpr (!ends) sums[i] = multiply_add(C[i], S[n + i], sums[i]);
          }
        }
        if constexpr (!ends) {
          float y = multiply_add(skip, x, (sums[0] + sums[1]) + (sums[2] + sums[3]));
          if (z_at) y *= silu_as<V>(float(zs[k]));
          if (inside) y_at[k * op.y.stride[1]] = V(y);
        }
      }
      if constexpr (!ends) y_at += scan_ahead * op.y.stride[1];
    }
  }
  if (!inside) return;
#pragma unroll
  for (int n = 0; n < scan_state_size; ++n) {
    if (n >= states) continue;
    if constexpr (ends) {
      plan.ends(b, segment, d, n) = S[n];
      plan.decay(b, segment, d, n) = dropped ? 0.0f : exp2f(steps * rate[n]);
    } else if (segment + 1 == plan.chunks && op.final_states) {
      op.final_states(b, d, n) = S[n];
    }
  }
}

/// Does a thread per channel do this op? Others are done by lanes that share a channel.
template <class Op>
bool scans_by_channels(const Op& op) {
  return op.A.size[1] <= scan_state_size && op.A.size[1] > 4 && op.B.size[2] == 1 &&
         op.x.size[1] > 0 && op.x.size[0] * op.x.size[2] >= 256;
}

template <class E>
void run_scan_by_channels(context<cuda>& ctx, const ops::selective_scan<E>& op) {
  const index_t b = op.x.size[0], l = op.x.size[1], d = op.x.size[2], n = op.A.size[1];
  const index_t blocks = b * ((d + scan_block - 1) / scan_block),
                tiles = (l + scan_tile - 1) / scan_tile;
  // Cuts cost a pass for the states: no more than keep the multiprocessors busy.
  const index_t room = 3 * index_t(ctx.multiprocessors) / blocks;
  const index_t segments = std::max<index_t>(std::min(room, tiles / 4), 1);
  const index_t per = (tiles + segments - 1) / segments;
  auto frame = ctx.scratch.make_frame();
  selective_scan_plan<E> plan{op, per * scan_tile, (tiles + per - 1) / per, {}, {}, {}, 0};
  const auto launch = [&](auto ends, index_t cut) {
    scan_channels_kernel<decltype(ends), E>
        <<<blocks_for(blocks * cut, 1), scan_block, 0, ctx.stream>>>(plan);
    launched(plan.name);
  };
  if (plan.chunks > 1) {
    plan.ends = ctx.scratch.template make<float>(shape<4>{{b, plan.chunks, d, n}});
    plan.decay = ctx.scratch.template make<float>(shape<4>{{b, plan.chunks, d, n}});
    launch(constant<1>{}, plan.chunks - 1);
    auto join = plan;
    join.op.final_states = {};  // the last segment writes it
    launch_elements(ctx, selective_scan_join_kernel<E>, b * d * n, join);
  }
  launch(constant<0>{}, plan.chunks);
}

}  // namespace mlmamba::backend::kernels
