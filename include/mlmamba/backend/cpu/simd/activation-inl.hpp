// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Activations and their derivatives on vectors of float; see apply_activation in core/scalar.hpp.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

// One type per activation: value(d, x) and derivative(d, x).

struct identity_function {
  template <class D>
  static HWY_INLINE hn::Vec<D> value(D, hn::Vec<D> x) {
    return x;
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> derivative(D d, hn::Vec<D>) {
    return hn::Set(d, 1.0f);
  }
};

struct relu_function {
  template <class D>
  static HWY_INLINE hn::Vec<D> value(D d, hn::Vec<D> x) {
    return hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), x);
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> derivative(D d, hn::Vec<D> x) {
    return hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), hn::Set(d, 1.0f));
  }
};

struct silu_function {
  template <class D>
  static HWY_INLINE hn::Vec<D> value(D d, hn::Vec<D> x) {
    return hn::Mul(x, sigmoid(d, x));
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> derivative(D d, hn::Vec<D> x) {
    const auto one = hn::Set(d, 1.0f);
    const auto s = sigmoid(d, x);
    return hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
  }
};

struct quick_gelu_function {
  template <class D>
  static HWY_INLINE hn::Vec<D> value(D d, hn::Vec<D> x) {
    return hn::Mul(x, sigmoid(d, hn::Mul(hn::Set(d, 1.702f), x)));
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> derivative(D d, hn::Vec<D> x) {
    const auto one = hn::Set(d, 1.0f);
    const auto u = hn::Mul(hn::Set(d, 1.702f), x);
    const auto s = sigmoid(d, u);
    return hn::Mul(s, hn::MulAdd(u, hn::Sub(one, s), one));
  }
};

struct gelu_function {
  template <class D>
  static HWY_INLINE hn::Vec<D> normal_cdf(D d, hn::Vec<D> x) {
    const auto e = erf(d, hn::Mul(x, hn::Set(d, 0.70710678118654752440f)));
    return hn::MulAdd(hn::Set(d, 0.5f), e, hn::Set(d, 0.5f));
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> value(D d, hn::Vec<D> x) {
    return hn::Mul(x, normal_cdf(d, x));
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> derivative(D d, hn::Vec<D> x) {
    const auto density = hn::Mul(hn::Set(d, 0.39894228040143267794f),
                                 exp(d, hn::Mul(hn::Mul(hn::Set(d, -0.5f), x), x)));
    return hn::MulAdd(x, density, normal_cdf(d, x));
  }
};

struct gelu_tanh_function {  // (1 + tanh u) / 2 is sigmoid(2u)
  template <class D>
  static HWY_INLINE hn::Vec<D> gate(D d, hn::Vec<D> x) {
    const auto cubic = hn::MulAdd(hn::Mul(hn::Set(d, 0.044715f), hn::Mul(x, x)), x, x);
    return sigmoid(d, hn::Mul(hn::Set(d, 2 * 0.79788456080286535588f), cubic));
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> value(D d, hn::Vec<D> x) {
    return hn::Mul(x, gate(d, x));
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> derivative(D d, hn::Vec<D> x) {
    const auto one = hn::Set(d, 1.0f);
    const auto s = gate(d, x);
    const auto slope = hn::Mul(hn::Set(d, 2 * 0.79788456080286535588f),
                               hn::MulAdd(hn::Set(d, 3 * 0.044715f), hn::Mul(x, x), one));
    return hn::MulAdd(hn::Mul(hn::Mul(x, s), hn::Sub(one, s)), slope, s);
  }
};

/// Calls f with the type that belongs to a.
template <class F>
HWY_INLINE void with_activation(activation a, const F& f) {
  switch (a) {
    case activation::silu:
      return f(silu_function{});
    case activation::gelu:
      return f(gelu_function{});
    case activation::gelu_tanh:
      return f(gelu_tanh_function{});
    case activation::quick_gelu:
      return f(quick_gelu_function{});
    case activation::relu:
      return f(relu_function{});
    case activation::none:
      break;
  }
  return f(identity_function{});
}

/// x = activation(x) for n numbers, n a multiple of the lanes. Kernels widen what they have into a
/// small buffer and call this, so that each activation is compiled once per target, not once per
/// kernel, element type and tail.
HWY_NOINLINE inline void activate_block(activation a, float* x, index_t n) {
  with_activation(a, [=](auto f) HWY_ATTR {
    const hn::ScalableTag<float> d;
    for (index_t i = 0; i < n; i += lanes(d)) hn::StoreU(f.value(d, hn::LoadU(d, x + i)), d, x + i);
  });
}
HWY_NOINLINE inline void activation_derivative_block(activation a, float* x, index_t n) {
  with_activation(a, [=](auto f) HWY_ATTR {
    const hn::ScalableTag<float> d;
    for (index_t i = 0; i < n; i += lanes(d))
      hn::StoreU(f.derivative(d, hn::LoadU(d, x + i)), d, x + i);
  });
}
inline void activate_block(activation a, double* x, index_t n) {
  for (index_t i = 0; i < n; ++i) x[i] = apply_activation(a, x[i]);
}
inline void activation_derivative_block(activation a, double* x, index_t n) {
  for (index_t i = 0; i < n; ++i) x[i] = activation_derivative(a, x[i]);
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
