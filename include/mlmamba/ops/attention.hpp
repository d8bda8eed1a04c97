// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Softmax attention, as the vision towers need it.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// Softmax attention of each head.
///
///   s[b,h,i,j] = scale q[b,i,h,:] . k[b,j,h,:]
///   y[b,i,h,:] = sum_j softmax_j(s[b,h,i,j]) v[b,j,h,:]
///
/// causal: key j counts for query i only if j <= i + (S - T), so that the last query sees all keys.
///
/// Shapes    q, y (B, T, H, d); k, v (B, S, H, d); log_sum_exp (B, H, T), kept for the backward
/// Layout    unit stride over the last axis: slices of one fused qkv projection are fine
/// Numerics  scores, the maximum that is subtracted, exponentials and sums in accum; on a GPU bf16
///           or f16 values are weighed by exponentials rounded likewise, and bf16 values on
///           processors with AMX where keys are many (32 or more, 2048 with d). What is not finite
///           in v reaches all queries of its head, those that don't see it too: its weight is zero
/// Empty     log_sum_exp: not wanted. S = 0, or a query that sees no key: y = 0
/// Source    Vaswani et al. 2017, arXiv:1706.03762, eq. 1
template <engine E>
struct attention {
  static constexpr const char* name = "attention";
  in<E, 4> q{}, k{}, v{};
  out<E, 4> y{};
  out_accum<E, 3> log_sum_exp{};
  typename E::real scale = 1;
  bool causal = false;

  void check() const {
    check::given(name, "q", q);
    check::size(name, "k", k, shape<4>{{q.size[0], check::any, q.size[2], q.size[3]}});
    check::size(name, "v", v, k.shape());
    check::size(name, "y", y, q.shape());
    check::size_if_given(name, "log_sum_exp", log_sum_exp,
                         shape<3>{{q.size[0], q.size[2], q.size[1]}});
    check::unit_stride(name, "q", q);
    check::unit_stride(name, "k", k);
    check::unit_stride(name, "v", v);
    check::unit_stride(name, "y", y);
  }
  double flops() const {
    return 4.0 * double(q.count()) * double(k.size[1]) * (causal ? 0.5 : 1.0);
  }
  double bytes() const { return check::total_bytes(q, k, v, y, log_sum_exp); }
};

/// Backward of attention. With p[i,j] = exp(s[i,j] - log_sum_exp[i]) and delta[i] = dy[i] . y[i]:
///
///   dv[j] = sum_i p[i,j] dy[i];   ds[i,j] = p[i,j] (dy[i] . v[j] - delta[i])
///   dq[i] = scale sum_j ds[i,j] k[j];   dk[j] = scale sum_i ds[i,j] q[i]
///
/// Numerics  p, ds and sums in accum; on a GPU p and ds of bf16 or f16 values are rounded likewise
///           before they weigh rows (f16: ds beyond 65504 are infinite). Each sum in one order
template <engine E>
struct attention_backward {
  static constexpr const char* name = "attention_backward";
  in<E, 4> q{}, k{}, v{}, y{};
  in_accum<E, 3> log_sum_exp{};
  in<E, 4> dy{};
  out<E, 4> dq{}, dk{}, dv{};
  typename E::real scale = 1;
  bool causal = false;

  void check() const {
    check::given(name, "q", q);
    check::size(name, "k", k, shape<4>{{q.size[0], check::any, q.size[2], q.size[3]}});
    check::size(name, "v", v, k.shape());
    check::size(name, "y", y, q.shape());
    check::size(name, "log_sum_exp", log_sum_exp, shape<3>{{q.size[0], q.size[2], q.size[1]}});
    check::size(name, "dy", dy, q.shape());
    check::size(name, "dq", dq, q.shape());
    check::size(name, "dk", dk, k.shape());
    check::size(name, "dv", dv, k.shape());
    check::unit_stride(name, "q", q);
    check::unit_stride(name, "k", k);
    check::unit_stride(name, "v", v);
    check::unit_stride(name, "y", y);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dq", dq);
    check::unit_stride(name, "dk", dk);
    check::unit_stride(name, "dv", dv);
  }
  double flops() const {
    return 10.0 * double(q.count()) * double(k.size[1]) * (causal ? 0.5 : 1.0);
  }
  double bytes() const { return check::total_bytes(q, k, v, y, log_sum_exp, dy, dq, dk, dv); }
};

}  // namespace mlmamba::ops
