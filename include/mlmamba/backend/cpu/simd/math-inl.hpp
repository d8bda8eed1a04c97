// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Mathematical functions of vectors.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

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

/// max(least, x) and min(most, x); NaN stays NaN. Of x86's instructions the second operand is the
/// result if one is NaN, of others' (and what Highway emulates) the one that is a number.
template <class V>
HWY_INLINE V at_least(V least, V x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  return hn::Max(least, x);
#else
  return hn::IfThenElse(hn::Gt(least, x), least, x);
#endif
}
template <class V>
HWY_INLINE V at_most(V most, V x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  return hn::Min(most, x);
#else
  return hn::IfThenElse(hn::Gt(x, most), most, x);
#endif
}

/// c0 + c1 x + c2 x^2 + ... by Horner's rule.
template <class D>
HWY_INLINE hn::Vec<D> polynomial(D d, hn::Vec<D>, float c0) {
  return hn::Set(d, c0);
}
template <class D, class... C>
HWY_INLINE hn::Vec<D> polynomial(D d, hn::Vec<D> x, float c0, C... c) {
  return hn::MulAdd(polynomial(d, x, c...), x, hn::Set(d, c0));
}

#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
HWY_INLINE hn::Vec512<float> times_power_of_two(hn::Vec512<float> v, hn::Vec512<float> n) {
  return hn::Vec512<float>{_mm512_scalef_ps(v.raw, n.raw)};
}
HWY_INLINE hn::Vec256<float> times_power_of_two(hn::Vec256<float> v, hn::Vec256<float> n) {
  return hn::Vec256<float>{_mm256_scalef_ps(v.raw, n.raw)};
}
template <std::size_t N>
HWY_INLINE hn::Vec128<float, N> times_power_of_two(hn::Vec128<float, N> v, hn::Vec128<float, N> n) {
  return hn::Vec128<float, N>{_mm_scalef_ps(v.raw, n.raw)};
}
#else
/// v 2^n for whole n, |n| <= 252, rounded once if v is 1 or so. In two steps, since 2^n itself may
/// be denormal or infinite.
template <class V>
HWY_INLINE V times_power_of_two(V v, V n) {
  const hn::DFromV<V> d;
  const hn::Rebind<std::int32_t, hn::DFromV<V>> i32;
  const auto k = hn::ConvertTo(i32, n);
  const auto half = hn::ShiftRight<1>(k), bias = hn::Set(i32, 127);
  const auto a = hn::ShiftLeft<23>(hn::Add(half, bias));
  const auto b = hn::ShiftLeft<23>(hn::Add(hn::Sub(k, half), bias));
  return hn::Mul(hn::Mul(v, hn::BitCast(d, a)), hn::BitCast(d, b));
}
#endif

/// (e^r - 1 - r) / r^2 on |r| <= log(2)/2, interpolated at Chebyshev nodes, makes e^r: error 1e-8
template <class D>
HWY_INLINE hn::Vec<D> exp_near_zero(D d, hn::Vec<D> r) {
  return polynomial(d, r, 1.0f, 1.0f, 0.5f, 1.6666576998e-01f, 4.1666554628e-02f, 8.3631776300e-03f,
                    1.3926181810e-03f);
}
/// e^x, about 1 ulp, with denormal and infinite results; NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<D> exp(D d, hn::Vec<D> x) {
  if constexpr (is_double<D>) {
    return per_lane(d, x, [](double v) { return std::exp(v); });
  } else {
    x = at_most(hn::Set(d, 89.0f), at_least(hn::Set(d, -104.0f), x));
    // n = x / log 2, rounded: beside 3 2^22 there is no room for a fraction
    const auto shift = hn::Set(d, 12582912.0f);
    const auto n = hn::Sub(hn::MulAdd(x, hn::Set(d, 1.44269504f), shift), shift);
    // r = x - n log 2, log 2 in two parts of which the first has 9 trailing zero bits
    auto r = hn::NegMulAdd(n, hn::Set(d, 0.693145752f), x);
    r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6f), r);
    return times_power_of_two(exp_near_zero(d, r), n);
  }
}

/// 1 / (1 + e^-x): 2 ulp, 3 below -10 and 5 below -40; 0 below -88.4, where it would be denormal.
/// NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, hn::TFromD<D>(1));
  if constexpr (is_double<D>) {
    return hn::Div(one, hn::Add(one, exp(d, hn::Neg(x))));
  } else {
    // As exp(-x), with n + 127 in the low bits of the sum that rounds: shifted to the exponent they
    // are 2^n, 0 for n = -127 and infinite for n = 128.
    const hn::Rebind<std::int32_t, D> i32;
    x = at_most(hn::Set(d, 88.0f), at_least(hn::Set(d, -89.0f), x));
    const auto shift = hn::Set(d, 12582912.0f + 127.0f);
    const auto sum = hn::MulAdd(x, hn::Set(d, -1.44269504f), shift);
    const auto n = hn::Sub(sum, shift);
#if HWY_NATIVE_FMA
    const auto r = hn::NegMulSub(n, hn::Set(d, 0.69314718056f), x);
#else
    const auto r =
        hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6f), hn::NegMulSub(n, hn::Set(d, 0.693145752f), x));
#endif
    const auto power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(i32, sum)));
    return hn::Div(one, hn::MulAdd(exp_near_zero(d, r), power, one));
  }
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

// ------------------------------------------------------------ for results that are stored as bf16
//
// A result that is rounded to 8 bits needs no activation of 24. With t = -x log2(e) = n + f,
//
//   e^-x = 2^n p(f)               p is within 2^-18.5 of 2^f if of degree 4, 2^-13.7 if of 3;
//                                 that t is rounded adds 2^-18 where x is largest
//   sigmoid(x) = 1 / (1 + e^-x)   on AVX-512 from its table, within 2^-14, and for derivatives a
//                                 step of Newton's, 2^-22; others divide
//
// On AVX-512 SiLU, with degree 3 and the table alone, is within 2^-12.8 of itself: a fourteenth of
// what rounding may add, 2^-9. Elsewhere degree 3 would save little beside the division: 2^-17. The
// derivative has degree 4 and the step, and takes 1 - sigmoid(x) to be e^-x sigmoid(x): the
// difference would cancel.
// Both are 0 where e^-x is infinite; NaN stays NaN.

#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
/// e^-x, infinite from about -88 down, 0 from 104 up
template <int degree>
HWY_INLINE hn::Vec512<float> quick_exp_of_minus(hn::Full512<float> d, hn::Vec512<float> x) {
  const auto t = hn::Mul(x, hn::Set(d, -1.44269504f));
  const hn::Vec512<float> f{_mm512_reduce_ps(t.raw, 9)};  // t - floor(t); t may be infinite
  const auto p =
      degree == 3
          ? polynomial(d, f, 0.999925219f, 0.695833541f, 0.226067155f, 0.0780245227f)
          : polynomial(d, f, 1.00000259f, 0.693003834f, 0.241442757f, 0.0520114606f, 0.0135341679f);
  return times_power_of_two(p, t);  // by 2^floor(t)
}
HWY_INLINE hn::Vec512<float> inverse_of_table(hn::Full512<float>, hn::Vec512<float> x) {
  return hn::Vec512<float>{_mm512_rcp14_ps(x.raw)};
}
HWY_INLINE hn::Vec512<float> quick_inverse(hn::Full512<float>, hn::Vec512<float> x) {
  const __m512 r = _mm512_rcp14_ps(x.raw), one = _mm512_set1_ps(1.0f);
  // one step of Newton's, but not from infinity, whose inverse is 0 already
  const __mmask16 finite =
      _mm512_cmp_ps_mask(x.raw, _mm512_set1_ps(std::numeric_limits<float>::infinity()), _CMP_LT_OQ);
  return hn::Vec512<float>{_mm512_mask_fmadd_ps(r, finite, _mm512_fnmadd_ps(x.raw, r, one), r)};
}
#else
template <int, class D>
HWY_INLINE hn::Vec<D> quick_exp_of_minus(D d, hn::Vec<D> x) {
  const hn::Rebind<std::int32_t, D> i32;
  x = at_most(hn::Set(d, 88.0f), at_least(hn::Set(d, -89.0f), x));
  const auto shift = hn::Set(d, 12582912.0f + 127.0f);  // as in sigmoid
  const auto t = hn::Mul(x, hn::Set(d, -1.44269504f));
  const auto sum = hn::Add(t, shift);
  const auto f = hn::Sub(t, hn::Sub(sum, shift));
  const auto p =
      polynomial(d, f, 0.999999261f, 0.693121815f, 0.240247448f, 0.0559178603f, 0.00957010191f);
  return hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(i32, sum))));
}
template <class D>
HWY_INLINE hn::Vec<D> quick_inverse(D d, hn::Vec<D> x) {
  return hn::Div(hn::Set(d, 1.0f), x);
}
template <class D>
HWY_INLINE hn::Vec<D> inverse_of_table(D d, hn::Vec<D> x) {
  return quick_inverse(d, x);
}
#endif

/// Of numbers that are rounded to T before anything else sees them.
template <class T, class D>
HWY_INLINE hn::Vec<D> silu_as(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<T, bf16>) {
    const auto e = quick_exp_of_minus<3>(d, x);
    return hn::Mul(x, inverse_of_table(d, hn::Add(e, hn::Set(d, 1.0f))));
  } else {
    return silu(d, x);
  }
}
/// Within 2^-13 of the larger of itself and sigmoid(x), or 1e-35.
template <class T, class D>
HWY_INLINE hn::Vec<D> silu_derivative_as(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<T, bf16>) {
    x = at_least(hn::Set(d, -87.0f), x);  // e stays finite
    const auto one = hn::Set(d, 1.0f), e = quick_exp_of_minus<4>(d, x);
    const auto s = quick_inverse(d, hn::Add(e, one));
    return hn::Mul(s, hn::MulAdd(x, hn::Mul(e, s), one));
  } else {
    return silu_derivative(d, x);
  }
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
    return hn::Add(at_least(hn::Zero(d), x), tail);
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

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
