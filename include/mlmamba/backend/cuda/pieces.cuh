// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Elements in groups that one instruction moves: what kernels limited by memory read and write.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/elementwise.hpp"

namespace mlmamba::backend::kernels {

/// `Count` elements that lie together and are aligned to all of their bytes (4, 8 or 16).
template <class T, int Count = 16 / int(sizeof(T))>
struct alignas(Count * sizeof(T)) piece {
  static constexpr int count = Count;
  T at[Count];
};

/// Reads a piece as numbers of type A.
template <int Count, class A, class T>
__device__ void read_piece(A (&to)[Count], const T* from) {
  constexpr int most = 16 / int(sizeof(T)), step = Count < most ? Count : most;
#pragma unroll
  for (int k = 0; k < Count; k += step) {
    const auto p = *reinterpret_cast<const piece<T, step>*>(from + k);
#pragma unroll
    for (int i = 0; i < step; ++i) to[k + i] = A(p.at[i]);
  }
}
template <int Count, class A, class T>
__device__ void write_piece(T* to, const A (&from)[Count]) {
  constexpr int most = 16 / int(sizeof(T)), step = Count < most ? Count : most;
#pragma unroll
  for (int k = 0; k < Count; k += step) {
    piece<T, step> p;
#pragma unroll
    for (int i = 0; i < step; ++i) p.at[i] = T(from[k + i]);
    *reinterpret_cast<piece<T, step>*>(to + k) = p;
  }
}

/// Can pieces of `count` elements be read from it, wherever a multiple of them along the last axis
/// is? An empty view can.
template <class T, int R>
bool in_pieces(const view<T, R, memory::device>& v, int count = 16 / int(sizeof(T))) {
  if (!v) return true;
  const std::size_t bytes = std::min<std::size_t>(std::size_t(count) * sizeof(T), 16);
  bool yes = reinterpret_cast<std::uintptr_t>(v.data) % bytes == 0 && v.size[R - 1] % count == 0 &&
             v.stride[R - 1] == 1;
  for (int i = 0; i + 1 < R; ++i) yes = yes && v.stride[i] % count == 0;
  return yes;
}

/// The halves of a word of two V, as floats.
template <class V>
__device__ float low_of(unsigned v) {
  static_assert(is_16_bit<V>);
  if constexpr (std::is_same_v<V, f16>) {
    f16 low;
    low.bits = std::uint16_t(v);
    return low;
  } else {  // a bf16 is the upper half of a float
    return __uint_as_float(v << 16);
  }
}
template <class V>
__device__ float high_of(unsigned v) {
  if constexpr (std::is_same_v<V, f16>) {
    return low_of<f16>(v >> 16);
  } else {
    return __uint_as_float(v & 0xffff0000u);
  }
}

/// 2^x and 1 / x, one instruction each; results below the smallest normal number are zero.
__device__ inline float power_of_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float quick_inverse(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}
/// 1 / (1 + exp(-x)), to about 22 bits.
__device__ inline float quick_sigmoid(float x) {
  return quick_inverse(1.0f + power_of_2(-1.44269504f * x));
}

/// Phi(x), the normal distribution, to 1e-7: Abramowitz and Stegun 7.1.26.
__device__ inline float quick_normal(float x) {
  const float t = quick_inverse(multiply_add(0.23164188f, fabsf(x), 1.0f));
  float p = multiply_add(0.530702716f, t, -0.726576015f);
  p = multiply_add(p, t, 0.7107068705f);
  p = multiply_add(p, t, -0.142248368f);
  p = multiply_add(p, t, 0.127414796f) * t * power_of_2(-0.72134752f * x * x);
  return x < 0 ? p : 1.0f - p;
}

/// x / (1 + exp(-x)), in the precision that a result of type V keeps.
template <class V, class A>
__device__ A silu_as(A x) {
  if constexpr (is_16_bit<V> && std::is_same_v<A, float>) {
    return x * quick_sigmoid(x);
  } else {
    return apply_activation(activation::silu, x);
  }
}
/// The same of any activation.
template <class V, class A>
__device__ A activation_as(activation a, A x) {
  if constexpr (is_16_bit<V> && std::is_same_v<A, float>) {
    switch (a) {
      case activation::silu:
        return x * quick_sigmoid(x);
      case activation::gelu:
        if constexpr (std::is_same_v<V, f16>) break;  // would see the error far below zero
        return x * quick_normal(x);
      case activation::gelu_tanh:  // (1 + tanh u) / 2 = sigmoid(2 u)
        return x * quick_sigmoid(1.5957691216f * multiply_add(0.044715f * x, x * x, x));
      case activation::quick_gelu:
        return x * quick_sigmoid(1.702f * x);
      default:
        break;
    }
  }
  return apply_activation(a, x);
}

/// 1 / (1 + exp(-x)), the same way.
template <class V, class A>
__device__ A sigmoid_as(A x) {
  if constexpr (is_16_bit<V> && std::is_same_v<A, float>) {
    return quick_sigmoid(x);
  } else {
    return A(1) / (A(1) + math::exp(-x));
  }
}
/// The derivative of SiLU.
template <class V, class A>
__device__ A silu_slope_as(A x) {
  if constexpr (is_16_bit<V> && std::is_same_v<A, float>) {
    const float s = quick_sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
  } else {
    return activation_derivative(activation::silu, x);
  }
}

/// Sums of Count numbers of each lane over `Lanes` neighbours (powers of 2): of these, lane l gets
/// the sum of number l / (Lanes / Count), in a fixed order.
template <int Lanes = warp_size, int Count, class A>
__device__ A warp_sums(A (&v)[Count]) {
  const int lane = lane_index();
#pragma unroll
  for (int k = Count / 2, o = Lanes / 2; k >= 1; k /= 2, o /= 2) {
    const bool upper = lane & o;
#pragma unroll
    for (int i = 0; i < k; ++i) {
      const A keep = upper ? v[i + k] : v[i], give = upper ? v[i] : v[i + k];
      v[i] = keep + __shfl_xor_sync(all_lanes, give, o);
    }
  }
  return warp_sum<Lanes / Count>(v[0]);
}

}  // namespace mlmamba::backend::kernels
