// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Norms, plainly.
#pragma once

#include <vector>

#include "mlmamba/ops/norm.hpp"

namespace mlmamba::backend {

namespace detail {
/// The norm of plus.sum, which it makes.
template <class Op>
Op after_sum(Op op) {
  using X = typename decltype(op.plus.sum)::value_type;
  using A = std::remove_cvref_t<decltype(op.weight(0))>;
  const auto& plus = op.plus;
  for (index_t t = 0; t < op.x.size[0]; ++t) {
    A factor = 1;
    if (plus.squares) {
      A sum = 0;
      for (index_t k = 0; k < plus.squares.size[1]; ++k) sum += plus.squares(t, k);
      factor = A(1) / math::sqrt(sum / A(plus.squares_of) + A(plus.squares_epsilon));
    }
    for (index_t d = 0; d < op.x.size[1]; ++d) {
      const A gamma = plus.gamma ? plus.gamma(d) * factor : factor;
      plus.sum(t, d) = X(A(op.x(t, d)) + A(plus.branch(t, d)) * gamma);
    }
  }
  op.x = op.plus.sum, op.plus = {};
  return op;
}
}  // namespace detail

template <class E, class X>
void execute(context<reference>& ctx, const ops::rms_norm<E, X>& op) {
  if (op.plus) return execute(ctx, detail::after_sum(op));
  using A = typename E::accum;
  const index_t D = op.x.size[1];
  for (index_t t = 0; t < op.x.size[0]; ++t) {
    A sum = 0;
    for (index_t d = 0; d < D; ++d) sum += A(op.x(t, d)) * A(op.x(t, d));
    const A r = A(1) / math::sqrt(sum / A(real_t<A>(D)) + A(op.epsilon));
    if (op.rstd) op.rstd(t) = r;
    for (index_t d = 0; d < D; ++d)
      op.y(t, d) = typename E::value(A(op.x(t, d)) * r * (op.weight ? op.weight(d) : A(1)));
  }
}

template <class E, class X>
void execute(context<reference>&, const ops::rms_norm_backward<E, X>& op) {
  using A = typename E::accum;
  const index_t D = op.x.size[1];
  for (index_t t = 0; t < op.x.size[0]; ++t) {
    const A r = op.rstd(t);
    A mean = 0;
    for (index_t d = 0; d < D; ++d)
      mean += A(op.dy(t, d)) * (op.weight ? op.weight(d) : A(1)) * A(op.x(t, d)) * r;
    mean /= A(real_t<A>(D));
    for (index_t d = 0; d < D; ++d) {
      const A xhat = A(op.x(t, d)) * r, dy = A(op.dy(t, d));
      if (op.dweight) op.dweight(d) += dy * xhat;
      const A dx = (dy * (op.weight ? op.weight(d) : A(1)) - xhat * mean) * r;
      op.dx(t, d) = X(op.accumulate ? A(op.dx(t, d)) + dx : dx);
    }
  }
}

template <class E, class X>
void execute(context<reference>& ctx, const ops::layer_norm<E, X>& op) {
  if (op.plus) return execute(ctx, detail::after_sum(op));
  using A = typename E::accum;
  const index_t D = op.x.size[1];
  for (index_t t = 0; t < op.x.size[0]; ++t) {
    A mean = 0, square = 0;
    for (index_t d = 0; d < D; ++d) mean += A(op.x(t, d));
    mean /= A(real_t<A>(D));
    for (index_t d = 0; d < D; ++d) {
      const A c = A(op.x(t, d)) - mean;
      square += c * c;
    }
    const A r = A(1) / math::sqrt(square / A(real_t<A>(D)) + A(op.epsilon));
    if (op.rstd) op.mean(t) = mean, op.rstd(t) = r;
    for (index_t d = 0; d < D; ++d)
      op.y(t, d) =
          typename E::value((A(op.x(t, d)) - mean) * r * (op.weight ? op.weight(d) : A(1)) +
                            (op.bias ? op.bias(d) : A(0)));
  }
}

template <class E, class X>
void execute(context<reference>&, const ops::layer_norm_backward<E, X>& op) {
  using A = typename E::accum;
  const index_t D = op.x.size[1];
  const A n = A(real_t<A>(D));
  for (index_t t = 0; t < op.x.size[0]; ++t) {
    const A r = op.rstd(t);
    A mean_g = 0, mean_gx = 0;
    for (index_t d = 0; d < D; ++d) {
      const A g = A(op.dy(t, d)) * (op.weight ? op.weight(d) : A(1));
      mean_g += g;
      mean_gx += g * (A(op.x(t, d)) - op.mean(t)) * r;
    }
    mean_g /= n, mean_gx /= n;
    for (index_t d = 0; d < D; ++d) {
      const A xhat = (A(op.x(t, d)) - op.mean(t)) * r, dy = A(op.dy(t, d));
      if (op.dweight) op.dweight(d) += dy * xhat;
      if (op.dbias) op.dbias(d) += dy;
      const A dx = (dy * (op.weight ? op.weight(d) : A(1)) - mean_g - xhat * mean_gx) * r;
      op.dx(t, d) = X(op.accumulate ? A(op.dx(t, d)) + dx : dx);
    }
  }
}

template <class E>
void execute(context<reference>&, const ops::gated_rms_norm<E>& op) {
  using A = typename E::accum;
  const index_t D = op.x.size[1], S = op.group();
  auto gate = [&](index_t t, index_t d) {
    return apply_activation(activation::silu, A(op.z(t, d)));
  };
  for (index_t t = 0; t < op.x.size[0]; ++t) {
    for (index_t from = 0; from < D; from += S) {
      auto u = [&](index_t d) {
        const A x = A(op.x(t, d));
        return op.z && !op.norm_before_gate ? x * gate(t, d) : x;
      };
      A sum = 0;
      for (index_t d = from; d < from + S; ++d) sum += u(d) * u(d);
      const A r = A(1) / math::sqrt(sum / A(real_t<A>(S)) + A(op.epsilon));
      if (op.rstd) op.rstd(t, from / S) = r;
      for (index_t d = from; d < from + S; ++d) {
        A y = u(d) * r * (op.weight ? op.weight(d) : A(1));
        if (op.z && op.norm_before_gate) y *= gate(t, d);
        op.y(t, d) = typename E::value(y);
      }
    }
  }
}

template <class E>
void execute(context<reference>&, const ops::gated_rms_norm_backward<E>& op) {
  using A = typename E::accum;
  using V = typename E::value;
  const index_t D = op.x.size[1], S = op.group();
  for (index_t t = 0; t < op.x.size[0]; ++t) {
    for (index_t from = 0; from < D; from += S) {
      const A r = op.rstd(t, from / S);
      auto gate = [&](index_t d) {
        return op.z ? apply_activation(activation::silu, A(op.z(t, d))) : A(1);
      };
      auto uhat = [&](index_t d) {
        return A(op.x(t, d)) * (op.norm_before_gate ? A(1) : gate(d)) * r;
      };
      auto g = [&](index_t d) {
        return A(op.dy(t, d)) * (op.weight ? op.weight(d) : A(1)) *
               (op.norm_before_gate ? gate(d) : A(1));
      };
      A mean = 0;
      for (index_t d = from; d < from + S; ++d) mean += g(d) * uhat(d);
      mean /= A(real_t<A>(S));
      for (index_t d = from; d < from + S; ++d) {
        const A dt = (g(d) - uhat(d) * mean) * r, w = op.weight ? op.weight(d) : A(1);
        const A slope = op.z ? activation_derivative(activation::silu, A(op.z(t, d))) : A(0);
        const A x = A(op.x(t, d)), dy = A(op.dy(t, d));
        if (op.dweight) op.dweight(d) += dy * uhat(d) * (op.norm_before_gate ? gate(d) : A(1));
        if (op.z) op.dz(t, d) = V(op.norm_before_gate ? dy * uhat(d) * w * slope : dt * x * slope);
        op.dx(t, d) = V(op.norm_before_gate ? dt : dt * gate(d));
      }
    }
  }
}

}  // namespace mlmamba::backend
