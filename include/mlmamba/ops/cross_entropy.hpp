// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Cross-entropy of logits against labels.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// Cross-entropy of each row of logits.
///
///   loss[t] = log(sum_v exp(logits[t,v])) - logits[t,label[t]];  0 where label[t] = ignore_index
///
/// Shapes    logits (T, V); label, loss (T)
/// Layout    logits: unit stride over v
/// Numerics  accum, the largest logit subtracted first
/// Errors    shape_error if a label is neither ignore_index nor in [0, V) (host backends)
template <engine E>
struct cross_entropy {
  static constexpr const char* name = "cross_entropy";
  in<E, 2> logits{};
  in_index<E, 1> label{};
  out_accum<E, 1> loss{};
  std::int32_t ignore_index = -100;

  void check() const {
    check::given(name, "logits", logits);
    check::size(name, "label", label, shape<1>{{logits.size[0]}});
    check::size(name, "loss", loss, shape<1>{{logits.size[0]}});
    check::unit_stride(name, "logits", logits);
    check::unit_stride(name, "label", label);
    check::unit_stride(name, "loss", loss);
  }
  double flops() const { return 4.0 * double(logits.count()); }
  double bytes() const { return check::total_bytes(logits, label, loss); }
};

/// dlogits[t,v] = dloss[t] (softmax_v(logits[t]) - [v = label[t]]);  0 where ignored.
///
/// Layout    dlogits may be logits. dloss (T), or empty: `scale` for all
template <engine E>
struct cross_entropy_backward {
  static constexpr const char* name = "cross_entropy_backward";
  in<E, 2> logits{};
  in_index<E, 1> label{};
  in_accum<E, 1> dloss{};
  out<E, 2> dlogits{};
  typename E::real scale = 1;
  std::int32_t ignore_index = -100;

  void check() const {
    check::given(name, "logits", logits);
    check::size(name, "label", label, shape<1>{{logits.size[0]}});
    check::size_if_given(name, "dloss", dloss, shape<1>{{logits.size[0]}});
    check::size(name, "dlogits", dlogits, logits.shape());
    check::unit_stride(name, "logits", logits);
    check::unit_stride(name, "label", label);
    check::unit_stride(name, "dloss", dloss);
    check::unit_stride(name, "dlogits", dlogits);
  }
  double flops() const { return 5.0 * double(logits.count()); }
  double bytes() const { return check::total_bytes(logits, label, dloss, dlogits); }
};

}  // namespace mlmamba::ops
