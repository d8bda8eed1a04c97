// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Packing for matrix products: rows into vectors that hold one unit of many rows.

#include <hwy/cache_control.h>

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

/// How elements become units. `float_units`: one k widened to float (double stays).
/// `pair_units`: two neighbouring bf16.
struct float_units {
  static constexpr index_t k_per_unit = 1;
  template <class T>
  using unit = accum_t<T>;
};
struct pair_units {
  static constexpr index_t k_per_unit = 2;
  template <class T>
  using unit = std::uint32_t;
};

/// Packing of rows moves words of 4 bytes: one float, or two bf16.
template <class T>
inline constexpr index_t elements_per_word = 4 / index_t(sizeof(T));

/// Into the second cache, which waits for more lines at once than the first.
HWY_INLINE void prefetch_to_l2(std::uintptr_t at) {
#if HWY_COMPILER_GCC || HWY_COMPILER_CLANG
  __builtin_prefetch(reinterpret_cast<const void*>(at), 0, 2);
  asm volatile("");  // GCC drops calls of functions, lambdas too, that do nothing but fetch
#else
  hwy::Prefetch(reinterpret_cast<const char*>(at));
#endif
}
/// How far fetch_packed_ahead looks at the most, in bytes.
inline constexpr index_t packed_ahead = 32768;
/// Fetches what a reader of packed w, now at the 128 bytes from p, will read soon: up to 32 KiB
/// ahead but before `end`, the lines of four pages in turns. A processor runs ahead of a stream
/// inside its page of 4 KiB only, which one reader leaves before memory has answered; in four it
/// has time.
HWY_INLINE void fetch_packed_ahead(const void* p, std::uintptr_t end) {
  constexpr std::uintptr_t line = 64, page = 4096, pages = 4;
  const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(p);
  const std::uintptr_t within = at % (pages * page);
  const std::uintptr_t pair = within / (2 * line);  // one line in each of two pages
  const std::uintptr_t to = at - within + pages * page + pair % 2 * (2 * page) + pair / 2 * line;
  if (to >= end) return;  // another thread's
  prefetch_to_l2(to);
  prefetch_to_l2(to + page);
}

#if HWY_TARGET != HWY_SCALAR

using words = hn::ScalableTag<std::uint32_t>;
using word_vector = hn::Vec<words>;

/// The first n elements, 0 < n < lanes, and zero.
template <class D>
HWY_INLINE hn::Vec<D> load_bits(D d, const hn::TFromD<D>* p, index_t n) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  return hn::MaskedLoad(hn::FirstN(d, std::size_t(n)), d, p);
#else
  hn::TFromD<D> all[hn::MaxLanes(D())] = {};
  for (index_t i = 0; i < n; ++i) all[i] = p[i];
  return hn::LoadU(d, all);
#endif
}

/// As many words of as many rows as there are lanes, and which of them a fold runs over.
inline constexpr std::size_t word_lanes = HWY_LANES(std::uint32_t);
using all_words = std::make_index_sequence<word_lanes>;
struct word_block {
  word_vector v[word_lanes];
};

/// Transposes 4 x 4 words in each 128 bits.
HWY_INLINE void transpose_quads(word_vector& v0, word_vector& v1, word_vector& v2,
                                word_vector& v3) {
  const words d;
  const hn::Repartition<std::uint64_t, words> d64;
  const auto a = hn::BitCast(d64, hn::InterleaveLower(d, v0, v1));
  const auto b = hn::BitCast(d64, hn::InterleaveLower(d, v2, v3));
  const auto e = hn::BitCast(d64, hn::InterleaveUpper(d, v0, v1));
  const auto f = hn::BitCast(d64, hn::InterleaveUpper(d, v2, v3));
  v0 = hn::BitCast(d, hn::InterleaveLower(d64, a, b));
  v1 = hn::BitCast(d, hn::InterleaveUpper(d64, a, b));
  v2 = hn::BitCast(d, hn::InterleaveLower(d64, e, f));
  v3 = hn::BitCast(d, hn::InterleaveUpper(d64, e, f));
}

/// Transposes the block: v[i] lane j becomes v[j] lane i.
HWY_INLINE void transpose(word_block& t) {
  word_vector* v = t.v;
  transpose_quads(v[0], v[1], v[2], v[3]);
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  transpose_quads(v[4], v[5], v[6], v[7]);
  transpose_quads(v[8], v[9], v[10], v[11]);
  transpose_quads(v[12], v[13], v[14], v[15]);
  auto blocks = [](word_vector& v0, word_vector& v1, word_vector& v2, word_vector& v3) HWY_ATTR {
    const __m512i a = _mm512_shuffle_i32x4(v0.raw, v1.raw, 0x88);
    const __m512i b = _mm512_shuffle_i32x4(v0.raw, v1.raw, 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(v2.raw, v3.raw, 0x88);
    const __m512i e = _mm512_shuffle_i32x4(v2.raw, v3.raw, 0xdd);
    v0.raw = _mm512_shuffle_i32x4(a, c, 0x88);
    v1.raw = _mm512_shuffle_i32x4(b, e, 0x88);
    v2.raw = _mm512_shuffle_i32x4(a, c, 0xdd);
    v3.raw = _mm512_shuffle_i32x4(b, e, 0xdd);
  };
  blocks(v[0], v[4], v[8], v[12]);
  blocks(v[1], v[5], v[9], v[13]);
  blocks(v[2], v[6], v[10], v[14]);
  blocks(v[3], v[7], v[11], v[15]);
#elif HWY_ARCH_X86 && HWY_TARGET == HWY_AVX2
  transpose_quads(v[4], v[5], v[6], v[7]);
  auto blocks = [](word_vector& v0, word_vector& v1) HWY_ATTR {
    const auto low = hn::ConcatLowerLower(words(), v1, v0);
    v1 = hn::ConcatUpperUpper(words(), v1, v0);
    v0 = low;
  };
  blocks(v[0], v[4]);
  blocks(v[1], v[5]);
  blocks(v[2], v[6]);
  blocks(v[3], v[7]);
#endif
}

/// One vector of words of each row, from word u on, transposed: v[j] is word u + j of every row.
/// Whole vectors are read, which are whole cache lines if w is aligned: of many rows at a stride of
/// some KiB not all lines stay in the cache until their next quarter is wanted.
template <std::size_t... I>
HWY_INLINE void load_words(const char* const* rows, index_t u, word_block& t,
                           std::index_sequence<I...>) {
  ((t.v[I] = hn::LoadU(words(), reinterpret_cast<const std::uint32_t*>(rows[I] + u * 4))), ...);
  transpose(t);
}

/// Pointers to `lanes` rows from `first` on; rows that are not there repeat the last one.
template <class T>
HWY_INLINE void row_pointers(const T* p, index_t stride, index_t first, index_t rows,
                             const char** out) {
  for (index_t i = 0; i < lanes(words()); ++i) {
    const index_t r = first + i < rows ? first + i : rows - 1;
    out[i] = reinterpret_cast<const char*>(p + r * stride);
  }
}

/// The same behind the last whole vector of rows of k elements, padded with zero.
template <class T>
HWY_INLINE void load_last_words(const char* const* rows, index_t u, index_t k, word_block& t) {
  constexpr index_t e = elements_per_word<T>;
  using bits = std::conditional_t<e == 2, std::uint16_t, std::uint32_t>;
  const hn::Repartition<bits, words> d;
  for (std::size_t i = 0; i < word_lanes; ++i) {
    const bits* p = reinterpret_cast<const bits*>(rows[i]) + u * e;
    t.v[i] = hn::BitCast(words(), load_bits(d, p, k - u * e));
  }
  transpose(t);
}

/// Calls body(vector, u) for each word of `lanes` rows of `k` elements, u ascending, the last word
/// padded with zero.
template <class T, class Body, std::size_t... I>
HWY_INLINE void for_each_word(const char* const* rows, index_t k, const Body& body,
                              std::index_sequence<I...> all) {
  constexpr index_t e = elements_per_word<T>, step = index_t(word_lanes);
  word_block t;
  index_t u = 0;
  for (; (u + step) * e <= k; u += step) {
    load_words(rows, u, t, all);
    (body(t.v[I], u + index_t(I)), ...);
  }
  if (u * e < k) {
    load_last_words<T>(rows, u, k, t);
    for (index_t j = 0; (u + j) * e < k; ++j) body(t.v[j], u + j);
  }
}

HWY_INLINE word_vector first_of_pair(word_vector v) { return hn::ShiftLeft<16>(v); }
HWY_INLINE word_vector second_of_pair(word_vector v) {
  return hn::And(v, hn::Set(words(), 0xffff0000u));
}

#endif

/// One vector of packed units: of `part` units, at `at`, which has room for `room` more behind it.
/// A store of all lanes may run into the next unit, which is written after this one.
template <class V, class T>
HWY_INLINE void put_units(V v, T* at, index_t part, index_t room) {
  const hn::ScalableTag<T> d;
  if (part == lanes(d) || lanes(d) <= room) {
    hn::StoreU(v, d, at);
  } else {
    T all[hn::MaxLanes(d)];
    hn::StoreU(v, d, all);
    for (index_t i = 0; i < part; ++i) at[i] = all[i];
  }
}

/// Elements [from, from + k) of rows [first, first + width) of a (rows, k) array, whose rows are
/// contiguous, to out[u * width + i], u being the unit and i the row. Instead of rows that are not
/// there the last one is repeated.
template <class Units, class T>
void pack_rows(const T* p, index_t stride, index_t first, index_t rows, index_t width, index_t from,
               index_t k, typename Units::template unit<T>* out) {
  using unit = typename Units::template unit<T>;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (sizeof(unit) == 4) {
    const index_t units = (k + Units::k_per_unit - 1) / Units::k_per_unit;
    auto* words_out = reinterpret_cast<std::uint32_t*>(out);
    for (index_t i = 0; i < width; i += lanes(words())) {
      const char* at[HWY_MAX_BYTES / 4];
      row_pointers(p + from, stride, first + i, rows, at);
      const index_t part = width - i < lanes(words()) ? width - i : lanes(words());
      auto put = [=](word_vector v, index_t u) HWY_ATTR {
        if constexpr (std::is_same_v<T, bf16> && Units::k_per_unit == 1) {
          put_units(first_of_pair(v), words_out + 2 * u * width + i, part,
                    (units - 2 * u) * width - i);
          if (2 * u + 1 < k)
            put_units(second_of_pair(v), words_out + (2 * u + 1) * width + i, part,
                      (units - 2 * u - 1) * width - i);
        } else {
          put_units(v, words_out + u * width + i, part, (units - u) * width - i);
        }
      };
      for_each_word<T>(at, k, put, all_words());
    }
    return;
  }
#endif
  for (index_t i = 0; i < width; ++i) {
    const T* row = p + (first + i < rows ? first + i : rows - 1) * stride + from;
    for (index_t j = 0; j < k; ++j) out[j * width + i] = unit(row[j]);
  }
}

/// The same of an array whose columns are contiguous: element (row, k) is p[k * stride + row].
/// Rows that are not there become zero. Several strips of `width` rows are packed together, one
/// behind the other, so that what lies together is read together.
template <class Units, class T>
void pack_columns(const T* p, index_t stride, index_t first, index_t rows, index_t width,
                  index_t strips, index_t from, index_t k, typename Units::template unit<T>* out) {
  const tag_for<T> d;
  const index_t units = (k + Units::k_per_unit - 1) / Units::k_per_unit;
  for (index_t u = 0; u < units; ++u) {
    for (index_t i = 0; i < strips * width; i += lanes(d)) {
      // More than one vector only in strips of whole vectors.
      const index_t part = width < lanes(d) ? width : lanes(d), strip = i / width;
      const index_t valid = rows - first - i < part ? rows - first - i : part;
      auto take = [&](index_t j) HWY_ATTR {
        const T* at = p + (from + j) * stride + first + i;
        return valid == lanes(d) ? load(d, at) : valid > 0 ? load_n(d, at, valid) : hn::Zero(d);
      };
      auto* to = out + (strip * (units - 1) + u) * width + i;
      const index_t room = (units - u) * width;
      if constexpr (Units::k_per_unit == 1) {
        put_units(take(u), to, part, room);
      } else {
        const hn::ScalableTag<std::uint32_t> du;
        const auto low = hn::BitCast(du, take(2 * u));
        const auto high = 2 * u + 1 < k ? hn::BitCast(du, take(2 * u + 1)) : hn::Zero(du);
        put_units(hn::Or(hn::ShiftRight<16>(low), high), to, part, room);
      }
    }
  }
}

/// Packs strips of `width` rows, each as pack_rows does it.
template <class Units, class T>
HWY_INLINE void pack(bool contiguous_rows, const T* p, index_t stride, index_t first, index_t rows,
                     index_t width, index_t strips, index_t from, index_t k,
                     typename Units::template unit<T>* out) {
  if (contiguous_rows) {
    const index_t units = (k + Units::k_per_unit - 1) / Units::k_per_unit;
    for (index_t s = 0; s < strips; ++s)
      pack_rows<Units>(p, stride, first + s * width, rows, width, from, k, out + s * width * units);
  } else {
    pack_columns<Units>(p, stride, first, rows, width, strips, from, k, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
