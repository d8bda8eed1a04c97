// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of the selective scan with a thread per channel: forward once to keep a state every 8
// tokens, then back, 8 tokens at a time, whose states are recomputed into registers.
#pragma once

#include "mlmamba/backend/cuda/selective_scan_channels.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int scan_kept = 8;  ///< tokens from one kept state to the next

template <class E>
struct scan_channels_backward_plan {
  static constexpr const char* name = ops::selective_scan_backward<E>::name;
  ops::selective_scan_backward<E> op;
  index_t runs, blocks;                         // of 8 tokens; of channels
  view<float, 4, memory::device> kept;          // (B, runs, 16, D)
  view<float, 4, memory::device> dBC;           // (B, L, blocks, 32): of dB, then of dC
  view<float, 3, memory::device> dA;            // (B, 16, D)
  view<float, 2, memory::device> dD, ddt_bias;  // (B, D)
};

/// What both walks know of their channel.
template <class E>
struct scan_channel {
  index_t b, d;
  int block;
  bool inside;
  float rate[scan_state_size], bias;  // the rate to base 2

  __device__ explicit scan_channel(const ops::selective_scan_backward<E>& op, index_t blocks) {
    b = blockIdx.x;
    block = int(take_index(b, blocks));
    d = index_t(block) * scan_block + threadIdx.x;
    inside = d < op.x.size[2];
    if (!inside) d = op.x.size[2] - 1;
    bias = op.dt_bias ? op.dt_bias(d) : 0.0f;
#pragma unroll
    for (int n = 0; n < scan_state_size; ++n)
      rate[n] = n < op.A.size[1] ? op.A(d, n) * 1.44269504f : 0.0f;
  }
};

/// Rows t0 .. t0 + count of B or C into shared memory, zeros elsewhere.
template <class V>
__device__ void scan_read_rows(float (&to)[scan_tile][scan_state_size],
                               const view<const V, 4, memory::device>& from, index_t b, index_t t0,
                               int count) {
  for (int e = int(threadIdx.x); e < scan_tile * scan_state_size; e += scan_block) {
    const int t = e / scan_state_size, n = e % scan_state_size;
    to[t][n] = t < count && n < from.size[3] ? float(from(b, t0 + t, 0, n)) : 0.0f;
  }
}

template <class E>
__device__ bool scan_begins(const ops::selective_scan_backward<E>& op, index_t b, index_t t) {
  return op.seq_idx && op.seq_idx(b, t) != (t > 0 ? op.seq_idx(b, t - 1) : 0);
}

template <class E>
__global__ void __launch_bounds__(scan_block)
    scan_keep_kernel(const scan_channels_backward_plan<E> plan) {
  using V = typename E::value;
  __shared__ __align__(16) float Bs[scan_tile][scan_state_size];
  const auto& op = plan.op;
  const scan_channel<E> me(op, plan.blocks);
  const index_t length = op.x.size[1];
  float S[scan_state_size];
#pragma unroll
  for (int n = 0; n < scan_state_size; ++n)
    S[n] = op.initial_states && n < op.A.size[1] ? op.initial_states(me.b, me.d, n) : 0.0f;
  for (index_t t0 = 0; t0 < length; t0 += scan_tile) {
    const int count = int(length - t0 < scan_tile ? length - t0 : index_t(scan_tile));
    __syncthreads();
    scan_read_rows(Bs, op.B, me.b, t0, count);
    __syncthreads();
    for (int t1 = 0; t1 < count; t1 += scan_kept) {
      const index_t begin = t0 + t1;
      V xs[scan_kept], dts[scan_kept];
#pragma unroll
      for (int k = 0; k < scan_kept; ++k) {
        const bool there = t1 + k < count;
        xs[k] = there ? op.x(me.b, begin + k, me.d) : V(0.0f);
        dts[k] = there ? op.dt(me.b, begin + k, me.d) : V(0.0f);
      }
      if (me.inside) {
#pragma unroll
        for (int n = 0; n < scan_state_size; ++n)
          plan.kept(me.b, begin / scan_kept, n, me.d) = S[n];
      }
#pragma unroll
      for (int k = 0; k < scan_kept; ++k) {
        if (t1 + k >= count) break;
        float dt = float(dts[k]) + me.bias;
        if (op.dt_softplus) dt = fast_softplus<V>(dt);
        const float step = dt * float(xs[k]);
        const bool begins = scan_begins(op, me.b, begin + k);
#pragma unroll
        for (int n = 0; n < scan_state_size; ++n)
          S[n] = multiply_add(step, Bs[t1 + k][n],
                              begins ? 0.0f : decay_of_2<V>(dt * me.rate[n]) * S[n]);
      }
    }
  }
}

template <class E>
__global__ void __launch_bounds__(scan_block, 2)
    scan_back_kernel(const scan_channels_backward_plan<E> plan) {
  using V = typename E::value;
  constexpr int states = scan_state_size, warps = scan_block / warp_size;
  __shared__ __align__(16) float Bs[scan_tile][states], Cs[scan_tile][states];
  __shared__ float sums[scan_kept][warps][warp_size];
  const auto& op = plan.op;
  const scan_channel<E> me(op, plan.blocks);
  const index_t length = op.x.size[1], b = me.b, d = me.d;
  const float skip = op.D ? op.D(d) : 0.0f;
  float G[states], dA[states] = {}, dD = 0, dbias = 0;
#pragma unroll
  for (int n = 0; n < states; ++n)
    G[n] = op.dfinal_states && n < op.A.size[1] ? op.dfinal_states(b, d, n) : 0.0f;
  const index_t tiles = (length + scan_tile - 1) / scan_tile;
  for (index_t tile = tiles - 1; tile >= 0; --tile) {
    const index_t t0 = tile * scan_tile;
    const int count = int(length - t0 < scan_tile ? length - t0 : index_t(scan_tile));
    __syncthreads();
    scan_read_rows(Bs, op.B, b, t0, count);
    scan_read_rows(Cs, op.C, b, t0, count);
    __syncthreads();
    for (int t1 = (count - 1) / scan_kept * scan_kept; t1 >= 0; t1 -= scan_kept) {
      const index_t begin = t0 + t1;
      const int here = count - t1 < scan_kept ? count - t1 : scan_kept;
      V xs[scan_kept], dts[scan_kept], dys[scan_kept], zs[scan_kept];
#pragma unroll
      for (int k = 0; k < scan_kept; ++k) {
        const bool there = k < here && me.inside;
        xs[k] = there ? op.x(b, begin + k, d) : V(0.0f);
        dts[k] = there ? op.dt(b, begin + k, d) : V(0.0f);
        dys[k] = there ? op.dy(b, begin + k, d) : V(0.0f);
        if (op.z) zs[k] = there ? op.z(b, begin + k, d) : V(0.0f);
      }
      float h[scan_kept + 1][states];
#pragma unroll
      for (int n = 0; n < states; ++n) h[0][n] = plan.kept(b, begin / scan_kept, n, d);
#pragma unroll
      for (int k = 0; k < scan_kept; ++k) {
        if (k >= here) break;
        float dt = float(dts[k]) + me.bias;
        if (op.dt_softplus) dt = fast_softplus<V>(dt);
        const float step = dt * float(xs[k]);
        const bool begins = scan_begins(op, b, begin + k);
#pragma unroll
        for (int n = 0; n < states; ++n)
          h[k + 1][n] = multiply_add(step, Bs[t1 + k][n],
                                     begins ? 0.0f : decay_of_2<V>(dt * me.rate[n]) * h[k][n]);
      }
#pragma unroll
      for (int k = scan_kept - 1; k >= 0; --k) {
        if (k >= here) continue;
        const index_t t = begin + k;
        const float raw = float(dts[k]) + me.bias, x = float(xs[k]);
        const float dt = op.dt_softplus ? fast_softplus<V>(raw) : raw;
        const bool begins = scan_begins(op, b, t);
        float dv = float(dys[k]);
        if (op.z) {
          float v = skip * x;
#pragma unroll
          for (int n = 0; n < states; ++n) v = multiply_add(Cs[t1 + k][n], h[k + 1][n], v);
          const float z = float(zs[k]);
          if (me.inside) op.dz(b, t, d) = V(dv * v * silu_slope_as<V>(z));
          dv *= silu_as<V>(z);
        }
        float products[2 * states], through = 0, onto = 0;  // sums over n of G B, and by the decay
#pragma unroll
        for (int n = 0; n < states; ++n) {
          G[n] = multiply_add(dv, Cs[t1 + k][n], G[n]);
          products[n] = dt * x * G[n];
          products[states + n] = dv * h[k + 1][n];
          through = multiply_add(G[n], Bs[t1 + k][n], through);
          G[n] = begins ? 0.0f : G[n] * decay_of_2<V>(dt * me.rate[n]);
          const float carried = G[n] * h[k][n];
          onto = multiply_add(me.rate[n], carried, onto);
          dA[n] = multiply_add(dt, carried, dA[n]);
        }
        dD = multiply_add(dv, x, dD);
        // Rates are to base 2: ln 2 of them is A.
        float ddt = multiply_add(through, x, onto * 0.69314718f);
        if (op.dt_softplus) ddt *= math::softplus_derivative(raw);
        dbias += ddt;
        if (me.inside) {
          op.dx(b, t, d) = V(multiply_add(skip, dv, through * dt));
          op.ddt(b, t, d) = V(ddt);
        }
        const float sum = warp_sums(products);
        sums[k][warp_index()][lane_index()] = sum;
      }
      __syncthreads();
      for (int e = int(threadIdx.x); e < here * warp_size; e += scan_block) {
        const int k = e / warp_size, n = e % warp_size;
        float sum = 0;
#pragma unroll
        for (int w = 0; w < warps; ++w) sum += sums[k][w][n];
        plan.dBC(b, begin + k, me.block, n) = sum;
      }
      __syncthreads();
    }
  }
  if (!me.inside) return;
#pragma unroll
  for (int n = 0; n < states; ++n) {
    plan.dA(b, n, d) = dA[n];
    if (op.dinitial_states && n < op.A.size[1]) op.dinitial_states(b, d, n) = G[n];
  }
  plan.dD(b, d) = dD, plan.ddt_bias(b, d) = dbias;
}

/// dB and dC: the blocks of channels, ascending.
template <class E>
__global__ void scan_group_kernel(const scan_channels_backward_plan<E> plan) {
  const auto& op = plan.op;
  index_t b = thread_index();
  if (b >= op.x.size[0] * op.x.size[1] * warp_size) return;
  const index_t n = take_index(b, warp_size), t = take_index(b, op.x.size[1]);
  const index_t at = n % scan_state_size;
  if (at >= op.A.size[1]) return;
  float sum = 0;
  for (index_t k = 0; k < plan.blocks; ++k) sum += plan.dBC(b, t, k, n);
  const auto& to = n < scan_state_size ? op.dB : op.dC;
  to(b, t, 0, at) = typename E::value(sum);
}

/// dA, dD and ddt_bias: the rows of the batch, ascending. A thread has a channel.
template <class E>
__global__ void scan_parameters_kernel(const scan_channels_backward_plan<E> plan) {
  const auto& op = plan.op;
  const index_t d = thread_index();
  if (d >= op.x.size[2]) return;
  const auto add = [&](float& to, auto&& part) {
    float sum = 0;
    for (index_t b = 0; b < op.x.size[0]; ++b) sum += part(b);
    to += sum;
  };
  for (index_t n = 0; op.dA && n < op.A.size[1]; ++n)
    add(op.dA(d, n), [&](index_t b) { return plan.dA(b, n, d); });
  if (op.dD) add(op.dD(d), [&](index_t b) { return plan.dD(b, d); });
  if (op.ddt_bias) add(op.ddt_bias(d), [&](index_t b) { return plan.ddt_bias(b, d); });
}

template <class E>
void run_scan_back_by_channels(context<cuda>& ctx, const ops::selective_scan_backward<E>& op) {
  const index_t b = op.x.size[0], l = op.x.size[1], d = op.x.size[2];
  auto frame = ctx.scratch.make_frame();
  const auto make = [&](auto n) { return ctx.scratch.template make<float>(n); };
  scan_channels_backward_plan<E> plan{};
  plan.op = op;
  plan.runs = (l + scan_kept - 1) / scan_kept, plan.blocks = (d + scan_block - 1) / scan_block;
  plan.kept = make(shape<4>{{b, plan.runs, scan_state_size, d}});
  plan.dBC = make(shape<4>{{b, l, plan.blocks, warp_size}});
  plan.dA = make(shape<3>{{b, scan_state_size, d}});
  plan.dD = make(shape<2>{{b, d}}), plan.ddt_bias = make(shape<2>{{b, d}});
  const unsigned blocks = blocks_for(b * plan.blocks, 1);
  scan_keep_kernel<E><<<blocks, scan_block, 0, ctx.stream>>>(plan);
  launched(plan.name);
  scan_back_kernel<E><<<blocks, scan_block, 0, ctx.stream>>>(plan);
  launched(plan.name);
  launch_elements(ctx, scan_group_kernel<E>, b * l * warp_size, plan);
  launch_elements(ctx, scan_parameters_kernel<E>, d, plan);
}

}  // namespace mlmamba::backend::kernels
