// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Elementwise kernels.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T>
struct elementwise {
  using A = accum_t<T>;
  using D = tag_for<T>;

  // Activations work on blocks in the first-level cache, widened and padded to whole vectors.
  static constexpr index_t block = 256;
  struct buffer {
    A data[block];
    HWY_INLINE void load(const T* x, index_t n) {
      const D d;
      for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
        hn::StoreU(part.load(d, x + i), d, data + i);
      });
    }
    static HWY_INLINE index_t padded(index_t n) {
      return (n + lanes(D()) - 1) / lanes(D()) * lanes(D());
    }
  };

  static void activate(activation a, const T* x, T* y, index_t n) {
    const D d;
    buffer v;
    for (index_t from = 0; from < n; from += block) {
      const index_t m = n - from < block ? n - from : block;
      v.load(x + from, m);
      activate_block(a, v.data, buffer::padded(m));
      for_each_vector(d, m, [&](auto part, index_t i) HWY_ATTR {
        part.store(hn::LoadU(d, v.data + i), d, y + from + i);
      });
    }
  }
  static void activate_backward(activation a, const T* x, const T* dy, T* dx, index_t n) {
    const D d;
    buffer v;
    for (index_t from = 0; from < n; from += block) {
      const index_t m = n - from < block ? n - from : block;
      v.load(x + from, m);
      activation_derivative_block(a, v.data, buffer::padded(m));
      for_each_vector(d, m, [&](auto part, index_t i) HWY_ATTR {
        const auto slope = hn::LoadU(d, v.data + i);
        part.store(hn::Mul(part.load(d, dy + from + i), slope), d, dx + from + i);
      });
    }
  }
  static void gated(activation a, const T* gate, const T* up, T* y, index_t n) {
    const D d;
    buffer v;
    for (index_t from = 0; from < n; from += block) {
      const index_t m = n - from < block ? n - from : block;
      v.load(gate + from, m);
      activate_block(a, v.data, buffer::padded(m));
      for_each_vector(d, m, [&](auto part, index_t i) HWY_ATTR {
        const auto g = hn::LoadU(d, v.data + i);
        part.store(hn::Mul(g, part.load(d, up + from + i)), d, y + from + i);
      });
    }
  }
  static void gated_backward(activation a, const T* gate, const T* up, const T* dy, T* dgate,
                             T* dup, index_t n) {
    const D d;
    buffer value, slope;
    for (index_t from = 0; from < n; from += block) {
      const index_t m = n - from < block ? n - from : block;
      value.load(gate + from, m);
      slope.load(gate + from, m);
      activate_block(a, value.data, buffer::padded(m));
      activation_derivative_block(a, slope.data, buffer::padded(m));
      for_each_vector(d, m, [&](auto part, index_t i) HWY_ATTR {
        const auto v = part.load(d, dy + from + i), u = part.load(d, up + from + i);
        part.store(hn::Mul(hn::Mul(v, u), hn::LoadU(d, slope.data + i)), d, dgate + from + i);
        part.store(hn::Mul(v, hn::LoadU(d, value.data + i)), d, dup + from + i);
      });
    }
  }

  template <class Y>
  static void channel_scale(const T* x, const A* gamma, const Y* residual, Y* y, index_t n) {
    const D d;
    for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
      const auto v = part.load(d, x + i), g = part.load(d, gamma + i);
      const auto r = residual ? part.load(d, residual + i) : hn::Zero(d);
      part.store(hn::MulAdd(v, g, r), d, y + i);
    });
  }
  static void channel_scale_backward(const T* x, const A* gamma, const T* dy, T* dx, A* dgamma,
                                     index_t n) {
    const D d;
    for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
      const auto v = part.load(d, dy + i);
      if (dgamma)
        part.store(hn::MulAdd(v, part.load(d, x + i), part.load(d, dgamma + i)), d, dgamma + i);
      part.store(hn::Mul(v, part.load(d, gamma + i)), d, dx + i);
    });
  }

  template <class P, class Q>
  static void add(const P* a, const Q* b, P* y, A scale, index_t n) {
    const D d;
    const auto s = hn::Set(d, scale);
    for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
      part.store(hn::Mul(hn::Add(part.load(d, a + i), part.load(d, b + i)), s), d, y + i);
    });
  }
  template <class P, class Q>
  static void convert(const P* x, Q* y, index_t n) {
    const D d;
    for_each_vector(
        d, n, [&](auto part, index_t i) HWY_ATTR { part.store(part.load(d, x + i), d, y + i); });
  }
};

template <class A>
struct elementwise_accum {
  using D = tag_for<A>;
  static void negative_exp(const A* x, A* y, index_t n) {
    const D d;
    for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
      part.store(hn::Neg(exp(d, part.load(d, x + i))), d, y + i);
    });
  }
  static void add_product(const A* a, const A* b, A* y, index_t n) {
    const D d;
    for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
      const auto v = hn::MulAdd(part.load(d, a + i), part.load(d, b + i), part.load(d, y + i));
      part.store(v, d, y + i);
    });
  }
};

template <class T>
elementwise_entries<T> kernels_for(wanted<elementwise_entries<T>>) {
  using F = elementwise<T>;
  using A = accum_t<T>;
  return {&F::activate,
          &F::gated,
          &F::template channel_scale<T>,
          &F::template channel_scale<A>,
          &F::template add<T, T>,
          &F::template add<T, A>,
          &F::template add<A, T>,
          &F::template convert<A, T>,
          &F::template convert<T, A>};
}
template <class T>
elementwise_backward_entries<T> kernels_for(wanted<elementwise_backward_entries<T>>) {
  using F = elementwise<T>;
  return {&F::activate_backward, &F::gated_backward, &F::channel_scale_backward};
}
template <class A>
accum_entries<A> kernels_for(wanted<accum_entries<A>>) {
  return {&elementwise_accum<A>::negative_exp, &elementwise_accum<A>::add_product};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
