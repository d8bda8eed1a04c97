// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// AdamW on a GPU: many arrays in one launch.
#pragma once

#include <algorithm>
#include <cmath>

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/adamw.hpp"
#include "mlmamba/ops/series.hpp"

namespace mlmamba::backend {

namespace kernels {

/// What updates of one launch have in common.
template <class R>
struct adamw_constants {
  R beta1, rest1, beta2, rest2;  // rest = 1 - beta
  R correction1, correction2;    // 1 - beta^step
  R epsilon, scale;

  template <class E, class W>
  explicit adamw_constants(const ops::adamw<E, W>& op)
      : beta1(R(op.beta1)),
        rest1(R(1 - op.beta1)),
        beta2(R(op.beta2)),
        rest2(R(1 - op.beta2)),
        correction1(R(1 - std::pow(op.beta1, double(op.step)))),
        correction2(R(1 - std::pow(op.beta2, double(op.step)))),
        epsilon(R(op.epsilon)),
        scale(R(op.grad_scale)) {}
};
template <class E, class W>
bool adamw_together(const ops::adamw<E, W>& a, const ops::adamw<E, W>& b) {
  return a.beta1 == b.beta1 && a.beta2 == b.beta2 && a.epsilon == b.epsilon &&
         a.grad_scale == b.grad_scale && a.step == b.step;
}

template <class E, class W>
struct adamw_array {
  using A = typename E::accum;
  W* weight;
  A *master, *m, *v;  // master: or null
  const A* grad;
  index_t n, first;  // its size; the first block that has some of it
  typename E::real rate, decay;
};

template <class E, class W>
struct adamw_plan {
  static constexpr index_t block = 4 * block_threads;  // elements: few blocks, each with some work
  static constexpr int most = 48;                      // parameters of a launch are at most 4 KB
  adamw_constants<typename E::real> constants;
  int count = 0;
  adamw_array<E, W> arrays[most];

  explicit adamw_plan(const ops::adamw<E, W>& op) : constants(op) {}
};

template <class E, class W>
__global__ void __launch_bounds__(block_threads)
    adamw_kernel(const __grid_constant__ adamw_plan<E, W> plan) {
  using A = typename E::accum;
  const auto& a = plan.arrays[last_before(plan.arrays, plan.count, index_t(blockIdx.x))];
  const auto& c = plan.constants;
  const index_t from = (index_t(blockIdx.x) - a.first) * plan.block + threadIdx.x;
#pragma unroll
  for (int k = 0; k < plan.block / block_threads; ++k) {
    const index_t i = from + k * block_threads;
    if (i >= a.n) return;
    const A g = a.grad[i] * A(c.scale);
    const A m = A(c.beta1) * a.m[i] + A(c.rest1) * g;
    const A v = A(c.beta2) * a.v[i] + A(c.rest2) * g * g;
    A w = a.master ? a.master[i] : A(a.weight[i]);
    const A step = m / A(c.correction1) / (math::sqrt(v / A(c.correction2)) + A(c.epsilon));
    w -= A(a.rate) * (A(a.decay) * w + step);
    a.m[i] = m;
    a.v[i] = v;
    if (a.master) a.master[i] = w;
    a.weight[i] = W(w);
  }
}

}  // namespace kernels

template <class E, class W>
bool prefers(const context<cuda>&, const ops::series<ops::adamw<E, W>>&) {
  return true;
}
template <class E, class W>
void execute(context<cuda>& ctx, const ops::series<ops::adamw<E, W>>& op) {
  using plan_type = kernels::adamw_plan<E, W>;
  using R = typename E::real;
  static_assert(sizeof(plan_type) <= 4096);
  const auto all = op.parts;
  for (std::size_t i = 0; i < all.size();) {
    plan_type plan(all[i]);
    index_t blocks = 0;
    const std::size_t begin = i;
    for (; i < all.size() && plan.count < plan.most; ++i) {
      const ops::adamw<E, W>& u = all[i];
      const index_t n = u.weight.size[0], some = (n + plan.block - 1) / plan.block;
      if (!kernels::adamw_together(all[begin], u)) break;
      if (i > begin && blocks + some > 0x7fffffff) break;
      if (n == 0) continue;
      plan.arrays[plan.count++] = {u.weight.data, u.master.data,      u.m.data,
                                   u.v.data,      u.grad.data,        n,
                                   blocks,        R(u.learning_rate), R(u.weight_decay)};
      blocks += some;
    }
    if (blocks == 0) continue;
    kernels::adamw_kernel<E, W>
        <<<kernels::blocks_for(blocks, 1), kernels::block_threads, 0, ctx.stream>>>(plan);
    kernels::launched(op.name);
  }
}

template <class E, class W>
void execute(context<cuda>& ctx, const ops::adamw<E, W>& op) {
  execute(ctx, ops::series<ops::adamw<E, W>>{std::span(&op, 1)});
}

}  // namespace mlmamba::backend
