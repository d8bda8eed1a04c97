// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Kernels of the gated group RMSNorm. Each exponential is computed once: what the second pass over
// a group needs of it waits in a buffer.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T>
struct gated_norms {
  using A = accum_t<T>;
  using D = tag_for<T>;
  enum class gate { none, before_norm, after_norm };

  template <class F>
  static HWY_INLINE void with_gate(bool given, bool norm_before_gate, const F& f) {
    if (!given) {
      f(std::integral_constant<gate, gate::none>{});
    } else if (norm_before_gate) {
      f(std::integral_constant<gate, gate::after_norm>{});
    } else {
      f(std::integral_constant<gate, gate::before_norm>{});
    }
  }

  static void forward(const gated_norm_rows<T>& o) {
    with_gate(o.z != nullptr, o.norm_before_gate, [&](auto kind) HWY_ATTR {
      for (index_t t = 0; t < o.rows; ++t)
        for (index_t from = 0; from < o.width; from += o.group) {
          const A r = forward_group<decltype(kind)::value>(o, t, from);
          if (o.rstd) o.rstd[t * o.rstd_stride + from / o.group] = r;
        }
    });
  }
  template <gate kind>
  static HWY_INLINE A forward_group(const gated_norm_rows<T>& o, index_t t, index_t from) {
    const D d;
    const index_t n = o.group;
    const T* x = o.x + t * o.x_stride + from;
    const T* z = kind == gate::none ? nullptr : o.z + t * o.z_stride + from;
    T* y = o.y + t * o.y_stride + from;
    const A* weight = o.weight ? o.weight + from : nullptr;
    A* u = o.buffer;  // x silu(z), if that is what is normalised
    const A square = sum_of_vectors(d, n, [&](auto part, index_t i) HWY_ATTR {
      auto v = part.load(d, x + i);
      if (kind == gate::before_norm) {
        v = hn::Mul(v, silu(d, part.load(d, z + i)));
        part.store(v, d, u + i);
      }
      return hn::Mul(v, v);
    });
    const A rstd = A(1) / std::sqrt(square / A(n) + o.epsilon);
    const auto r = hn::Set(d, rstd);
    for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
      auto v = kind == gate::before_norm ? part.load(d, u + i) : part.load(d, x + i);
      v = hn::Mul(v, r);
      if (weight) v = hn::Mul(v, part.load(d, weight + i));
      if (kind == gate::after_norm) v = hn::Mul(v, silu(d, part.load(d, z + i)));
      part.store(v, d, y + i);
    });
    return rstd;
  }

  static void backward(const gated_norm_backward_rows<T>& o) {
    with_gate(o.z != nullptr, o.norm_before_gate, [&](auto kind) HWY_ATTR {
      for (index_t t = 0; t < o.rows; ++t)
        for (index_t from = 0; from < o.width; from += o.group)
          backward_group<decltype(kind)::value>(o, t, from);
    });
  }
  template <gate kind>
  static HWY_INLINE void backward_group(const gated_norm_backward_rows<T>& o, index_t t,
                                        index_t from) {
    const D d;
    const index_t n = o.group;
    const T* x = o.x + t * o.x_stride + from;
    const T* z = kind == gate::none ? nullptr : o.z + t * o.z_stride + from;
    const T* dy = o.dy + t * o.dy_stride + from;
    T* dx = o.dx + t * o.dx_stride + from;
    T* dz = kind == gate::none ? nullptr : o.dz + t * o.dz_stride + from;
    const A* weight = o.weight ? o.weight + from : nullptr;
    A* dweight = o.dweight ? o.dweight + from : nullptr;
    A* sigma = o.buffer;  // sigmoid(z)
    const auto one = hn::Set(d, A(1));
    const auto r = hn::Set(d, o.rstd[t * o.rstd_stride + from / n]);
    // uhat = u rstd with u = x or x silu(z); g = dy weight or dy weight silu(z)
    const A mean_gu =
        sum_of_vectors(d, n,
                       [&](auto part, index_t i) HWY_ATTR {
                         auto v = hn::Mul(hn::Mul(part.load(d, x + i), r), part.load(d, dy + i));
                         if (weight) v = hn::Mul(v, part.load(d, weight + i));
                         if (kind != gate::none) {
                           const auto zv = part.load(d, z + i), s = sigmoid(d, zv);
                           part.store(s, d, sigma + i);
                           v = hn::Mul(v, hn::Mul(zv, s));
                         }
                         return v;
                       }) /
        A(n);
    const auto mean = hn::Set(d, mean_gu);
    for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
      const auto xv = part.load(d, x + i), dyv = part.load(d, dy + i);
      const auto w = weight ? part.load(d, weight + i) : one;
      if (kind == gate::none) {
        const auto u = hn::Mul(xv, r);
        if (dweight) part.store(hn::MulAdd(dyv, u, part.load(d, dweight + i)), d, dweight + i);
        part.store(hn::Mul(hn::NegMulAdd(u, mean, hn::Mul(dyv, w)), r), d, dx + i);
        return;
      }
      const auto zv = part.load(d, z + i), s = part.load(d, sigma + i);
      const auto silu = hn::Mul(zv, s);
      const auto slope = hn::MulAdd(silu, hn::Sub(one, s), s);  // silu'(z)
      if (kind == gate::before_norm) {
        const auto u = hn::Mul(hn::Mul(xv, silu), r);
        if (dweight) part.store(hn::MulAdd(dyv, u, part.load(d, dweight + i)), d, dweight + i);
        const auto dt = hn::Mul(hn::NegMulAdd(u, mean, hn::Mul(dyv, w)), r);
        part.store(hn::Mul(dt, silu), d, dx + i);
        part.store(hn::Mul(hn::Mul(dt, xv), slope), d, dz + i);
      } else {
        const auto u = hn::Mul(xv, r), gated = hn::Mul(dyv, silu);
        if (dweight) part.store(hn::MulAdd(gated, u, part.load(d, dweight + i)), d, dweight + i);
        part.store(hn::Mul(hn::NegMulAdd(u, mean, hn::Mul(gated, w)), r), d, dx + i);
        part.store(hn::Mul(hn::Mul(hn::Mul(dyv, u), w), slope), d, dz + i);
      }
    });
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
