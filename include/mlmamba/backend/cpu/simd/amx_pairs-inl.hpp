// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pairs of bf16 as tiles want them, made in registers.
//
// A sum may take its terms in any order, so the pairs of a block of 32 terms may be of neighbours
// or of term i and term i + 16. Two vectors of those become words by a shift and an or.
//
// A float is taken for two bf16, its upper 16 bits and the upper 16 of the rest: 16 of 24 bits or
// more, the error is below 2^-16 of the number. What is infinite becomes no number.

#if MLMAMBA_SIMD_AMX
// As HWY_ATTR: for lambdas, which clang compiles for no target but the one that they name.
#undef MLMAMBA_AMX_TARGET
#undef MLMAMBA_AMX_ATTR
#define MLMAMBA_AMX_TARGET HWY_TARGET_STR ",amx-tile,amx-bf16,amx-int8,avx512bf16"
#define MLMAMBA_AMX_ATTR __attribute__((target(MLMAMBA_AMX_TARGET)))
HWY_PUSH_ATTRIBUTES(MLMAMBA_AMX_TARGET)
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace amx {

using floats = hn::ScalableTag<float>;
using float_vector = hn::Vec<floats>;

/// The mask of the first n of 16 lanes; none if n <= 0.
HWY_INLINE __mmask16 first_of(index_t n) {
  return __mmask16(n >= tile_rows ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}
/// 16 bf16 as words; zero where the mask is.
HWY_INLINE word_vector load_words(const bf16* p, __mmask16 mask) {
  return word_vector{_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p))};
}
HWY_INLINE float_vector float_of(word_vector w) {
  return hn::BitCast(floats(), hn::ShiftLeft<16>(w));
}
/// Words with a below and b above.
HWY_INLINE word_vector pair_of(word_vector a, word_vector b) {
  return hn::Or(a, hn::ShiftLeft<16>(b));
}
HWY_INLINE word_vector top_halves(word_vector a, word_vector b) {
  // b & 0xffff0000 | a >> 16
  return word_vector{_mm512_ternarylogic_epi32(b.raw, _mm512_set1_epi32(int(0xffff0000u)),
                                               _mm512_srli_epi32(a.raw, 16), 0xea)};
}
/// Pairs of the two parts of a and b.
struct pair_parts {
  word_vector high, low;
};
HWY_INLINE pair_parts split_pair(float_vector a, float_vector b) {
  const words du;
  const floats d;
  const auto top = hn::Set(du, 0xffff0000u);
  const auto rest = [&](float_vector v) MLMAMBA_AMX_ATTR {
    return hn::BitCast(du, hn::Sub(v, hn::BitCast(d, hn::And(hn::BitCast(du, v), top))));
  };
  return {top_halves(hn::BitCast(du, a), hn::BitCast(du, b)), top_halves(rest(a), rest(b))};
}

/// Pairs of a and b, rounded to nearest even.
HWY_INLINE word_vector rounded_pair(float_vector a, float_vector b) {
  alignas(64) static constexpr std::uint16_t order[32] = {
      0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return word_vector{_mm512_permutexvar_epi16(_mm512_load_si512(order),
                                              __m512i(_mm512_cvtne2ps_pbh(b.raw, a.raw)))};
}

HWY_INLINE void store_words(word_vector v, std::byte* to) {
  hn::StoreU(v, words(), reinterpret_cast<std::uint32_t*>(to));
}
/// 32 floats as bf16, rounded to nearest even.
HWY_INLINE void store_row(float_vector a, float_vector b, bf16* to) {
  _mm512_storeu_si512(to, __m512i(_mm512_cvtne2ps_pbh(b.raw, a.raw)));
}

/// Work on items [0, end), done by and by in so many calls.
template <class F>
class paced {
 public:
  paced(index_t end, index_t calls, const F& f) : f_(f), end_(end), calls_(calls) {}
  HWY_INLINE void operator()() {
    const index_t next = done_ + (end_ - done_ + calls_ - 1) / calls_;
    f_(done_, next);
    done_ = next, --calls_;
  }
  void finish() {
    if (done_ < end_) f_(done_, end_);
    done_ = end_;
  }

 private:
  const F& f_;
  index_t done_ = 0, end_, calls_;
};

/// c (32 rows of 32) = left right, over so many blocks; work() is called in each: vectors are
/// computed while tiles are multiplied if they stand near them, a processor does not look far
/// ahead.
template <class Work>
HWY_INLINE void multiply_beside(const operand& left, const operand& right, index_t blocks,
                                std::byte* c, Work& work) {
  using T = tiles<bf16_products, 2, 2>;
  const std::byte *l = left.at, *r = right.at;
  T::zero();
  asm volatile("" ::: "memory");
  for (index_t i = 0, l_times = 0, r_times = 0; i < blocks; ++i, --l_times, --r_times) {
    if (l_times == 0) {
      _tile_loadd(4, l, left.row);
      _tile_loadd(5, l + left.tile, left.row);
      l += left.block, l_times = left.repeat;
    }
    if (r_times == 0) {
      _tile_loadd(6, r, right.row);
      _tile_loadd(7, r + right.tile, right.row);
      r += right.block, r_times = right.repeat;
    }
    bf16_products::p0();
    bf16_products::p1();
    bf16_products::p2();
    bf16_products::p3();
    work();
  }
  T::store(c, 4 * width);
}

}  // namespace amx
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif
