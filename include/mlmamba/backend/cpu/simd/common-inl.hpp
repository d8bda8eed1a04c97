// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What kernels are written with: loads and stores that widen and round, and vector mathematics.
//
// D is a Highway tag of float or double; an array may hold float, bf16 or double. Lanes behind the
// end of an array are zero when loaded and left alone when stored, and go through the same vector
// code as all others: the result for an element does not depend on where in the array it is.
#include <hwy/highway.h>

#include <type_traits>

#include "mlmamba/core/engine.hpp"

// The AVX3 pass also compiles a level with native bf16 and int8 dot products, see kernels.hpp.
#undef MLMAMBA_SIMD_ZEN4
#if HWY_TARGET == HWY_AVX3 && (HWY_COMPILER_GCC_ACTUAL >= 1000 || HWY_COMPILER_CLANG >= 900)
#define MLMAMBA_SIMD_ZEN4 1
#define MLMAMBA_SIMD_HAS_ZEN4 1
#else
#define MLMAMBA_SIMD_ZEN4 0
#endif

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// The tag in whose lanes elements of T (float, bf16, double) are computed.
template <class T>
using tag_for = hn::ScalableTag<accum_t<T>>;

template <class D>
HWY_INLINE index_t lanes(D d) {
  return index_t(hn::Lanes(d));
}

// ------------------------------------------------------------ loads and stores

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const hn::TFromD<D>* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> widen_bf16(D d, hn::Vec<hn::Rebind<std::uint16_t, D>> bits) {
  const hn::Rebind<std::uint32_t, D> u32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(u32, bits)));
}
template <class D>
HWY_INLINE hn::Vec<D> load(D d, const bf16* p) {
  const hn::Rebind<std::uint16_t, D> u16;
  return widen_bf16(d, hn::LoadU(u16, reinterpret_cast<const std::uint16_t*>(p)));
}

/// Rounds to the nearest even bf16; NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<std::uint16_t, D>> round_bf16(D, hn::Vec<D> v) {
  const hn::Rebind<std::uint16_t, D> u16;
  const hn::Rebind<std::uint32_t, D> u32;
  const hn::Rebind<std::int32_t, D> i32;
  const auto bits = hn::BitCast(u32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u32, 1));
  const auto rounded = hn::Add(bits, hn::Add(hn::Set(u32, 0x7fff), odd));
  const auto quiet = hn::Or(bits, hn::Set(u32, 0x400000));
  const auto number = hn::RebindMask(u32, hn::Eq(v, v));
  const auto top = hn::ShiftRight<16>(hn::IfThenElse(number, rounded, quiet));
  return hn::DemoteTo(u16, hn::BitCast(i32, top));  // at most 0xffff: nothing saturates
}
template <class D>
HWY_INLINE void store(hn::Vec<D> v, D d, hn::TFromD<D>* p) {
  hn::StoreU(v, d, p);
}
template <class D>
HWY_INLINE void store(hn::Vec<D> v, D d, bf16* p) {
  const hn::Rebind<std::uint16_t, D> u16;
  hn::StoreU(round_bf16(d, v), u16, reinterpret_cast<std::uint16_t*>(p));
}

/// The first n lanes, 0 < n < lanes(d).
template <class D, class T>
HWY_INLINE hn::Vec<D> load_n(D d, const T* p, index_t n) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  if constexpr (std::is_same_v<T, bf16>) {
    const hn::Rebind<std::uint16_t, D> u16;
    const auto m = hn::FirstN(u16, std::size_t(n));
    return widen_bf16(d, hn::MaskedLoad(m, u16, reinterpret_cast<const std::uint16_t*>(p)));
  } else {
    return hn::MaskedLoad(hn::FirstN(d, std::size_t(n)), d, p);
  }
#else
  T all[hn::MaxLanes(D())] = {};
  for (index_t i = 0; i < n; ++i) all[i] = p[i];
  return load(d, all);
#endif
}
template <class D, class T>
HWY_INLINE void store_n(hn::Vec<D> v, D d, T* p, index_t n) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  if constexpr (std::is_same_v<T, bf16>) {
    const hn::Rebind<std::uint16_t, D> u16;
    const auto m = hn::FirstN(u16, std::size_t(n));
    hn::BlendedStore(round_bf16(d, v), m, u16, reinterpret_cast<std::uint16_t*>(p));
  } else {
    hn::BlendedStore(v, hn::FirstN(d, std::size_t(n)), d, p);
  }
#else
  T all[hn::MaxLanes(D())];
  store(v, d, all);
  for (index_t i = 0; i < n; ++i) p[i] = all[i];
#endif
}

/// What a loop body loads and stores through: all lanes, or the first n of the last vector.
struct all_lanes {
  template <class D, class T>
  HWY_INLINE hn::Vec<D> load(D d, const T* p) const {
    return HWY_NAMESPACE::load(d, p);
  }
  template <class V, class D, class T>
  HWY_INLINE void store(V v, D d, T* p) const {
    HWY_NAMESPACE::store(v, d, p);
  }
};
struct first_lanes {
  index_t n;
  template <class D, class T>
  HWY_INLINE hn::Vec<D> load(D d, const T* p) const {
    return load_n(d, p, n);
  }
  template <class V, class D, class T>
  HWY_INLINE void store(V v, D d, T* p) const {
    store_n(v, d, p, n);
  }
};

/// Calls body(part, i) for i = 0, lanes, 2 lanes, ... < n, part being all_lanes or, at the end,
/// first_lanes. The body is a generic lambda `[&](auto part, index_t i) HWY_ATTR { ... }`.
template <class D, class Body>
HWY_INLINE void for_each_vector(D d, index_t n, const Body& body) {
  const index_t step = lanes(d);
  index_t i = 0;
  for (; i + step <= n; i += step) body(all_lanes{}, i);
  if (i < n) body(first_lanes{n - i}, i);
}

// ------------------------------------------------------------ mathematics

/// f on each lane, for double: plain loops, as precise as the standard library.
template <class D, class F>
HWY_INLINE hn::Vec<D> per_lane(D d, hn::Vec<D> v, F f) {
  hn::TFromD<D> x[hn::MaxLanes(D())];
  hn::StoreU(v, d, x);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) x[i] = f(x[i]);
  return hn::LoadU(d, x);
}
template <class D>
inline constexpr bool is_double = std::is_same_v<hn::TFromD<D>, double>;

/// c0 + c1 x + c2 x^2 + ... by Horner's rule.
template <class D>
HWY_INLINE hn::Vec<D> polynomial(D d, hn::Vec<D>, float c0) {
  return hn::Set(d, c0);
}
template <class D, class... C>
HWY_INLINE hn::Vec<D> polynomial(D d, hn::Vec<D> x, float c0, C... c) {
  return hn::MulAdd(polynomial(d, x, c...), x, hn::Set(d, c0));
}

/// e^x, about 1 ulp, with denormal and infinite results; NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<D> exp(D d, hn::Vec<D> x) {
  if constexpr (is_double<D>) {
    return per_lane(d, x, [](double v) { return std::exp(v); });
  } else {
    const hn::Rebind<std::int32_t, D> i32;
    // The second operand of Max and Min is the result if one is NaN.
    x = hn::Min(hn::Set(d, 89.0f), hn::Max(hn::Set(d, -104.0f), x));
    const auto n = hn::Round(hn::Mul(x, hn::Set(d, 1.44269504f)));
    // r = x - n log 2, log 2 in two parts of which the first has 9 trailing zero bits
    auto r = hn::NegMulAdd(n, hn::Set(d, 0.693145752f), x);
    r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6f), r);
    // (e^r - 1 - r) / r^2 on |r| <= log(2)/2, interpolated at Chebyshev nodes: error 7e-8
    const auto p = polynomial(d, r, 0.5f, 1.6666576998e-01f, 4.1666554628e-02f, 8.3631776300e-03f,
                              1.3926181810e-03f);
    const auto e = hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(d, 1.0f));
    // times 2^n in two steps, since 2^n itself may be denormal or infinite
    const auto k = hn::ConvertTo(i32, n);
    const auto half = hn::ShiftRight<1>(k), bias = hn::Set(i32, 127);
    const auto a = hn::ShiftLeft<23>(hn::Add(half, bias));
    const auto b = hn::ShiftLeft<23>(hn::Add(hn::Sub(k, half), bias));
    return hn::Mul(hn::Mul(e, hn::BitCast(d, a)), hn::BitCast(d, b));
  }
}

template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, hn::TFromD<D>(1));
  return hn::Div(one, hn::Add(one, exp(d, hn::Neg(x))));
}
/// x sigmoid(x)
template <class D>
HWY_INLINE hn::Vec<D> silu(D d, hn::Vec<D> x) {
  return hn::Mul(x, sigmoid(d, x));
}
template <class D>
HWY_INLINE hn::Vec<D> silu_derivative(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, hn::TFromD<D>(1));
  const auto s = sigmoid(d, x);
  return hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
}

/// log(1 + u) for 0 <= u <= 1, as 2 atanh(u / (2 + u)).
template <class D>
HWY_INLINE hn::Vec<D> log1p_unit(D d, hn::Vec<D> u) {
  const auto s = hn::Div(u, hn::Add(hn::Set(d, 2.0f), u));
  const auto z = hn::Mul(s, s);
  // (atanh(s)/s - 1) / s^2 on s^2 <= 1/9: error 4e-9
  const auto p = polynomial(d, z, 3.3333333660e-01f, 1.9999853166e-01f, 1.4296178997e-01f,
                            1.0853287901e-01f, 1.1612164611e-01f);
  const auto s2 = hn::Add(s, s);
  return hn::MulAdd(hn::Mul(s2, z), p, s2);
}

/// log(1 + e^x) as max(x, 0) + log(1 + e^-|x|): the identity above 20, where the second term is
/// less than half an ulp.
template <class D>
HWY_INLINE hn::Vec<D> softplus(D d, hn::Vec<D> x) {
  if constexpr (is_double<D>) {
    return per_lane(d, x, [](double v) { return math::softplus(v); });
  } else {
    const auto tail = log1p_unit(d, exp(d, hn::Neg(hn::Abs(x))));
    return hn::Add(hn::Max(hn::Zero(d), x), tail);
  }
}
template <class D>
HWY_INLINE hn::Vec<D> softplus_derivative(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, hn::TFromD<D>(1));
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, hn::TFromD<D>(20))), one, sigmoid(d, x));
}

template <class D>
HWY_INLINE hn::Vec<D> tanh(D d, hn::Vec<D> x) {
  if constexpr (is_double<D>) {
    return per_lane(d, x, [](double v) { return std::tanh(v); });
  } else {
    const auto a = hn::Abs(x), z = hn::Mul(x, x), one = hn::Set(d, 1.0f);
    // (tanh(x)/x - 1) / x^2 on |x| <= 0.6: error 1e-9
    const auto p = polynomial(d, z, -3.3333333231e-01f, 1.3333312867e-01f, -5.3961551782e-02f,
                              2.1788321999e-02f, -8.4100708002e-03f, 2.3707656345e-03f);
    const auto small = hn::MulAdd(hn::Mul(x, z), p, x);
    const auto large = hn::Sub(one, hn::Div(hn::Set(d, 2.0f), hn::Add(one, exp(d, hn::Add(a, a)))));
    return hn::IfThenElse(hn::Gt(a, hn::Set(d, 0.6f)), hn::CopySign(large, x), small);
  }
}

/// The error function, 2 ulp.
template <class D>
HWY_INLINE hn::Vec<D> erf(D d, hn::Vec<D> x) {
  if constexpr (is_double<D>) {
    return per_lane(d, x, [](double v) { return std::erf(v); });
  } else {
    const auto a = hn::Abs(x), z = hn::Mul(x, x);
    // erf(x)/x on |x| <= 1: error 1e-12
    const auto small =
        hn::Mul(x, polynomial(d, z, 1.1283791671e+00f, -3.7612638890e-01f, 1.1283791309e-01f,
                              -2.6866133233e-02f, 5.2237834699e-03f, -8.5426378534e-04f,
                              1.1956561037e-04f, -1.3909331641e-05f, 1.0589362242e-06f));
    // log(1 - erf(x)) on 1 <= x <= 4: error 2e-8; beyond 4, erf is 1
    const auto c = hn::Min(hn::Set(d, 4.0f), a);
    const auto q = polynomial(d, c, 3.2013805304e-04f, -1.1302334349e+00f, -6.3182605154e-01f,
                              -1.1008008297e-01f, 2.6421136017e-02f, -4.7595962971e-03f,
                              5.9680562646e-04f, -4.6058042783e-05f, 1.6371514193e-06f);
    const auto large = hn::Sub(hn::Set(d, 1.0f), exp(d, q));
    return hn::IfThenElse(hn::Gt(a, hn::Set(d, 1.0f)), hn::CopySign(large, x), small);
  }
}

/// The sum of all lanes, in an order fixed per target.
template <class D>
HWY_INLINE hn::TFromD<D> sum_of_lanes(D d, hn::Vec<D> v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();

#include "mlmamba/backend/cpu/simd/activation-inl.hpp"
