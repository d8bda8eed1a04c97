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
  using P = pair<hn::Vec<D>>;

  template <bool centred>
  static void forward(const norm_rows<T, X>& o) {
    const D d;
    const index_t n = o.width;
    const A* weight = beside(o.weight, n, o.buffer);
    const A* bias = beside(o.bias, n, o.buffer + (in_buffer ? norm_padded(n) : 0));
    for (index_t t = 0; t < o.rows; ++t) {
      const X* x = o.x + t * o.x_stride;
      T* y = o.y + t * o.y_stride;
      const index_t more = t + 1 < o.rows;
      const auto body = [&](index_t i) HWY_ATTR {
        if (early) fetch_pair_to_write(y + i);
      };
      A mean = 0, square;
      if (centred) {
        moments_of_row(d, x, n, mean, square, body);
      } else {
        const auto add = [](auto v, auto s) HWY_ATTR { return hn::MulAdd(v, v, s); };
        square = sum_of_row(d, x, n, add, body) / A(n);
      }
      const A rstd = A(1) / std::sqrt(square + o.epsilon);
      if (o.rstd) o.rstd[t] = rstd;
      if (centred && o.mean) o.mean[t] = mean;
      const auto r = with_short_nan<X>(d, hn::Set(d, rstd));
      write<centred>(x, x + more * o.x_stride, more * o.y_stride,
                     with_short_nan<X>(d, hn::Set(d, mean)), r, weight, bias, y, n);
    }
  }

  // Pairs of bf16 x are computed in their order, with weights that were brought into it; float ones
  // in their own, and the results are brought into that of y.
  static constexpr bool in_buffer = std::is_same_v<X, bf16>;
  // Lines to write are asked for in the first walk over a row, so that the memory has something to
  // do all the time. Rows of float and what is beside them do not fit the first cache: there in the
  // last walk over the row before.
  static constexpr bool early = in_buffer;
  static const A* beside(const A* weight, index_t n, A* buffer) {
    if (!in_buffer || !weight) return weight;
    std::copy_n(weight, n, buffer);
    std::fill(buffer + n, buffer + norm_padded(n), A(0));
    in_order_of_lanes<T>(buffer, norm_padded(n));
    return buffer;
  }
  /// All of x, y and their gradients is computed in the order of x.
  template <class Part, class Y>
  static HWY_INLINE P take(Part part, const Y* p) {
    const D d;
    if constexpr (in_buffer) return part.load(d, p);
    return part.neighbours(d, p);
  }
  /// Of weights and sums: all of the last pair is there if they are in a buffer.
  template <class Part>
  static HWY_INLINE P of_weight(Part part, const A* p) {
    const D d;
    if constexpr (in_buffer) return load_pair(d, p);
    return part.load(d, p);
  }
  template <class Part>
  static HWY_INLINE void keep(Part part, A* p, const P& v) {
    const D d;
    if constexpr (in_buffer) {
      store_pair(v, d, p);
    } else {
      part.store(v, d, p);
    }
  }

  /// (v - mean) r. Not v r - mean r: where a row hardly varies these are large, and their
  /// difference is what they were rounded by.
  template <bool centred>
  static HWY_INLINE P normed(const P& v, hn::Vec<D> mean, hn::Vec<D> r) {
    if constexpr (!centred) return {hn::Mul(v.a, r), hn::Mul(v.b, r)};
    return {hn::Mul(hn::Sub(v.a, mean), r), hn::Mul(hn::Sub(v.b, mean), r)};
  }

  /// y = normed(x) weight + bias
  template <bool centred>
  static HWY_INLINE void write(const X* x, const X* next, index_t y_next, hn::Vec<D> mean,
                               hn::Vec<D> r, const A* weight, const A* bias, T* y, index_t n) {
    const D d;
    const auto each = [&](const auto& scaled) HWY_ATTR {
      for_each_pair(d, n, [&](auto part, index_t i) HWY_ATTR {
        fetch_pair(next + i);
        if (!early) fetch_pair_to_write(y + y_next + i);
        const auto of = [&](const A* p) HWY_ATTR { return of_weight(part, p + i); };
        auto v = part.load(d, x + i);
        v = scaled(of, normed<centred>(v, mean, r));
        if constexpr (!std::is_same_v<X, T>)
          v = in_order_of<T>(d, {with_short_nan<T>(d, v.a), with_short_nan<T>(d, v.b)});
        part.store(v, d, y + i);
      });
    };
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
    const index_t n = o.width, padded = norm_padded(n);
    const A* weight = beside(o.weight, n, o.buffer);
    const auto zeroed = [&](A* sums, index_t buffer) {
      if (sums && in_buffer) sums = o.buffer + buffer * padded;
      if (sums) std::fill_n(sums, in_buffer ? padded : n, A(0));
      return sums;
    };
    A *dweight = zeroed(o.dweight, 1), *dbias = zeroed(o.dbias, 2);
    for (index_t t = 0; t < o.rows; ++t) backward_row<centred>(o, t, weight, dweight, dbias);
    if (!in_buffer) return;
    if (dweight) in_order_of_channels<T>(dweight, n, o.dweight);
    if (dbias) in_order_of_channels<T>(dbias, n, o.dbias);
  }
  template <bool centred>
  static HWY_INLINE void backward_row(const norm_backward_rows<T, X>& o, index_t t, const A* weight,
                                      A* dweight, A* dbias) {
    const D d;
    const index_t n = o.width, more = t + 1 < o.rows;
    const X* x = o.x + t * o.x_stride;
    const T* dy = o.dy + t * o.dy_stride;
    X* dx = o.dx + t * o.dx_stride;
    const auto r = with_short_nan<X>(d, hn::Set(d, o.rstd[t]));
    const auto mean = with_short_nan<X>(d, hn::Set(d, centred ? o.mean[t] : A(0)));
    const auto xhat = [&](auto part, index_t i)
                          HWY_ATTR { return normed<centred>(part.load(d, x + i), mean, r); };
    const auto scaled = [&](auto part, index_t i, const P& v) HWY_ATTR {
      if (!weight) return v;
      const P w = of_weight(part, weight + i);
      return P{hn::Mul(v.a, w.a), hn::Mul(v.b, w.b)};
    };
    // g = dy weight
    P sum_g{hn::Zero(d), hn::Zero(d)}, sum_gx = sum_g;
    for_each_pair(d, n, [&](auto part, index_t i) HWY_ATTR {
      if (early) fetch_pair_to_write(dx + i);
      const P g = scaled(part, i, take(part, dy + i)), u = xhat(part, i);
      if (centred) sum_g = {hn::Add(sum_g.a, g.a), hn::Add(sum_g.b, g.b)};
      sum_gx = {hn::MulAdd(g.a, u.a, sum_gx.a), hn::MulAdd(g.b, u.b, sum_gx.b)};
    });
    const auto mg = hn::Set(d, sum_of_lanes(d, hn::Add(sum_g.a, sum_g.b)) / A(n));
    const auto mgx = hn::Set(d, sum_of_lanes(d, hn::Add(sum_gx.a, sum_gx.b)) / A(n));
    const X* next_x = x + more * o.x_stride;
    const T* next_dy = dy + more * o.dy_stride;
    for_each_pair(d, n, [&](auto part, index_t i) HWY_ATTR {
      fetch_pair(next_x + i), fetch_pair(next_dy + i);
      if (!early) fetch_pair_to_write(dx + more * o.dx_stride + i);
      const P u = xhat(part, i), v = take(part, dy + i);
      P s = scaled(part, i, v);
      if (centred) s = {hn::Sub(s.a, mg), hn::Sub(s.b, mg)};
      s = {hn::Mul(hn::NegMulAdd(u.a, mgx, s.a), r), hn::Mul(hn::NegMulAdd(u.b, mgx, s.b), r)};
      if (o.accumulate) {
        const P old = part.load(d, dx + i);
        s = {hn::Add(s.a, old.a), hn::Add(s.b, old.b)};
      }
      part.store(s, d, dx + i);
      if (dweight) {
        const P old = of_weight(part, dweight + i);
        keep(part, dweight + i, {hn::MulAdd(v.a, u.a, old.a), hn::MulAdd(v.b, u.b, old.b)});
      }
      if (dbias) {
        const P old = of_weight(part, dbias + i);
        keep(part, dbias + i, {hn::Add(v.a, old.a), hn::Add(v.b, old.b)});
      }
    });
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
