// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Kernels of the gated group RMSNorm. Each exponential is computed once: what the second pass over
// a group needs of it waits in a buffer. Vectors come in pairs, see row-inl.hpp.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T>
struct gated_norms {
  using A = accum_t<T>;
  using D = tag_for<T>;
  using V = hn::Vec<D>;
  using P = pair<V>;
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

  /// What a group's passes read and add to in accum: whole pairs, in the order of the lanes.
  struct work {
    A *keep, *weight, *dweight;
    work(A* buffer, index_t group, index_t groups)
        : keep(buffer), weight(buffer + padded(group)), dweight(weight + groups * padded(group)) {}
  };
  static HWY_INLINE index_t padded(index_t n) { return norm_padded(n); }

  static void take_weight(const A* weight, index_t group, index_t width, A* to) {
    for (index_t from = 0; from < width; from += group, to += padded(group)) {
      if (weight) {
        std::copy_n(weight + from, group, to);
      } else {
        std::fill_n(to, group, A(1));
      }
      std::fill(to + group, to + padded(group), A(0));
      in_order_of_lanes<T>(to, padded(group));
    }
  }

  static void forward(const gated_norm_rows<T>& o) {
    const work k(o.buffer, o.group, o.width / o.group);
    take_weight(o.weight, o.group, o.width, k.weight);
    with_gate(o.z != nullptr, o.norm_before_gate, [&](auto kind) HWY_ATTR {
      for (index_t t = 0; t < o.rows; ++t)
        for (index_t g = 0; g * o.group < o.width; ++g) {
          const A r = forward_group<decltype(kind)::value>(o, k, t, g);
          if (o.rstd) o.rstd[t * o.rstd_stride + g] = r;
        }
    });
  }
  template <gate kind>
  static HWY_INLINE A forward_group(const gated_norm_rows<T>& o, const work& k, index_t t,
                                    index_t g) {
    const D d;
    const index_t n = o.group, from = g * n, more = t + 1 < o.rows;
    const T* x = o.x + t * o.x_stride + from;
    const T* z = kind == gate::none ? nullptr : o.z + t * o.z_stride + from;
    T* y = o.y + t * o.y_stride + from;
    const A* weight = k.weight + g * padded(n);
    A* u = k.keep;  // x silu(z), if that is what is normalised
    P sum{hn::Zero(d), hn::Zero(d)};
    for_each_pair(d, n, [&](auto part, index_t i) HWY_ATTR {
      fetch_pair_to_write(y + i);
      auto v = part.load(d, x + i);
      if (kind == gate::before_norm) {
        const auto zv = part.load(d, z + i);
        v = {hn::Mul(v.a, silu_as<T>(d, zv.a)), hn::Mul(v.b, silu_as<T>(d, zv.b))};
        store_pair(v, d, u + i);
      }
      sum = {hn::MulAdd(v.a, v.a, sum.a), hn::MulAdd(v.b, v.b, sum.b)};
    });
    const A square = sum_of_lanes(d, hn::Add(sum.a, sum.b));
    const A rstd = A(1) / std::sqrt(square / A(n) + o.epsilon);
    const auto r = with_short_nan<T>(d, hn::Set(d, rstd));
    for_each_pair(d, n, [&](auto part, index_t i) HWY_ATTR {
      fetch_pair(x + more * o.x_stride + i);
      if (kind != gate::none) fetch_pair(z + more * o.z_stride + i);
      auto v = kind == gate::before_norm ? load_pair(d, u + i) : part.load(d, x + i);
      const auto w = load_pair(d, weight + i);
      v = {hn::Mul(hn::Mul(v.a, r), w.a), hn::Mul(hn::Mul(v.b, r), w.b)};
      if (kind == gate::after_norm) {
        const auto zv = part.load(d, z + i);
        v = {hn::Mul(v.a, silu_as<T>(d, zv.a)), hn::Mul(v.b, silu_as<T>(d, zv.b))};
      }
      part.store(v, d, y + i);
    });
    return rstd;
  }

  static void backward(const gated_norm_backward_rows<T>& o) {
    const index_t groups = o.width / o.group;
    const work k(o.buffer, o.group, groups);
    take_weight(o.weight, o.group, o.width, k.weight);
    std::fill_n(k.dweight, groups * padded(o.group), A(0));
    with_gate(o.z != nullptr, o.norm_before_gate, [&](auto kind) HWY_ATTR {
      for (index_t t = 0; t < o.rows; ++t)
        for (index_t g = 0; g < groups; ++g) backward_group<decltype(kind)::value>(o, k, t, g);
    });
    for (index_t g = 0; g < groups && o.dweight; ++g)
      in_order_of_channels<T>(k.dweight + g * padded(o.group), o.group, o.dweight + g * o.group);
  }
  template <gate kind>
  static HWY_INLINE void backward_group(const gated_norm_backward_rows<T>& o, const work& k,
                                        index_t t, index_t g) {
    const D d;
    const index_t n = o.group, from = g * n, more = t + 1 < o.rows;
    const T* x = o.x + t * o.x_stride + from;
    const T* z = kind == gate::none ? nullptr : o.z + t * o.z_stride + from;
    const T* dy = o.dy + t * o.dy_stride + from;
    T* dx = o.dx + t * o.dx_stride + from;
    T* dz = kind == gate::none ? nullptr : o.dz + t * o.dz_stride + from;
    const A* weight = k.weight + g * padded(n);
    A* dweight = k.dweight + g * padded(n);
    A* sigma = k.keep;  // sigmoid(z)
    const auto one = hn::Set(d, A(1));
    const auto r = with_short_nan<T>(d, hn::Set(d, o.rstd[t * o.rstd_stride + g]));
    // uhat = u rstd with u = x or x silu(z); g = dy weight or dy weight silu(z)
    const A mean_gu =
        sum_of_pairs(d, n,
                     [&](auto part, index_t i) HWY_ATTR {
                       const auto xv = part.load(d, x + i), dyv = part.load(d, dy + i);
                       const auto w = load_pair(d, weight + i);
                       P v{hn::Mul(hn::Mul(hn::Mul(xv.a, r), dyv.a), w.a),
                           hn::Mul(hn::Mul(hn::Mul(xv.b, r), dyv.b), w.b)};
                       fetch_pair_to_write(dx + i);
                       if (kind != gate::none) {
                         fetch_pair_to_write(dz + i);
                         const auto zv = part.load(d, z + i);
                         const P s{sigmoid(d, zv.a), sigmoid(d, zv.b)};
                         store_pair(s, d, sigma + i);
                         v = {hn::Mul(v.a, hn::Mul(zv.a, s.a)), hn::Mul(v.b, hn::Mul(zv.b, s.b))};
                       }
                       return v;
                     }) /
        A(n);
    const auto mean = hn::Set(d, mean_gu);
    // Of one vector: dx, and what is added to dweight; dz, if there is a gate.
    const auto gradients = [&](V xv, V zv, V s, V dyv, V w, V& dw, V& dzv) HWY_ATTR {
      if (kind == gate::none) {
        const auto u = hn::Mul(xv, r);
        dw = hn::MulAdd(dyv, u, dw);
        return hn::Mul(hn::NegMulAdd(u, mean, hn::Mul(dyv, w)), r);
      }
      const auto silu = hn::Mul(zv, s);
      const auto slope = hn::MulAdd(silu, hn::Sub(one, s), s);  // silu'(z)
      if (kind == gate::before_norm) {
        const auto u = hn::Mul(hn::Mul(xv, silu), r);
        dw = hn::MulAdd(dyv, u, dw);
        const auto dt = hn::Mul(hn::NegMulAdd(u, mean, hn::Mul(dyv, w)), r);
        dzv = hn::Mul(hn::Mul(dt, xv), slope);
        return hn::Mul(dt, silu);
      }
      const auto u = hn::Mul(xv, r), gated = hn::Mul(dyv, silu);
      dw = hn::MulAdd(gated, u, dw);
      dzv = hn::Mul(hn::Mul(hn::Mul(dyv, u), w), slope);
      return hn::Mul(hn::NegMulAdd(u, mean, hn::Mul(gated, w)), r);
    };
    for_each_pair(d, n, [&](auto part, index_t i) HWY_ATTR {
      fetch_pair(x + more * o.x_stride + i), fetch_pair(dy + more * o.dy_stride + i);
      const auto xv = part.load(d, x + i), dyv = part.load(d, dy + i);
      const auto w = load_pair(d, weight + i);
      auto dw = load_pair(d, dweight + i);
      P zv{one, one}, s = zv, dzv = zv, dxv;
      if (kind != gate::none) {
        fetch_pair(z + more * o.z_stride + i);
        zv = part.load(d, z + i), s = load_pair(d, sigma + i);
      }
      dxv.a = gradients(xv.a, zv.a, s.a, dyv.a, w.a, dw.a, dzv.a);
      dxv.b = gradients(xv.b, zv.b, s.b, dyv.b, w.b, dw.b, dzv.b);
      store_pair(dw, d, dweight + i);
      part.store(dxv, d, dx + i);
      if (kind != gate::none) part.store(dzv, d, dz + i);
    });
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
