// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Kernels of RMSNorm and LayerNorm: a row stays in the first-level cache over its passes.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T, class X>
struct norms {
  using A = accum_t<T>;
  using D = tag_for<T>;

  template <bool centred>
  static void forward(const norm_rows<T, X>& o) {
    const D d;
    const index_t n = o.width;
    const A* weight = beside(o.weight, n, o.buffer);
    const A* bias = beside(o.bias, n, o.buffer + (in_buffer ? norm_padded(n) : 0));
    for (index_t t = 0; t < o.rows; ++t) {
      const X* x = o.x + t * o.x_stride;
      A mean = 0;
      if (centred)
        mean = sum_of_row(d, x, n, [](auto v, auto s) HWY_ATTR { return hn::Add(s, v); }) / A(n);
      const auto m = hn::Set(d, mean);
      const A square = sum_of_row(d, x, n, [&](auto v, auto s) HWY_ATTR {
        const auto u = centred ? hn::Sub(v, m) : v;
        return hn::MulAdd(u, u, s);
      });
      const A rstd = A(1) / std::sqrt(square / A(n) + o.epsilon);
      if (o.rstd) o.rstd[t] = rstd;
      if (centred && o.mean) o.mean[t] = mean;
      const index_t more = t + 1 < o.rows;
      write(x, x + more * o.x_stride, more * o.y_stride, m, hn::Set(d, rstd), weight, bias,
            o.y + t * o.y_stride, n);
    }
  }

  // Pairs of bf16 x are computed in their order, with weights that were brought into it; float ones
  // in their own, and the results are brought into that of y.
  static constexpr bool in_buffer = std::is_same_v<X, bf16>;
  static const A* beside(const A* weight, index_t n, A* buffer) {
    if (!in_buffer || !weight) return weight;
    std::copy_n(weight, n, buffer);
    std::fill(buffer + n, buffer + norm_padded(n), A(0));
    in_order_of_lanes<T>(buffer, norm_padded(n));
    return buffer;
  }

  /// y = (x - m) r weight + bias
  static HWY_INLINE void write(const X* x, const X* next, index_t y_next, hn::Vec<D> m,
                               hn::Vec<D> r, const A* weight, const A* bias, T* y, index_t n) {
    const D d;
    const auto each = [&](const auto& scaled) HWY_ATTR {
      for_each_pair(d, n, [&](auto part, index_t i) HWY_ATTR {
        fetch_pair(next + i);
        fetch_pair_to_write(y + y_next + i);
        const auto of = [&](const A* p) HWY_ATTR {
          if constexpr (in_buffer) return load_pair(d, p + i);
          return part.load(d, p + i);
        };
        auto v = part.load(d, x + i);
        v = {hn::Mul(hn::Sub(v.a, m), r), hn::Mul(hn::Sub(v.b, m), r)};
        v = scaled(of, v);
        if constexpr (!std::is_same_v<X, T>) v = in_order_of<T>(d, v);
        part.store(v, d, y + i);
      });
    };
    using P = pair<hn::Vec<D>>;
    if (weight && bias) {
      each([&](auto of, P v) HWY_ATTR {
        const P w = of(weight), b = of(bias);
        return P{hn::MulAdd(v.a, w.a, b.a), hn::MulAdd(v.b, w.b, b.b)};
      });
    } else if (weight) {
      each([&](auto of, P v) HWY_ATTR {
        const P w = of(weight);
        return P{hn::Mul(v.a, w.a), hn::Mul(v.b, w.b)};
      });
    } else {
      each([&](auto of, P v) HWY_ATTR {
        if (!bias) return v;
        const P b = of(bias);
        return P{hn::Add(v.a, b.a), hn::Add(v.b, b.b)};
      });
    }
  }

  template <bool centred>
  static void backward(const norm_backward_rows<T, X>& o) {
    const D d;
    const index_t n = o.width;
    for (index_t t = 0; t < o.rows; ++t) {
      const X* x = o.x + t * o.x_stride;
      const T* dy = o.dy + t * o.dy_stride;
      X* dx = o.dx + t * o.dx_stride;
      const auto m = hn::Set(d, centred ? o.mean[t] : A(0)), r = hn::Set(d, o.rstd[t]);
      auto g = [&](auto part, index_t i) HWY_ATTR {
        const auto v = part.load(d, dy + i);
        return o.weight ? hn::Mul(v, part.load(d, o.weight + i)) : v;
      };
      auto xhat = [&](auto part, index_t i) HWY_ATTR {
        const auto v = part.load(d, x + i);
        return hn::Mul(centred ? hn::Sub(v, m) : v, r);
      };
      A mean_g = 0, mean_gx = 0;
      if constexpr (centred) {
        sums_of_vectors(
            d, n,
            [&](auto part, index_t i, auto& a, auto& b) HWY_ATTR {
              a = g(part, i);
              b = hn::Mul(a, xhat(part, i));
            },
            mean_g, mean_gx);
      } else {
        mean_gx = sum_of_vectors(d, n, [&](auto part, index_t i) HWY_ATTR {
          return hn::Mul(g(part, i), xhat(part, i));
        });
      }
      mean_g /= A(n), mean_gx /= A(n);
      const auto mg = hn::Set(d, mean_g), mgx = hn::Set(d, mean_gx);
      const index_t more = t + 1 < o.rows;
      const X* next_x = x + more * o.x_stride;
      const T* next_dy = dy + more * o.dy_stride;
      for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
        fetch(next_x + i), fetch(next_dy + i), fetch_to_write(dx + more * o.dx_stride + i);
        const auto u = xhat(part, i), v = part.load(d, dy + i);
        auto s = o.weight ? hn::Mul(v, part.load(d, o.weight + i)) : v;
        if (centred) s = hn::Sub(s, mg);
        s = hn::Mul(hn::NegMulAdd(u, mgx, s), r);
        if (o.accumulate) s = hn::Add(s, part.load(d, dx + i));
        part.store(s, d, dx + i);
        if (o.dweight) part.store(hn::MulAdd(v, u, part.load(d, o.dweight + i)), d, o.dweight + i);
        if (o.dbias) part.store(hn::Add(part.load(d, o.dbias + i), v), d, o.dbias + i);
      });
    }
  }
};

template <class A>
void add_rows(const A* x, index_t count, index_t stride, A* y, index_t n) {
  const hn::ScalableTag<A> d;
  for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
    auto s = hn::Zero(d);
    for (index_t k = 0; k < count; ++k) s = hn::Add(s, part.load(d, x + k * stride + i));
    part.store(hn::Add(part.load(d, y + i), s), d, y + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();

#include "mlmamba/backend/cpu/simd/gated_norm-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T, class X>
norm_entries<T, X> kernels_for(wanted<norm_entries<T, X>>) {
  return {&norms<T, X>::template forward<false>, &norms<T, X>::template forward<true>};
}
template <class T, class X>
norm_backward_entries<T, X> kernels_for(wanted<norm_backward_entries<T, X>>) {
  return {&norms<T, X>::template backward<false>, &norms<T, X>::template backward<true>};
}
template <class T>
gated_norm_entries<T> kernels_for(wanted<gated_norm_entries<T>>) {
  return {&gated_norms<T>::forward};
}
template <class T>
gated_norm_backward_entries<T> kernels_for(wanted<gated_norm_backward_entries<T>>) {
  return {&gated_norms<T>::backward};
}
template <class A>
add_rows_entries<A> kernels_for(wanted<add_rows_entries<A>>) {
  return {&add_rows<A>};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
