// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Scalars: bf16 and f16 storage types, accumulation types, and the scalar functions of all
// backends.
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#if defined(__CUDACC__)
#define MLMAMBA_HD __host__ __device__
#else
#define MLMAMBA_HD
#endif

namespace mlmamba {

namespace detail {
MLMAMBA_HD inline std::uint32_t float_bits(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  return std::bit_cast<std::uint32_t>(x);
#endif
}
MLMAMBA_HD inline float float_from_bits(std::uint32_t b) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(b);
#else
  return std::bit_cast<float>(b);
#endif
}
}  // namespace detail

/// The upper half of a float: 8 bits of exponent, 8 of precision. Conversion rounds to nearest
/// even.
struct bf16 {
  std::uint16_t bits;

  bf16() = default;
  MLMAMBA_HD bf16(float x) : bits(round(x)) {}
  MLMAMBA_HD operator float() const { return detail::float_from_bits(std::uint32_t{bits} << 16); }

  MLMAMBA_HD static std::uint16_t round(float x) {
#if defined(__CUDA_ARCH__)  // one instruction, from sm_80 on
    std::uint16_t to_nearest;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to_nearest) : "f"(x));
    return to_nearest;
#endif
    const std::uint32_t b = detail::float_bits(x);
    if ((b & 0x7fffffffu) > 0x7f800000u) return std::uint16_t((b >> 16) | 0x40u);  // quiet NaN
    return std::uint16_t((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
  }
};
static_assert(sizeof(bf16) == 2 && std::is_trivially_copyable_v<bf16>);

/// IEEE half precision: 5 bits of exponent, 11 of precision. Conversion rounds to nearest even;
/// from 65520 on it gives infinity, and below 2^-14 it keeps multiples of 2^-24.
struct f16 {
  std::uint16_t bits;

  f16() = default;
  MLMAMBA_HD f16(float x) : bits(round(x)) {}
  MLMAMBA_HD operator float() const {
#if defined(__CUDA_ARCH__)
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
#endif
    const std::uint32_t sign = std::uint32_t(bits & 0x8000u) << 16, e = (bits >> 10) & 31u;
    const std::uint32_t m = bits & 0x3ffu;
    if (e == 31) return detail::float_from_bits(sign | 0x7f800000u | (m << 13));
    if (e == 0) {  // zero or subnormal: m * 2^-24
      const float v = float(m) * 5.9604644775390625e-8f;
      return sign ? -v : v;
    }
    return detail::float_from_bits(sign | ((e + 112) << 23) | (m << 13));
  }

  MLMAMBA_HD static std::uint16_t round(float x) {
#if defined(__CUDA_ARCH__)
    std::uint16_t to_nearest;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to_nearest) : "f"(x));
    return to_nearest;
#endif
    const std::uint32_t b = detail::float_bits(x), sign = (b >> 16) & 0x8000u;
    const std::uint32_t a = b & 0x7fffffffu;
    if (a > 0x7f800000u) return std::uint16_t(sign | 0x7e00u);
    if (a >= 0x477ff000u) return std::uint16_t(sign | 0x7c00u);  // rounds to 65536 or more
    if (a < 0x33000001u) return std::uint16_t(sign);  // at most 2^-25: a tie goes to zero
    const std::uint32_t e = a >> 23;
    const std::uint32_t m = (a & 0x7fffffu) | 0x800000u;
    const std::uint32_t shift = e < 113 ? 126 - e : 13;  // subnormal halves lose more bits
    std::uint32_t h = e < 113 ? m >> shift : (a - 0x38000000u) >> 13;
    const std::uint32_t rest = m & ((1u << shift) - 1), half = 1u << (shift - 1);
    if (rest > half || (rest == half && (h & 1u))) ++h;
    return std::uint16_t(sign | h);
  }
};
static_assert(sizeof(f16) == 2 && std::is_trivially_copyable_v<f16>);

template <class T>
inline constexpr bool is_16_bit = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

/// Complex numbers are known by their members: <complex> is for those who use them, as it includes
/// streams, which take every file a tenth of a second.
template <class T>
concept complex_number = requires(const T& x) {
  typename T::value_type;
  x.real();
  x.imag();
};

/// The type in which sums of `T` are kept, and the real type below it.
template <class T>
struct scalar_traits {
  using accum = T;
  using real = T;
};
template <>
struct scalar_traits<bf16> {
  using accum = float;
  using real = float;
};
template <>
struct scalar_traits<f16> {
  using accum = float;
  using real = float;
};
template <complex_number T>
struct scalar_traits<T> {
  using accum = T;
  using real = typename T::value_type;
};
template <class T>
using accum_t = typename scalar_traits<T>::accum;
template <class T>
using real_t = typename scalar_traits<T>::real;

/// What activations may be stored as: float, double, bf16, f16, complex numbers.
template <class T>
concept element = std::floating_point<real_t<T>>;

#if defined(__CUDACC__)  // on the host these are instantiated with complex numbers too
#pragma nv_diagnostic push
#pragma nv_diag_suppress 20011, 20013, 20014, 20015
#endif

/// Scalar functions. On complex numbers they are the analytic continuation to first order in the
/// imaginary part, which is all that the complex step (imaginary part 1e-20) needs: comparisons
/// look at the real part only.
namespace math {

template <class T>
inline constexpr bool is_complex = complex_number<T>;

template <class T>
MLMAMBA_HD inline auto real(const T& x) {
  if constexpr (is_complex<T>) {
    return x.real();
  } else {
    return x;
  }
}

template <class T>
MLMAMBA_HD inline T exp(const T& x) {
  using std::exp;
  return exp(x);
}
template <class T>
MLMAMBA_HD inline T log(const T& x) {
  using std::log;
  return log(x);
}
template <class T>
MLMAMBA_HD inline T sqrt(const T& x) {
  using std::sqrt;
  return sqrt(x);
}
template <class T>
MLMAMBA_HD inline T tanh(const T& x) {
  using std::tanh;
  return tanh(x);
}
// Functions of their own: inside the ones below nvcc would warn where no pragma reaches.
template <complex_number T>
T complex_log1p(const T& x) {
  return {std::log1p(x.real()), x.imag() / (1 + x.real())};
}
template <complex_number T>
T complex_erf(const T& x) {
  using R = real_t<T>;
  const R slope =
      R(1.1283791670955125739) * std::exp(-x.real() * x.real());  // 2/sqrt(pi) exp(-x^2)
  return {std::erf(x.real()), slope * x.imag()};
}
template <class T>
MLMAMBA_HD inline T log1p(const T& x) {
  if constexpr (is_complex<T>) {
    return complex_log1p(x);
  } else {
    using std::log1p;
    return log1p(x);
  }
}
template <class T>
MLMAMBA_HD inline T erf(const T& x) {
  if constexpr (is_complex<T>) {
    return complex_erf(x);
  } else {
    using std::erf;
    return erf(x);
  }
}

template <class T>
MLMAMBA_HD inline T sigmoid(const T& x) {
  if (real(x) >= 0) return T(1) / (T(1) + exp(-x));
  const T e = exp(x);  // never exp of a large positive number
  return e / (T(1) + e);
}

/// log(1 + exp(x)); the identity above 20, as everywhere in this field.
template <class T>
MLMAMBA_HD inline T softplus(const T& x) {
  return real(x) > 20 ? x : log1p(exp(x));
}
template <class T>
MLMAMBA_HD inline T softplus_derivative(const T& x) {
  return real(x) > 20 ? T(1) : sigmoid(x);
}

}  // namespace math

enum class activation : std::uint8_t { none, silu, gelu, gelu_tanh, quick_gelu, relu };

inline const char* to_string(activation a) {
  switch (a) {
    case activation::none:
      return "none";
    case activation::silu:
      return "silu";
    case activation::gelu:
      return "gelu";
    case activation::gelu_tanh:
      return "gelu_tanh";
    case activation::quick_gelu:
      return "quick_gelu";
    case activation::relu:
      return "relu";
  }
  return "?";
}

/// silu: x sigmoid(x).  gelu: x Phi(x), exact.  gelu_tanh: its tanh approximation.
/// quick_gelu: x sigmoid(1.702 x).  relu: max(x, 0).
template <class T>
MLMAMBA_HD inline T apply_activation(activation a, const T& x) {
  using R = real_t<T>;
  switch (a) {
    case activation::silu:
      return x * math::sigmoid(x);
    case activation::gelu:
      return x * (T(R(0.5)) * (T(1) + math::erf(x * T(R(0.70710678118654752440)))));
    case activation::gelu_tanh: {
      const T u = T(R(0.79788456080286535588)) * (x + T(R(0.044715)) * x * x * x);
      return T(R(0.5)) * x * (T(1) + math::tanh(u));
    }
    case activation::quick_gelu:
      return x * math::sigmoid(T(R(1.702)) * x);
    case activation::relu:
      return math::real(x) > 0 ? x : T(0);
    case activation::none:
      break;
  }
  return x;
}

/// The derivative of `apply_activation(a, x)` by x.
template <class T>
MLMAMBA_HD inline T activation_derivative(activation a, const T& x) {
  using R = real_t<T>;
  switch (a) {
    case activation::silu: {
      const T s = math::sigmoid(x);
      return s * (T(1) + x * (T(1) - s));
    }
    case activation::gelu: {
      const T phi = T(R(0.39894228040143267794)) * math::exp(T(R(-0.5)) * x * x);
      return T(R(0.5)) * (T(1) + math::erf(x * T(R(0.70710678118654752440)))) + x * phi;
    }
    case activation::gelu_tanh: {
      const R c = R(0.79788456080286535588), k = R(0.044715);
      const T t = math::tanh(T(c) * (x + T(k) * x * x * x));
      return T(R(0.5)) * (T(1) + t) +
             T(R(0.5)) * x * (T(1) - t * t) * T(c) * (T(1) + T(3 * k) * x * x);
    }
    case activation::quick_gelu: {
      const T s = math::sigmoid(T(R(1.702)) * x);
      return s * (T(1) + T(R(1.702)) * x * (T(1) - s));
    }
    case activation::relu:
      return math::real(x) > 0 ? T(1) : T(0);
    case activation::none:
      break;
  }
  return T(1);
}

#if defined(__CUDACC__)
#pragma nv_diagnostic pop
#endif

}  // namespace mlmamba
