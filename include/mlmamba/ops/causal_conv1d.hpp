// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Causal depthwise convolution over time, with the state that decoding needs.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// Causal depthwise convolution: each channel sees its own last W values.
///
///   ext    = (initial_states, x) along time, so x[t] = ext[t + W - 1]
///   v[b,t,d] = bias[d] + sum_w weight[d,w] ext[b,t+w,d]      weight[d,W-1] meets the current token
///   y[b,t,d] = activation(v[b,t,d])
///   final_states = the last W - 1 values of ext
///
/// With seq_idx, the tap at time s counts for time t only if seq_idx[b,s] = seq_idx[b,t] (and the
/// initial states belong to the sequence of token 0); a token with seq_idx < 0 is padding: y = 0.
///
/// Shapes    x, y (B, L, D); weight (D, W), 2 <= W <= 8; bias (D);
///           initial_states, final_states (B, D, W - 1); seq_idx (B, L)
/// Layout    x, y: unit stride over d. The states may have any strides: (B, W-1, D) is best
/// Numerics  v in accum, starting at the bias, w ascending; the states are copies, exact.
///           Where y is bf16, SiLU and its derivative may be computed to 2^-13, then rounded
/// Empty     bias: 0. initial_states: zeros. final_states: not wanted. seq_idx: one sequence
/// Aliases   final_states may be initial_states: a state is continued in place
/// Errors    shape_error; activation other than none and silu
/// Source    Dao-AILab/causal-conv1d; Gu and Dao 2023, arXiv:2312.00752, section 3.4
template <engine E>
struct causal_conv1d {
  static constexpr const char* name = "causal_conv1d";
  in<E, 3> x{};
  in_accum<E, 2> weight{};
  in_accum<E, 1> bias{};
  in<E, 3> initial_states{};
  in_index<E, 2> seq_idx{};
  out<E, 3> y{};
  out<E, 3> final_states{};
  mlmamba::activation activation = mlmamba::activation::silu;

  void check() const {
    check::given(name, "x", x);
    check_weight(name, weight, x.size[2]);
    const index_t w = weight.size[1];
    check::size_if_given(name, "bias", bias, shape<1>{{x.size[2]}});
    check::size_if_given(name, "initial_states", initial_states,
                         shape<3>{{x.size[0], x.size[2], w - 1}});
    check::size_if_given(name, "seq_idx", seq_idx, shape<2>{{x.size[0], x.size[1]}});
    check::size(name, "y", y, x.shape());
    check::size_if_given(name, "final_states", final_states,
                         shape<3>{{x.size[0], x.size[2], w - 1}});
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "y", y);
    check_activation(name, activation);
  }
  double flops() const {
    return (2.0 * double(weight.size[1]) + (activation == mlmamba::activation::none ? 0 : 8)) *
           double(x.count());
  }
  double bytes() const {
    return check::total_bytes(x, weight, bias, initial_states, seq_idx, y, final_states);
  }

  static void check_weight(const char* op, const in_accum<E, 2>& weight, index_t channels) {
    check::size(op, "weight", weight, shape<2>{{channels, check::any}});
    check::that(weight.size[1] >= 2 && weight.size[1] <= 8, op,
                "the width is " + std::to_string(weight.size[1]) + "; wanted is 2 to 8");
  }
  static void check_activation(const char* op, mlmamba::activation a) {
    check::that(a == mlmamba::activation::none || a == mlmamba::activation::silu, op,
                std::string("the activation is ") + to_string(a) + "; wanted is none or silu");
  }
};

/// Backward of causal_conv1d. With g[t] = dy[t] activation'(v[t]), and 0 at padding:
///
///   dx[b,t,d]      = sum_w weight[d,w] g[b, t + W-1 - w, d] + dfinal_states if t is in them
///   dweight[d,w]  += sum_{b,t} g[b,t,d] ext[b,t+w,d]
///   dbias[d]      += sum_{b,t} g[b,t,d]
///   dinitial_states: the same as dx, at the times before 0
///
/// v is recomputed. With seq_idx only pairs of equal index count, as forward.
/// Numerics  accum; sums over (b, t) with b outside, ascending
template <engine E>
struct causal_conv1d_backward {
  static constexpr const char* name = "causal_conv1d_backward";
  in<E, 3> x{};
  in_accum<E, 2> weight{};
  in_accum<E, 1> bias{};
  in<E, 3> initial_states{};
  in_index<E, 2> seq_idx{};
  in<E, 3> dy{};
  in<E, 3> dfinal_states{};  // (B, D, W-1) or empty: zero
  out<E, 3> dx{};
  out_accum<E, 2> dweight{};  // each of these may be empty
  out_accum<E, 1> dbias{};
  out<E, 3> dinitial_states{};
  mlmamba::activation activation = mlmamba::activation::silu;

  void check() const {
    check::given(name, "x", x);
    causal_conv1d<E>::check_weight(name, weight, x.size[2]);
    const shape<3> state{{x.size[0], x.size[2], weight.size[1] - 1}};
    check::size_if_given(name, "bias", bias, shape<1>{{x.size[2]}});
    check::size_if_given(name, "initial_states", initial_states, state);
    check::size_if_given(name, "seq_idx", seq_idx, shape<2>{{x.size[0], x.size[1]}});
    check::size(name, "dy", dy, x.shape());
    check::size_if_given(name, "dfinal_states", dfinal_states, state);
    check::size(name, "dx", dx, x.shape());
    check::size_if_given(name, "dweight", dweight, weight.shape());
    check::size_if_given(name, "dbias", dbias, shape<1>{{x.size[2]}});
    check::size_if_given(name, "dinitial_states", dinitial_states, state);
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dx", dx);
    causal_conv1d<E>::check_activation(name, activation);
  }
  double flops() const { return (6.0 * double(weight.size[1]) + 12.0) * double(x.count()); }
  double bytes() const {
    return check::total_bytes(x, weight, bias, initial_states, seq_idx, dy, dfinal_states, dx,
                              dweight, dbias, dinitial_states);
  }
};

/// One token of causal_conv1d: the state is the window of the last W - 1 inputs, oldest first.
///
///   y[b,d] = activation(bias[d] + sum_{w < W-1} weight[d,w] state[b,d,w] + weight[d,W-1] x[b,d])
///   state  = (state, x) without its oldest value
///
/// Shapes    x, y (B, D); state (B, D, W - 1), updated in place
/// Numerics  the same sums in the same order as causal_conv1d: equal bits
template <engine E>
struct causal_conv1d_step {
  static constexpr const char* name = "causal_conv1d_step";
  in<E, 2> x{};
  out<E, 3> state{};
  in_accum<E, 2> weight{};
  in_accum<E, 1> bias{};
  out<E, 2> y{};
  mlmamba::activation activation = mlmamba::activation::silu;

  void check() const {
    check::given(name, "x", x);
    causal_conv1d<E>::check_weight(name, weight, x.size[1]);
    check::size(name, "state", state, shape<3>{{x.size[0], x.size[1], weight.size[1] - 1}});
    check::size_if_given(name, "bias", bias, shape<1>{{x.size[1]}});
    check::size(name, "y", y, x.shape());
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "y", y);
    causal_conv1d<E>::check_activation(name, activation);
  }
  double flops() const { return (2.0 * double(weight.size[1]) + 8.0) * double(x.count()); }
  double bytes() const { return check::total_bytes(x, state, state, weight, bias, y); }
};

}  // namespace mlmamba::ops
