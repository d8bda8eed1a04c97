// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Kernels of products with weights of 8 and 4 bits. All sums in a group are exact, and a group is
// added by one fused multiply-add, so every level gives the same bits.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

/// a b + c, rounded once also where the processor has no such instruction.
template <class D>
HWY_INLINE hn::Vec<D> fused(D d, hn::Vec<D> a, hn::Vec<D> b, hn::Vec<D> c) {
#if HWY_NATIVE_FMA
  (void)d;
  return hn::MulAdd(a, b, c);
#else
  float x[hn::MaxLanes(D())], y[hn::MaxLanes(D())], z[hn::MaxLanes(D())];
  hn::StoreU(a, d, x), hn::StoreU(b, d, y), hn::StoreU(c, d, z);
  for (index_t i = 0; i < lanes(d); ++i) z[i] = std::fma(x[i], y[i], z[i]);
  return hn::LoadU(d, z);
#endif
}

/// sum += four unsigned bytes of each lane of w times the four signed ones at x.
struct plain_dot {
  using DI = hn::ScalableTag<std::int32_t>;
  using V = hn::Vec<DI>;
  using sum = V;
  static HWY_INLINE sum start(std::int32_t v) { return hn::Set(DI(), v); }
  static HWY_INLINE V value(sum s) { return s; }
  static HWY_INLINE void add(const std::int8_t* x, V w0, V w1, V& s0, V& s1) {
    const DI d;
    const hn::ScalableTag<std::uint32_t> du;
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
    // Products of even and of odd bytes, as 16 bits, two at a time.
    const hn::Repartition<std::int16_t, DI> d16;
    std::int32_t four;
    std::memcpy(&four, x, 4);
    const auto all = hn::BitCast(d16, hn::Set(d, four));
    const auto odd = hn::ShiftRight<8>(all), even = hn::ShiftRight<8>(hn::ShiftLeft<8>(all));
    auto one = [&](V w, V& s) HWY_ATTR {
      const auto low = hn::BitCast(d16, hn::And(w, hn::Set(d, 0x00ff00ff)));
      const auto high = hn::BitCast(
          d16, hn::And(hn::ShiftRight<8>(hn::BitCast(du, w)), hn::Set(du, 0x00ff00ffu)));
      V unused = hn::Zero(d);
      s = hn::ReorderWidenMulAccumulate(d, low, even, s, unused);
      s = hn::ReorderWidenMulAccumulate(d, high, odd, s, unused);
    };
#else
    auto one = [&](V w, V& s) HWY_ATTR {
      const auto u = hn::BitCast(du, w);
      const auto byte = hn::Set(du, 0xffu);
      const auto term = [&](auto v, int i) HWY_ATTR {
        s = hn::Add(s, hn::Mul(hn::BitCast(d, hn::And(v, byte)), hn::Set(d, int(x[i]))));
      };
      term(u, 0), term(hn::ShiftRight<8>(u), 1);
      term(hn::ShiftRight<16>(u), 2), term(hn::ShiftRight<24>(u), 3);
    };
#endif
    one(w0, s0), one(w1, s1);
  }
};

/// What a block of many rows fetches with a piece of k.
HWY_INLINE void fetch_piece(const quantised_job& job, std::uintptr_t& ahead) {
  for (index_t i = 0; i < job.ahead_lines && ahead < job.ahead_end; ++i, ahead += 64)
    prefetch_to_l2(ahead);
}

#include "mlmamba/backend/cpu/simd/packed_gemm_tile-inl.hpp"

template <std::same_as<quantised_entries> Entries>
Entries kernels_for(wanted<Entries>) {
  return quantised_heights<plain_dot, 4, 2, 1>::entries(4);
}

/// The bits of the largest magnitude of x. As integers magnitudes are in the same order, and what
/// is not finite comes last.
template <class X>
HWY_INLINE std::int32_t most_bits(const X* x, index_t count) {
  const hn::ScalableTag<float> d;
  const hn::ScalableTag<std::int32_t> di;
  auto most = hn::Zero(di);
  for_each_vector(d, count, [&](auto part, index_t i) HWY_ATTR {
    fetch(x + i + 4096 / sizeof(X));
    most = hn::Max(most, hn::BitCast(di, hn::Abs(part.load(d, x + i))));
  });
  return hn::GetLane(hn::MaxOfLanes(di, most));
}

/// The nearest integers, ties to even, of magnitudes below 2^22.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<std::int32_t, D>> nearest_small(D d, hn::Vec<D> v) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_COMPILER_GCC_ACTUAL
  const hn::Rebind<std::int32_t, D> di;
  in_register(v);  // a fused multiply-add would round once instead of twice
  const auto shifted = hn::Add(v, hn::Set(d, 0x1.8p23f));
  return hn::Sub(hn::BitCast(di, shifted), hn::Set(di, 0x4b400000));
#else
  (void)d;
  return hn::NearestInt(v);
#endif
}

/// What numbers of a group are rounded with, from the bits of their largest magnitude.
struct group_rounding {
  float scale, inverse;
  bool any;  // else all are zero
  explicit group_rounding(std::int32_t bits) {
    float a;
    std::memcpy(&a, &bits, 4);
    const bool finite = bits < 0x7f800000;
    any = finite && a >= 1e-30f;
    scale = !finite ? std::numeric_limits<float>::quiet_NaN() : any ? a / 127 : 0.0f;
    inverse = any ? 127 / a : 0.0f;
  }
};

/// Numbers [from, count) of a group of one row to r, and zero up to `group`; returns their sum.
template <class X>
HWY_INLINE std::int32_t round_group(const X* x, index_t from, index_t count, index_t group,
                                    const group_rounding& by, index_t height, index_t unit,
                                    std::int8_t* r) {
  const hn::ScalableTag<float> d;
  const hn::ScalableTag<std::int32_t> di;
  const hn::Rebind<std::int8_t, decltype(d)> d8;
  const auto at = [&](index_t i) { return r + i / unit * unit * height + i % unit; };
  for (index_t i = by.any ? count : from; i < group; ++i) *at(i) = 0;
  if (!by.any) return 0;
  const auto inverse = hn::Set(d, by.inverse);
  auto sum = hn::Zero(di);
  const auto put = [&](auto part, index_t i, std::int8_t* all) HWY_ATTR {
    const auto v = nearest_small(d, hn::Mul(part.load(d, x + i), inverse));
    sum = hn::Add(sum, v);
    hn::StoreU(hn::DemoteTo(d8, v), d8, all);
  };
  constexpr index_t most_lanes = hn::MaxLanes(decltype(d)());
  std::int8_t all[most_lanes];
  index_t i = from;
  if constexpr (most_lanes % 4 == 0) {
    std::int8_t* to = r + from * height;
    for (; i + lanes(d) <= count; i += lanes(d)) {
      if (unit % lanes(d) == 0) {
        put(all_lanes{}, i, at(i));
        continue;
      }
      put(all_lanes{}, i, all);
      for (index_t j = 0; j < lanes(d); j += 4, to += 4 * height)
        std::memcpy(unit == 4 ? to : at(i + j), all + j, 4);
    }
  }
  for (; i < count; i += lanes(d)) {
    const index_t n = std::min(count - i, lanes(d));
    put(first_lanes{n}, i, all);
    for (index_t j = 0; j < n; ++j) *at(i + j) = all[j];
  }
  return hn::GetLane(hn::SumOfLanes(di, sum));
}

/// Four rows that lie together in units of 4: 16 k of each at a time. Returns how many.
template <class X>
HWY_INLINE index_t round_four([[maybe_unused]] const X* x, [[maybe_unused]] index_t stride,
                              [[maybe_unused]] index_t count,
                              [[maybe_unused]] const group_rounding* by,
                              [[maybe_unused]] index_t height, [[maybe_unused]] std::int8_t* r,
                              [[maybe_unused]] std::int32_t* sums) {
  index_t i = 0;
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  const hn::ScalableTag<float> d;
  const hn::ScalableTag<std::int32_t> di;
  const hn::FixedTag<std::uint32_t, 4> d4;
  const hn::FixedTag<std::uint64_t, 2> d2;
  const hn::Rebind<std::int8_t, decltype(d)> d8;
  auto s0 = hn::Zero(di), s1 = s0, s2 = s0, s3 = s0;
  const auto row = [&](index_t k, index_t n, auto& s) HWY_ATTR {
    const auto v =
        nearest_small(d, hn::Mul(load(d, x + n * stride + k), hn::Set(d, by[n].inverse)));
    s = hn::Add(s, v);
    return hn::BitCast(d4, hn::DemoteTo(d8, v));
  };
  for (; i + 16 <= count; i += 16, r += 16 * height) {
    const auto a = row(i, 0, s0), b = row(i, 1, s1), c = row(i, 2, s2), e = row(i, 3, s3);
    const auto ab = hn::BitCast(d2, hn::InterleaveLower(d4, a, b));
    const auto ce = hn::BitCast(d2, hn::InterleaveLower(d4, c, e));
    const auto ab2 = hn::BitCast(d2, hn::InterleaveUpper(d4, a, b));
    const auto ce2 = hn::BitCast(d2, hn::InterleaveUpper(d4, c, e));
    const auto put = [&](auto v, index_t unit) HWY_ATTR {
      const hn::FixedTag<std::int8_t, 16> bytes;
      hn::StoreU(hn::BitCast(bytes, v), bytes, r + unit * 4 * height);
    };
    put(hn::InterleaveLower(d2, ab, ce), 0), put(hn::InterleaveUpper(d2, ab, ce), 1);
    put(hn::InterleaveLower(d2, ab2, ce2), 2), put(hn::InterleaveUpper(d2, ab2, ce2), 3);
  }
  sums[0] = hn::GetLane(hn::SumOfLanes(di, s0)), sums[1] = hn::GetLane(hn::SumOfLanes(di, s1));
  sums[2] = hn::GetLane(hn::SumOfLanes(di, s2)), sums[3] = hn::GetLane(hn::SumOfLanes(di, s3));
#endif
  return i;
}

/// Up to four rows of x in 8 bits: see ops::packed_gemm.
template <class X>
void round_rows(const X* x, index_t stride, index_t rows, index_t k, index_t group, index_t groups,
                int offset, index_t height, index_t unit, std::int8_t* r, float* scale,
                std::int32_t* start) {
  // Some maxima ahead: each alone would be waited for.
  constexpr index_t ahead = 8;
  std::int32_t most[ahead][rounding_entries<X>::at_once];
  for (index_t g = 0; g < groups; ++g, x += group, r += group * height) {
    if (g % ahead == 0)
      for (index_t i = 0; i < ahead && g + i < groups; ++i)
        for (index_t n = 0; n < rows; ++n)
          most[i][n] = most_bits(x + n * stride + i * group, std::min(k - (g + i) * group, group));
    const index_t count = std::min(k - g * group, group);
    const std::int32_t* bits = most[g % ahead];
    const group_rounding by[] = {group_rounding(bits[0]), group_rounding(bits[rows > 1 ? 1 : 0]),
                                 group_rounding(bits[rows > 2 ? 2 : 0]),
                                 group_rounding(bits[rows > 3 ? 3 : 0])};
    std::int32_t sums[rounding_entries<X>::at_once] = {};
    const bool four = rows == 4 && unit == 4 && by[0].any && by[1].any && by[2].any && by[3].any;
    const index_t done = four ? round_four(x, stride, count, by, height, r, sums) : 0;
    for (index_t n = 0; n < rows; ++n) {
      if (done < group)
        sums[n] +=
            round_group(x + n * stride, done, count, group, by[n], height, unit, r + n * unit);
      scale[g * height + n] = by[n].scale;
      start[g * height + n] = -offset * sums[n];
    }
  }
}
template <class X>
rounding_entries<X> kernels_for(wanted<rounding_entries<X>>) {
  return {&round_rows<X>};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();

#if MLMAMBA_SIMD_ZEN4
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace vnni {

struct vnni_dot {
  using V = hn::Vec<hn::ScalableTag<std::int32_t>>;
  // As the instruction has it: GCC 12 keeps sums of another vector type twice, the one in memory.
  typedef int sum __attribute__((vector_size(64)));
  static HWY_INLINE sum start(std::int32_t v) { return sum(_mm512_set1_epi32(v)); }
  static HWY_INLINE V value(sum s) { return V{__m512i(s)}; }
  static HWY_INLINE void add(const std::int8_t* x, V w0, V w1, sum& s0, sum& s1) {
    int four;
    std::memcpy(&four, x, 4);
    const __m512i v = _mm512_set1_epi32(four);
    s0 = sum(_mm512_dpbusd_epi32(__m512i(s0), w0.raw, v));
    s1 = sum(_mm512_dpbusd_epi32(__m512i(s1), w1.raw, v));
  }
};

#include "mlmamba/backend/cpu/simd/packed_gemm_tile-inl.hpp"

template <std::same_as<quantised_entries> Entries>
Entries kernels_for(wanted<Entries>) {
  return quantised_heights<vnni_dot, 12, 8, 4, 2, 1>::entries(12);
}

}  // namespace vnni
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif

#include "mlmamba/backend/cpu/simd/packed_gemm_amx-inl.hpp"
