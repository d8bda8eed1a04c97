// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Norms as op cases.
#pragma once

#include <type_traits>

#include "mlmamba/ops/elementwise.hpp"
#include "mlmamba/ops/norm.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct norm_options {
  index_t rows = 3, width = 5;
  bool weight = true, bias = true;  // RMSNorm has no bias
  bool gate = true, norm_before_gate = false;
  index_t group_size = 0;
  bool accumulate = false;            ///< the row is also the residual: its gradient is added to
  bool strided = false;               ///< rows are slices of wider ones, at an odd offset
  bool plus = false, scaled = false;  ///< the row is a sum with a branch, which may be scaled
  float epsilon = 0.01f;
};

namespace detail {
template <engine E>
using vector_of = tensor<typename E::accum, 1, typename E::memory>;
template <engine E>
vector_of<E> vector_if(bool given, index_t n) {
  return given ? vector_of<E>({n}) : vector_of<E>();
}
inline constexpr index_t margin = 3;  // columns that a strided view leaves out
template <class Tensor>
auto part(Tensor& t, index_t width) {
  return t.view().slice(1, t.size(1) == width ? 0 : 1, width);
}
/// Zero outside the part, so that an op that writes there is caught.
template <class Tensor>
void clear(Tensor& t) {
  allocator<typename Tensor::memory>::fill(t.data(), 0, t.bytes());
}
}  // namespace detail

/// rms_norm (Kind 0) or layer_norm (Kind 1); `wide`: x in accum, y in value.
template <engine E, int Kind, bool wide>
struct row_norm_case {
  using engine_type = E;
  using X = std::conditional_t<wide, typename E::accum, typename E::value>;
  using backward_op =
      std::conditional_t<Kind == 0, ops::rms_norm_backward<E, X>, ops::layer_norm_backward<E, X>>;
  norm_options o;
  tensor<X, 2, typename E::memory> x, dx, residual, dresidual, sum, dsum;
  tensor_of<E, 2> y, dy, branch, dbranch;
  detail::vector_of<E> weight, dweight, bias, dbias, mean, rstd, gamma, dgamma;

  explicit row_norm_case(norm_options o)
      : o(o),
        x({o.rows, o.width + (o.strided ? detail::margin : 0)}),
        dx(x.shape()),
        y(x.shape()),
        dy(x.shape()),
        weight(detail::vector_if<E>(o.weight, o.width)),
        dweight(detail::vector_if<E>(o.weight, o.width)),
        bias(detail::vector_if<E>(o.bias && Kind == 1, o.width)),
        dbias(detail::vector_if<E>(o.bias && Kind == 1, o.width)),
        mean({o.rows}),
        rstd({o.rows}) {
    if (o.accumulate) residual = decltype(x)(x.shape()), dresidual = decltype(x)(x.shape());
    if (!o.plus) return;
    sum = dsum = x, branch = dbranch = y;
    gamma = dgamma = detail::vector_if<E>(o.scaled, o.width);
  }
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.dx);
    f("weight", s.weight, s.dweight);
    f("bias", s.bias, s.dbias);
    f("branch", s.branch, s.dbranch);
    f("gamma", s.gamma, s.dgamma);
  }
  static void outputs(auto& s, auto&& f) {
    f("y", s.y, s.dy);
    f("residual", s.residual, s.dresidual);
    f("sum", s.sum, s.dsum);
  }
  void forward(context_of<E>& ctx) {
    if (o.strided) detail::clear(y);  // the margins
    if (o.strided && o.plus) detail::clear(sum);
    ops::residual_sum<E, X> plus;
    if (o.plus) plus = {.branch = part(branch), .gamma = gamma, .sum = part(sum)};
    if constexpr (Kind == 0) {
      run(ctx, ops::rms_norm<E, X>{.x = part(x),
                                   .weight = weight,
                                   .y = part(y),
                                   .rstd = rstd,
                                   .epsilon = o.epsilon,
                                   .plus = plus});
    } else {
      run(ctx, ops::layer_norm<E, X>{.x = part(x),
                                     .weight = weight,
                                     .bias = bias,
                                     .y = part(y),
                                     .mean = mean,
                                     .rstd = rstd,
                                     .epsilon = o.epsilon,
                                     .plus = plus});
    }
    if (o.accumulate) allocator<typename E::memory>::copy(residual.data(), x.data(), x.bytes());
  }
  void backward(context_of<E>& ctx) {
    if (o.accumulate) allocator<typename E::memory>::copy(dx.data(), dresidual.data(), x.bytes());
    if (o.plus) {
      detail::clear(dx);
      run(ctx, ops::copy<typename E::backend, X, X, 2>{.x = part(dsum), .y = part(dx)});
    }
    auto& normed = o.plus ? sum : x;
    if constexpr (Kind == 0) {
      run(ctx, backward_op{.x = part(normed),
                           .weight = weight,
                           .rstd = rstd,
                           .dy = part(dy),
                           .dx = part(dx),
                           .dweight = dweight,
                           .accumulate = o.accumulate || o.plus});
    } else {
      run(ctx, backward_op{.x = part(normed),
                           .weight = weight,
                           .mean = mean,
                           .rstd = rstd,
                           .dy = part(dy),
                           .dx = part(dx),
                           .dweight = dweight,
                           .dbias = dbias,
                           .accumulate = o.accumulate || o.plus});
    }
    if (o.plus) branch_backward(ctx);
  }
  /// dx is the gradient of the sum.
  void branch_backward(context_of<E>& ctx) {
    using V = typename E::value;
    run(ctx, ops::copy<typename E::backend, V, X, 2>{.x = part(dx), .y = part(dbranch)});
    if (o.scaled)
      run(ctx, ops::channel_scale_backward<E>{.x = part(branch),
                                              .gamma = gamma,
                                              .dy = part(dbranch),
                                              .dx = part(dbranch),
                                              .dgamma = dgamma});
  }
  double terms() const { return double(std::max(o.rows, o.width)); }
  auto part(auto& t) { return detail::part(t, o.width); }
};

template <engine E>
struct rms_norm_case : row_norm_case<E, 0, false> {
  using row_norm_case<E, 0, false>::row_norm_case;
};
template <engine E>
struct wide_rms_norm_case : row_norm_case<E, 0, true> {
  using row_norm_case<E, 0, true>::row_norm_case;
};
template <engine E>
struct layer_norm_case : row_norm_case<E, 1, false> {
  using row_norm_case<E, 1, false>::row_norm_case;
};
template <engine E>
struct wide_layer_norm_case : row_norm_case<E, 1, true> {
  using row_norm_case<E, 1, true>::row_norm_case;
};

template <engine E>
struct gated_norm_case {
  using engine_type = E;
  using backward_op = ops::gated_rms_norm_backward<E>;
  norm_options o;
  tensor_of<E, 2> x, dx, z, dz, y, dy;
  detail::vector_of<E> weight, dweight;
  tensor<typename E::accum, 2, typename E::memory> rstd;

  explicit gated_norm_case(norm_options o)
      : o(o),
        x({o.rows, o.width + (o.strided ? detail::margin : 0)}),
        dx(x.shape()),
        y(x.shape()),
        dy(x.shape()),
        weight(detail::vector_if<E>(o.weight, o.width)),
        dweight(detail::vector_if<E>(o.weight, o.width)),
        rstd({o.rows, o.group_size ? o.width / o.group_size : 1}) {
    if (o.gate) z = tensor_of<E, 2>(x.shape()), dz = tensor_of<E, 2>(x.shape());
  }
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.dx);
    f("z", s.z, s.dz);
    f("weight", s.weight, s.dweight);
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    if (o.strided) detail::clear(y);  // the margins
    run(ctx, ops::gated_rms_norm<E>{.x = part(x),
                                    .z = part_if(z),
                                    .weight = weight,
                                    .y = part(y),
                                    .rstd = rstd,
                                    .group_size = o.group_size,
                                    .norm_before_gate = o.norm_before_gate,
                                    .epsilon = o.epsilon});
  }
  void backward(context_of<E>& ctx) {
    run(ctx, backward_op{.x = part(x),
                         .z = part_if(z),
                         .weight = weight,
                         .rstd = rstd,
                         .dy = part(dy),
                         .dx = part(dx),
                         .dz = part_if(dz),
                         .dweight = dweight,
                         .group_size = o.group_size,
                         .norm_before_gate = o.norm_before_gate});
  }
  double terms() const { return double(std::max(o.rows, o.width)); }
  auto part(auto& t) { return detail::part(t, o.width); }
  auto part_if(auto& t) { return t ? part(t) : t.view(); }
};

}  // namespace mlmamba::verify
