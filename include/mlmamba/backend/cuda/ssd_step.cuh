// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One token of SSD on a GPU: the state is read and written once.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/ssd_plan.cuh"

namespace mlmamba::backend {

namespace kernels {

/// Rates: 0: A is given, 1: log(-A) is.
template <class Rates, class E>
__device__ typename E::accum ssd_rate(const ops::ssd_step<E>& op, index_t h) {
  if constexpr (Rates::value == 1) return -math::exp(op.A(h));
  return op.A(h);
}

/// A warp has one row p of the state.
template <class Rates, class E>
__global__ void ssd_step_kernel(const ops::ssd_step<E> op) {
  using A = typename E::accum;
  index_t b = thread_index() / warp_size;
  if (b >= op.x.count()) return;  // all lanes of a warp agree
  const index_t p = take_index(b, op.x.size[2]), h = take_index(b, op.x.size[1]);
  const index_t g = h / (op.x.size[1] / op.B.size[1]);
  A dt = A(op.dt(b, h));
  if (op.dt_bias) dt += op.dt_bias(h);
  dt = ssd_limited_dt(op, dt);
  const A decay = math::exp(dt * ssd_rate<Rates>(op, h)), x = A(op.x(b, h, p));
  A sum = 0;
  for (index_t n = lane_index(); n < op.state.size[3]; n += warp_size) {
    const A s = multiply_add(x * dt, A(op.B(b, g, n)), decay * A(op.state(b, h, p, n)));
    op.state(b, h, p, n) = typename E::state(s);
    sum = multiply_add(A(op.C(b, g, n)), s, sum);
  }
  sum = warp_sum(sum);
  if (lane_index() != 0) return;
  if (op.D) sum = multiply_add(op.D(h, p), x, sum);
  if (op.z) sum *= apply_activation(activation::silu, A(op.z(b, h, p)));
  op.y(b, h, p) = typename E::value(sum);
}

inline constexpr int ssd_step_rows = 8;

/// The rows of a head, in eights or what a warp has.
inline index_t ssd_step_tiles(index_t rows, int each = ssd_step_rows) {
  return (rows + each - 1) / each;
}

/// A step before a gated norm.
template <class E>
struct ssd_gated_step {
  static constexpr const char* name = ops::ssd_step<E>::name;
  ops::ssd_step<E> op;              // with z
  const typename E::accum* weight;  // (H, P): of the norm; y is multiplied by it at last
  typename E::accum* squares;       // (B, H, tiles): sums of those of what y was before
};
template <class E>
__host__ __device__ const ops::ssd_step<E>& ssd_step_of(const ops::ssd_step<E>& op) {
  return op;
}
template <class E>
__host__ __device__ const ops::ssd_step<E>& ssd_step_of(const ssd_gated_step<E>& plan) {
  return plan.op;
}

/// The same with pieces of 16 bytes: a warp has `Rows` rows p of one head (N <= 128), all of which
/// it reads first; one that is too many has none. A row in float is shared by all lanes, one in 16
/// bits by half of them. `Plan` is an ssd_step or an ssd_gated_step. `begin` waits until the state
/// may be read, `inputs` for all else.
template <class Rates, int Rows, class E, class Plan, class Begin, class Inputs>
__device__ void ssd_step_of_rows(const Plan& plan, index_t warp, Begin&& begin, Inputs&& inputs) {
  using A = typename E::accum;
  constexpr bool gated = std::is_same_v<Plan, ssd_gated_step<E>>;
  const auto& op = ssd_step_of(plan);
  constexpr int bytes = int(sizeof(typename E::state)), per = 16 / bytes, row_lanes = 128 / per;
  constexpr int rows = Rows, apart = warp_size / rows;
  constexpr int turns = rows * row_lanes / warp_size;  // rows of a lane
  const index_t tiles = (op.x.size[2] + rows - 1) / rows;
  const bool has_rows = warp < op.x.size[0] * op.x.size[1] * tiles;  // all lanes of a warp agree
  index_t b = has_rows ? warp : 0;
  const index_t p0 = take_index(b, tiles) * rows, h = take_index(b, op.x.size[1]);
  const index_t g = h / (op.x.size[1] / op.B.size[1]);
  const int lane = lane_index(), n = per * (lane % row_lanes), first = lane / row_lanes * turns;
  const bool there = n < op.state.size[3];
  const int count = !has_rows ? 0 : op.x.size[2] - p0 < rows ? int(op.x.size[2] - p0) : rows;
  const index_t mine = p0 + lane / apart;  // the row whose sum this lane gets
  const bool answered = lane / apart < count;
  A rate = 0, bias = 0, skip = 0, weight = 1;
  const auto read_parameters = [&] {
    rate = ssd_rate<Rates>(op, h);
    if (op.dt_bias) bias = op.dt_bias(h);
    if (op.D && answered) skip = op.D(h, mine);
    if constexpr (gated)
      if (answered) weight = plan.weight[h * op.x.size[2] + mine];
  };
  if constexpr (Rates::value == 1) read_parameters();  // a model's, which no launch writes
  // Of the state only a hint: another step may still be at work on it.
  constexpr int line = 128 / bytes;
  if (answered && lane % apart * line < op.state.size[3])
    asm volatile("prefetch.global.L2 [%0];\n" ::"l"(&op.state(b, h, mine, lane % apart * line)));
  begin();
  if constexpr (Rates::value != 1) read_parameters();
  A state[turns][per] = {}, B[per], C[per], sums[turns];
#pragma unroll
  for (int r = 0; r < turns; ++r)
    if (there && first + r < count) read_piece(state[r], &op.state(b, h, p0 + first + r, n));
  inputs();
  read_piece(B, &op.B(b, g, there ? n : 0)), read_piece(C, &op.C(b, g, there ? n : 0));
  A dt = A(op.dt(b, h)) + bias;
  const A x = A(op.x(b, h, answered ? mine : p0));
  A z = 0;
  if constexpr (gated) z = A(op.z(b, h, answered ? mine : p0));
  if (!there)
#pragma unroll
    for (int k = 0; k < per; ++k) B[k] = C[k] = A(0);
  dt = ssd_limited_dt(op, dt);
  const A decay = math::exp(dt * rate);
#pragma unroll
  for (int r = 0; r < turns; ++r) {
    const A step = dt * __shfl_sync(all_lanes, x, apart * (first + r));
    sums[r] = A(0);
#pragma unroll
    for (int k = 0; k < per; ++k) {
      state[r][k] = multiply_add(step, B[k], decay * state[r][k]);
      sums[r] = multiply_add(C[k], state[r][k], sums[r]);
    }
    if (there && first + r < count) write_piece(&op.state(b, h, p0 + first + r, n), state[r]);
  }
  A sum = warp_sums<row_lanes>(sums);
  const bool answers = lane % apart == 0 && answered;
  if (answers && op.D) sum = multiply_add(skip, x, sum);
  if constexpr (gated) {
    sum *= apply_activation(activation::silu, z);
    if (answers) op.y(b, h, mine) = typename E::value(weight * sum);
    sum = warp_sum(answers ? sum * sum : A(0));
    if (lane == 0 && has_rows) plan.squares[warp] = sum;
  } else if (answers) {
    if (op.z) sum *= apply_activation(activation::silu, A(op.z(b, h, mine)));
    op.y(b, h, mine) = typename E::value(sum);
  }
}

template <class Rates, class E, class Plan>
__global__ void __launch_bounds__(block_threads) ssd_step_rows_kernel(const Plan plan) {
  ssd_step_of_rows<Rates, ssd_step_rows, E>(
      plan, thread_index() / warp_size, [] { wait_for_launch_before(); }, [] {});
}

/// Can it be done in rows? The sizes of B and C are those of the state.
template <class E>
bool ssd_step_in_rows(const out_state<E, 4>& state) {
  return std::is_same_v<typename E::accum, float> && state.size[3] <= 128 &&
         in_pieces(state, 16 / int(sizeof(typename E::state)));
}

template <class Rates, class E, class Plan>
void launch_ssd_step_rows(context<cuda>& ctx, const Plan& plan) {
  const ops::ssd_step<E>& op = ssd_step_of(plan);
  const index_t warps = op.x.size[0] * op.x.size[1] * ssd_step_tiles(op.x.size[2]);
  if (warps == 0) return;
  // Small blocks where there is little work: every multiprocessor gets some of it.
  const index_t most = block_threads / warp_size;
  const index_t some = std::clamp<index_t>(warps / (2 * ctx.multiprocessors), 1, most);
  launch_early(ctx, op.name, ssd_step_rows_kernel<Rates, E, Plan>, blocks_for(warps, some),
               unsigned(some * warp_size), 0, plan);
}

template <class Rates, class E>
void launch_ssd_step(context<cuda>& ctx, const ops::ssd_step<E>& op) {
  if constexpr (std::is_same_v<typename E::accum, float>) {
    constexpr int per = 16 / int(sizeof(typename E::state));
    if (ssd_step_in_rows<E>(op.state) && in_pieces(op.B, per) && in_pieces(op.C, per))
      return launch_ssd_step_rows<Rates, E>(ctx, op);
  }
  launch_elements(ctx, ssd_step_kernel<Rates, E>, op.x.count() * warp_size, op);
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::ssd_step<E>& op) {
  kernels::launch_ssd_step<kernels::constant<0>>(ctx, op);
}

}  // namespace mlmamba::backend
