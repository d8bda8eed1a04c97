// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix product kernels: steps, results, and the ways to multiply of each level.

#include "mlmamba/backend/cpu/simd/gemm_pack-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

/// s += x b, one k per step.
template <class A>
struct float_step {
  using sum = A;
  using unit = A;
  using units = float_units;
  using V = hn::Vec<hn::ScalableTag<A>>;
  static HWY_INLINE void multiply(A x, V b, V& s) {
    s = hn::MulAdd(hn::Set(hn::ScalableTag<A>(), x), b, s);
  }
  static HWY_INLINE void multiply(A x, V b0, V b1, V& s0, V& s1) {
    const V v = hn::Set(hn::ScalableTag<A>(), x);
    s0 = hn::MulAdd(v, b0, s0);
    s1 = hn::MulAdd(v, b1, s1);
  }
};

template <class Y>
struct gemm_to {
  using A = accum_t<Y>;
  using D = tag_for<Y>;
  static void fetch(const gemm_job& job, index_t m0, index_t rows, index_t n0, index_t columns) {
    constexpr index_t line = 64 / index_t(sizeof(Y));
    for (index_t i = 0; i < rows; ++i) {
      Y* y = static_cast<Y*>(job.y) + (m0 + i) * job.y_stride + n0;
      for (index_t j = 0; j < columns; j += line) fetch_to_write(y + j);
      fetch_to_write(y + columns - 1);
    }
  }
  static void start(const gemm_job& job, index_t m0, index_t rows, index_t n0, index_t columns,
                    void* sums, index_t width) {
    const D d;
    A* c = static_cast<A*>(sums);
    for (index_t i = 0; i < job.height * width; ++i) c[i] = 0;
    for (index_t i = 0; i < rows; ++i) {
      const Y* y = static_cast<const Y*>(job.y) + (m0 + i) * job.y_stride + n0;
      for_each_vector(d, columns, [&](auto part, index_t j) HWY_ATTR {
        hn::StoreU(part.load(d, y + j), d, c + i * width + j);
      });
    }
  }
  static void finish(const gemm_job& job, index_t m0, index_t rows, index_t n0, index_t columns,
                     void* sums, index_t width) {
    const D d;
    A* c = static_cast<A*>(sums);
    if (job.bias) {
      const A* bias = static_cast<const A*>(job.bias) + n0;
      for_each_vector(d, columns, [&](auto part, index_t j) HWY_ATTR {
        const auto b = part.load(d, bias + j);
        for (index_t i = 0; i < rows; ++i) {
          A* at = c + i * width + j;
          hn::StoreU(hn::Add(hn::LoadU(d, at), b), d, at);
        }
      });
    }
    if (job.pre_activation)
      put(job.pre_activation, job.pre_stride, m0, rows, n0, columns, c, width);
    if (job.activation != activation::none) activate_block(job.activation, c, rows * width);
    put(job.y, job.y_stride, m0, rows, n0, columns, c, width);
  }
  static void put(void* to, index_t stride, index_t m0, index_t rows, index_t n0, index_t columns,
                  const A* c, index_t width) {
    const D d;
    for (index_t i = 0; i < rows; ++i) {
      Y* y = static_cast<Y*>(to) + (m0 + i) * stride + n0;
      for_each_vector(d, columns, [&](auto part, index_t j) HWY_ATTR {
        part.store(hn::LoadU(d, c + i * width + j), d, y + j);
      });
    }
  }
  static gemm_results results() { return {&fetch, &start, &finish}; }
};

#include "mlmamba/backend/cpu/simd/gemm_tile-inl.hpp"
//
#include "mlmamba/backend/cpu/simd/gemm_stream-inl.hpp"

template <class X, class W>
gemm_path_of<X, W> kernels_for(wanted<gemm_path_of<X, W>>) {
  using A = accum_t<X>;
  static_assert(std::is_same_v<A, accum_t<W>>, "gemm: double goes with double only");
  using heights = std::conditional_t<std::is_same_v<A, double>, double_heights, float_heights>;
  gemm_path_of<X, W> p{gemm_way<float_step<A>, heights, X, W>::path()};
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<A, float>) add_stream<float_step<A>, W>(p);
#endif
  return p;
}
template <class Y>
gemm_results_of<Y> kernels_for(wanted<gemm_results_of<Y>>) {
  return {gemm_to<Y>::results()};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();

#if MLMAMBA_SIMD_ZEN4
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16")
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace zen4 {

/// s += x[0] b[0] + x[1] b[1], two neighbouring k of bf16 per step, by vdpbf16ps (which takes
/// denormal numbers for zero).
struct pair_step {
  using sum = float;
  using unit = std::uint32_t;
  using units = pair_units;
  using V = hn::Vec<hn::ScalableTag<float>>;
  static HWY_INLINE void multiply(std::uint32_t x, word_vector b, V& s) {
    s.raw = _mm512_dpbf16_ps(s.raw, __m512bh(_mm512_set1_epi32(int(x))), __m512bh(b.raw));
  }
  static HWY_INLINE void multiply(std::uint32_t x, word_vector b0, word_vector b1, V& s0, V& s1) {
    const __m512i v = _mm512_set1_epi32(int(x));
    s0.raw = _mm512_dpbf16_ps(s0.raw, __m512bh(v), __m512bh(b0.raw));
    s1.raw = _mm512_dpbf16_ps(s1.raw, __m512bh(v), __m512bh(b1.raw));
  }
};

#include "mlmamba/backend/cpu/simd/gemm_tile-inl.hpp"
//
#include "mlmamba/backend/cpu/simd/gemm_stream-inl.hpp"

template <std::same_as<bf16> X>
gemm_path_of<X, bf16> kernels_for(wanted<gemm_path_of<X, bf16>>) {
  gemm_path_of<X, bf16> p{gemm_way<pair_step, float_heights, X, bf16>::path()};
  add_stream<pair_step, bf16>(p);
  return p;
}

}  // namespace zen4
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif

#include "mlmamba/backend/cpu/simd/gemm_amx-inl.hpp"
