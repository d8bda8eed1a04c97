// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Elementwise ops on the CPU: runs of elements per task; sums over rows by columns.
#pragma once

#include <cstring>
#include <type_traits>

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/elementwise.hpp"

namespace mlmamba::backend {

namespace detail {

// What a task does at least, in elements: some tens of microseconds.
inline constexpr index_t run_of_activations = 8192;
inline constexpr index_t run_of_sums = 32768;
inline constexpr index_t columns_per_task = 256;

template <class T>
T* row_of(const view<T, 2>& v, index_t t) {
  return v.data ? v.data + t * v.stride[0] : nullptr;
}

/// f(n, pointers...) over all elements of (T, D) arrays with unit stride over D: in one run if the
/// arrays are contiguous, else row by row.
template <class F, class First, class... T>
void for_each_row_run(context<cpu>& ctx, index_t smallest, const F& f, const view<First, 2>& first,
                      const view<T, 2>&... rest) {
  const index_t rows = first.size[0], d = first.size[1];
  if (first.contiguous() && (rest.contiguous() && ...)) {
    for_each_run(ctx, rows * d, smallest, [&](index_t from, index_t to) {
      f(to - from, first.data + from, (rest.data + from)...);
    });
  } else {
    const index_t each = std::max<index_t>(1, smallest / std::max<index_t>(d, 1));
    for_each_run(ctx, rows, each, [&](index_t from, index_t to) {
      for (index_t t = from; t < to; ++t) f(d, row_of(first, t), row_of(rest, t)...);
    });
  }
}

/// x and y of a copy without axes of one element, and with axes merged where both allow it; the
/// last axis is the one whose elements lie next to each other in y.
template <class To, class From, int R>
struct copy_plan {
  index_t size[R], x[R], y[R];
  int axes = 0;

  copy_plan(const view<const From, R>& from, const view<To, R>& to) {
    index_t order[R];
    for (int i = 0; i < R; ++i)
      if (from.size[i] != 1) order[axes++] = i;
    std::stable_sort(order, order + axes,
                     [&](index_t a, index_t b) { return to.stride[a] > to.stride[b]; });
    int n = 0;
    for (int i = 0; i < axes; ++i) {
      const index_t a = order[i], s = from.size[a];
      if (n > 0 && x[n - 1] == from.stride[a] * s && y[n - 1] == to.stride[a] * s) {
        size[n - 1] *= s;
        x[n - 1] = from.stride[a];
        y[n - 1] = to.stride[a];
      } else {
        size[n] = s;
        x[n] = from.stride[a];
        y[n++] = to.stride[a];
      }
    }
    if (n == 0) size[0] = 1, x[0] = 1, y[0] = 1, n = 1;
    axes = n;
  }
};

/// n elements at strides.
template <class To, class From>
void copy_run(const From* x, index_t x_stride, To* y, index_t y_stride, index_t n) {
  if (x_stride == 1 && y_stride == 1) {
    if constexpr (std::is_same_v<To, From>) {
      std::memcpy(y, x, std::size_t(n) * sizeof(To));
      return;
    } else if constexpr (std::is_same_v<To, float> && std::is_same_v<From, bf16>) {
      return simd::cpu_kernels<simd::elementwise_entries<bf16>>().to_accum(x, y, n);
    } else if constexpr (std::is_same_v<To, bf16> && std::is_same_v<From, float>) {
      return simd::cpu_kernels<simd::elementwise_entries<bf16>>().from_accum(x, y, n);
    }
  }
  for (index_t i = 0; i < n; ++i) y[i * y_stride] = To(accum_t<From>(x[i * x_stride]));
}

}  // namespace detail

template <class Isa, class B, class To, class From, int R>
requires std::same_as<typename B::memory, memory::host>
void execute(context<cpu_for<Isa>>& ctx, const ops::copy<B, To, From, R>& op) {
  const index_t count = op.x.count();
  if (count == 0) return;
  const detail::copy_plan<To, From, R> plan(op.x, op.y);
  const int last = plan.axes - 1;
  const index_t inner = plan.size[last];
  detail::for_each_run(ctx, count, detail::run_of_sums, [&](index_t from, index_t to) {
    for (index_t at = from; at < to;) {
      const index_t offset = at % inner, n = std::min(inner - offset, to - at);
      index_t x = offset * plan.x[last], y = offset * plan.y[last], outer = at / inner;
      for (int a = last - 1; a >= 0; --a) {
        x += outer % plan.size[a] * plan.x[a];
        y += outer % plan.size[a] * plan.y[a];
        outer /= plan.size[a];
      }
      detail::copy_run(op.x.data + x, plan.x[last], op.y.data + y, plan.y[last], n);
      at += n;
    }
  });
}

template <class Isa, class E, class T, class U>
void execute(context<cpu_for<Isa>>& ctx, const ops::add<E, T, U>& op) {
  using A = typename E::accum;
  // Entries are named after the type that is not the accumulation type.
  using V = std::conditional_t<std::is_same_v<T, A>, U, T>;
  const auto& kernels = simd::cpu_kernels<simd::elementwise_entries<V>>();
  const A scale = A(op.scale);
  detail::for_each_row_run(
      ctx, detail::run_of_sums,
      [&](index_t n, const T* a, const U* b, T* y) {
        if constexpr (std::is_same_v<T, U>) {
          kernels.add(a, b, y, scale, n);
        } else if constexpr (std::is_same_v<T, A>) {
          kernels.accum_add(a, b, y, scale, n);
        } else {
          static_assert(std::is_same_v<U, A>, "add: one of the types is the accumulation type");
          kernels.add_accum(a, b, y, scale, n);
        }
      },
      op.a, op.b, op.y);
}

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::activate<E>& op) {
  using V = typename E::value;
  const auto kernel = simd::cpu_kernels<simd::elementwise_entries<V>>().activate;
  detail::for_each_row_run(
      ctx, detail::run_of_activations,
      [&](index_t n, const V* x, V* y) { kernel(op.activation, x, y, n); }, op.x, op.y);
}

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::activate_backward<E>& op) {
  using V = typename E::value;
  const auto kernel = simd::cpu_kernels<simd::elementwise_backward_entries<V>>().activate;
  detail::for_each_row_run(
      ctx, detail::run_of_activations,
      [&](index_t n, const V* x, const V* dy, V* dx) { kernel(op.activation, x, dy, dx, n); }, op.x,
      op.dy, op.dx);
}

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::gated<E>& op) {
  using V = typename E::value;
  const auto kernel = simd::cpu_kernels<simd::elementwise_entries<V>>().gated;
  detail::for_each_row_run(
      ctx, detail::run_of_activations,
      [&](index_t n, const V* gate, const V* up, V* y) { kernel(op.activation, gate, up, y, n); },
      op.gate, op.up, op.y);
}

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::gated_backward<E>& op) {
  using V = typename E::value;
  const auto kernel = simd::cpu_kernels<simd::elementwise_backward_entries<V>>().gated;
  detail::for_each_row_run(
      ctx, detail::run_of_activations,
      [&](index_t n, const V* gate, const V* up, const V* dy, V* dgate, V* dup) {
        kernel(op.activation, gate, up, dy, dgate, dup, n);
      },
      op.gate, op.up, op.dy, op.dgate, op.dup);
}

namespace detail {
/// channel_scale of rows to elements of type Y, value or accum.
template <class Y, class V>
auto channel_scale_kernel() {
  const auto& kernels = simd::cpu_kernels<simd::elementwise_entries<V>>();
  if constexpr (std::is_same_v<Y, V>) {
    return kernels.channel_scale;
  } else {
    return kernels.channel_scale_accum;
  }
}
}  // namespace detail

template <class Isa, class E, class Y>
void execute(context<cpu_for<Isa>>& ctx, const ops::channel_scale<E, Y>& op) {
  const auto kernel = detail::channel_scale_kernel<Y, typename E::value>();
  const index_t d = op.x.size[1];
  const index_t rows = std::max<index_t>(1, detail::run_of_sums / std::max<index_t>(d, 1));
  detail::for_each_run(ctx, op.x.size[0], rows, [&](index_t from, index_t to) {
    for (index_t t = from; t < to; ++t)
      kernel(detail::row_of(op.x, t), op.gamma.data, detail::row_of(op.residual, t),
             detail::row_of(op.y, t), d);
  });
}

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::channel_scale_backward<E>& op) {
  using V = typename E::value;
  const auto kernel = simd::cpu_kernels<simd::elementwise_backward_entries<V>>().channel_scale;
  // A task has columns, so that no sum over rows crosses tasks.
  detail::for_each_run(ctx, op.x.size[1], detail::columns_per_task, [&](index_t from, index_t to) {
    auto* dgamma = op.dgamma ? op.dgamma.data + from : nullptr;
    for (index_t t = 0; t < op.x.size[0]; ++t)
      kernel(detail::row_of(op.x, t) + from, op.gamma.data + from, detail::row_of(op.dy, t) + from,
             detail::row_of(op.dx, t) + from, dgamma, to - from);
  });
}

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::add_position<E>& op) {
  using V = typename E::value;
  const auto kernel = simd::cpu_kernels<simd::elementwise_entries<V>>().add_accum;
  const index_t length = op.x.size[1], d = op.x.size[2];
  const index_t rows = std::max<index_t>(1, detail::run_of_sums / std::max<index_t>(d, 1));
  detail::for_each_run(ctx, op.x.size[0] * length, rows, [&](index_t from, index_t to) {
    for (index_t i = from; i < to; ++i) {
      const index_t b = i / length, t = i % length;
      kernel(op.x.data + b * op.x.stride[0] + t * op.x.stride[1], op.p.data + t * op.p.stride[0],
             op.y.data + b * op.y.stride[0] + t * op.y.stride[1], 1, d);
    }
  });
}

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::add_position_backward<E>& op) {
  using V = typename E::value;
  const auto kernel = simd::cpu_kernels<simd::elementwise_entries<V>>().accum_add;
  const index_t d = op.dy.size[2], work = std::max<index_t>(op.dy.size[0] * d, 1);
  const index_t rows = std::max<index_t>(1, detail::run_of_sums / work);
  detail::for_each_run(ctx, op.dy.size[1], rows, [&](index_t from, index_t to) {
    for (index_t t = from; t < to; ++t) {
      auto* dp = op.dp.data + t * op.dp.stride[0];
      for (index_t b = 0; b < op.dy.size[0]; ++b)
        kernel(dp, op.dy.data + b * op.dy.stride[0] + t * op.dy.stride[1], dp, 1, d);
    }
  });
}

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::negative_exp<E>& op) {
  const auto kernel = simd::cpu_kernels<simd::accum_entries<typename E::accum>>().negative_exp;
  detail::for_each_run(
      ctx, op.x.size[0], detail::run_of_activations,
      [&](index_t from, index_t to) { kernel(op.x.data + from, op.y.data + from, to - from); });
}

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::negative_exp_backward<E>& op) {
  const auto kernel = simd::cpu_kernels<simd::accum_entries<typename E::accum>>().add_product;
  detail::for_each_run(ctx, op.y.size[0], detail::run_of_sums, [&](index_t from, index_t to) {
    kernel(op.dy.data + from, op.y.data + from, op.dx.data + from, to - from);
  });
}

template <class Isa, class E, class T>
void execute(context<cpu_for<Isa>>& ctx, const ops::fill<E, T>& op) {
  const T value = T(real_t<T>(op.value));
  detail::for_each_run(ctx, op.y.size[0], 2 * detail::run_of_sums, [&](index_t from, index_t to) {
    std::fill(op.y.data + from, op.y.data + to, value);
  });
}

}  // namespace mlmamba::backend
