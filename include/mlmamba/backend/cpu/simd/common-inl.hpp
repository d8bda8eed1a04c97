// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What kernels are written with: loads and stores that widen and round; the mathematics is in
// math-inl.hpp.
//
// D is a Highway tag of float or double; an array may hold float, bf16 or double. Lanes behind the
// end of an array are zero when loaded and left alone when stored, and go through the same vector
// code as all others: the result for an element does not depend on where in the array it is.
#include <hwy/highway.h>

#include <concepts>
#include <type_traits>

#include "mlmamba/core/engine.hpp"

// The AVX3 pass also compiles levels with native dot products of int8 and of bf16 and with products
// of tiles, see level.hpp.
#undef MLMAMBA_SIMD_ZEN4
#undef MLMAMBA_SIMD_AMX
#if HWY_TARGET == HWY_AVX3 && (HWY_COMPILER_GCC_ACTUAL >= 1000 || HWY_COMPILER_CLANG >= 900)
#define MLMAMBA_SIMD_ZEN4 1
#define MLMAMBA_SIMD_HAS_ZEN4 1
#else
#define MLMAMBA_SIMD_ZEN4 0
#endif
#if MLMAMBA_SIMD_ZEN4 && defined(__x86_64__) && defined(__linux__) && \
    (HWY_COMPILER_GCC_ACTUAL >= 1100 || HWY_COMPILER_CLANG >= 1200)
#define MLMAMBA_SIMD_AMX 1
#define MLMAMBA_SIMD_HAS_AMX 1
#else
#define MLMAMBA_SIMD_AMX 0
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

/// The nearest even bf16 in the upper half of each number; the lower half is left over. A NaN stays
/// NaN if its own lower half is zero.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<std::uint32_t, D>> bf16_in_top(D, hn::Vec<D> v) {
  const hn::Rebind<std::uint32_t, D> u32;
  const auto bits = hn::BitCast(u32, v);
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  const auto odd = hn::TestBit(bits, hn::Set(u32, 0x10000));
  return hn::Add(bits, hn::IfThenElse(odd, hn::Set(u32, 0x8000), hn::Set(u32, 0x7fff)));
#else
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u32, 1));
  return hn::Add(bits, hn::Add(hn::Set(u32, 0x7fff), odd));
#endif
}
/// The same as elements; NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<std::uint16_t, D>> round_bf16(D d, hn::Vec<D> v) {
  const hn::Rebind<std::uint16_t, D> u16;
  const hn::Rebind<std::uint32_t, D> u32;
  const hn::Rebind<std::int32_t, D> i32;
  const auto quiet = hn::Or(hn::BitCast(u32, v), hn::Set(u32, 0x400000));
  const auto rounded = hn::IfThenElse(hn::RebindMask(u32, hn::Eq(v, v)), bf16_in_top(d, v), quiet);
  const auto top = hn::ShiftRight<16>(rounded);
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

/// v as it is from here on: computed before, loaded once (as memory operands of several
/// instructions the loads, not the multiplications, would set the pace), in no fused operation with
/// what follows. GCC only: clang 14 refuses the constraint for a reference ("tied indirect register
/// inputs").
template <class V>
HWY_INLINE void in_register([[maybe_unused]] V& v) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_COMPILER_GCC_ACTUAL
  asm("" : "+v"(v.raw));
#endif
}

/// The sum of all lanes, in an order fixed per target.
template <class D>
HWY_INLINE hn::TFromD<D> sum_of_lanes(D d, hn::Vec<D> v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();

#include "mlmamba/backend/cpu/simd/math-inl.hpp"
//
#include "mlmamba/backend/cpu/simd/activation-inl.hpp"
