// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The rest of a layer: what remains if its scan costs nothing.
#pragma once

#include "mlmamba/backend/cpu/causal_conv1d.hpp"
#include "mlmamba/backend/cpu/gemm.hpp"
#include "mlmamba/backend/cpu/norm.hpp"
#include "mlmamba/core/tensor.hpp"
#include "scan_lab/problem.hpp"

namespace lab {

/// The ops of a Mamba layer (d_model = half of the scanned channels) but the scan: projections, the
/// convolution of four taps, and of Mamba-2 the gated norm; of Mamba-1 the maps to the step instead
/// (the gate is part of its scan). Forward.
template <class E>
class rest_of_layer {
 public:
  rest_of_layer(const sizes& s, bool mamba1)
      : mamba1_(mamba1),
        tokens_(s.batch * s.length),
        inner_(s.heads * s.channels),
        shared_(2 * s.groups * s.states),
        model_(std::max<index_t>(1, inner_ / 2)),
        rank_((model_ + 15) / 16),
        conved_(mamba1 ? inner_ : inner_ + shared_),
        projected_(mamba1 ? 2 * inner_ : 2 * inner_ + shared_ + s.heads),
        u_({tokens_, model_}),
        p_({tokens_, projected_}),
        c_({s.batch, s.length, conved_}),
        y_({tokens_, inner_}),
        in_({projected_, model_}),
        out_({model_, inner_}),
        taps_({conved_, 4}),
        bias_({conved_}),
        norm_({inner_}) {
    if (mamba1) {
      low_ = tensor_of<E, 2>({tokens_, rank_ + shared_});
      to_low_ = tensor_of<E, 2>({rank_ + shared_, inner_});
      to_dt_ = tensor_of<E, 2>({inner_, rank_});
    }
    const auto ones = [](auto& t) {  // some of 1/8: nothing grows, nothing is denormal
      using T = typename std::remove_cvref_t<decltype(t)>::value_type;
      for (index_t i = 0; i < t.count(); ++i) t.data()[i] = T(i % 7 == 0 ? 0.125f : 0.0f);
    };
    ones(u_), ones(in_), ones(out_), ones(taps_), ones(bias_), ones(norm_), ones(y_), ones(to_low_),
        ones(to_dt_);
  }
  void operator()(context_of<E>& ctx) {
    gemm(ctx, u_.view(), in_.view(), p_.view());
    const index_t L = c_.shape().n[1];
    const auto x = p_.view().slice(1, mamba1_ ? 0 : inner_, conved_);
    in<E, 3> rows;
    rows.data = x.data;
    rows.size[0] = tokens_ / L, rows.size[1] = L, rows.size[2] = conved_;
    rows.stride[0] = L * x.stride[0], rows.stride[1] = x.stride[0], rows.stride[2] = 1;
    run(ctx, ops::causal_conv1d<E>{.x = rows, .weight = taps_, .bias = bias_, .y = c_});
    if (mamba1_) {
      gemm(ctx, c_.view().reshape(shape<2>{{tokens_, conved_}}), to_low_.view(), low_.view());
      gemm(ctx, low_.view().slice(1, 0, rank_), to_dt_.view(), y_.view());
    } else {
      run(ctx, ops::gated_rms_norm<E>{
                   .x = y_, .z = p_.view().slice(1, 0, inner_), .weight = norm_, .y = y_});
    }
    gemm(ctx, y_.view(), out_.view(), u_.view());
  }

 private:
  void gemm(context_of<E>& ctx, in<E, 2> x, in<E, 2> w, out<E, 2> y) {
    run(ctx, ops::gemm<E>{.x = x, .w = w, .y = y});
  }

  bool mamba1_;
  index_t tokens_, inner_, shared_, model_, rank_, conved_, projected_;
  tensor_of<E, 2> u_, p_;
  tensor_of<E, 3> c_;
  tensor_of<E, 2> y_, in_, out_, low_, to_low_, to_dt_;
  tensor<typename E::accum, 2> taps_;
  tensor<typename E::accum, 1> bias_, norm_;
};

}  // namespace lab
