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

#if HWY_TARGET != HWY_SCALAR

using words = hn::ScalableTag<std::uint32_t>;
using word_vector = hn::Vec<words>;

/// 16 bytes of each of 4 rows per 128 bits: rows i, i + 4, i + 8, i + 12 for 512-bit vectors.
HWY_INLINE word_vector load_row_blocks(const char* const* rows, index_t i, index_t byte) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  auto at = [&](index_t r) HWY_ATTR {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i + r] + byte));
  };
  __m512i v = _mm512_castsi128_si512(at(0));
  v = _mm512_inserti32x4(v, at(4), 1);
  v = _mm512_inserti32x4(v, at(8), 2);
  v = _mm512_inserti32x4(v, at(12), 3);
  return word_vector{v};
#elif HWY_ARCH_X86 && HWY_TARGET == HWY_AVX2
  const hn::Half<words> half;
  auto at = [&](index_t r) HWY_ATTR {
    return hn::LoadU(half, reinterpret_cast<const std::uint32_t*>(rows[i + r] + byte));
  };
  return hn::Combine(words(), at(4), at(0));
#else
  return hn::LoadU(words(), reinterpret_cast<const std::uint32_t*>(rows[i] + byte));
#endif
}

/// Words [byte/4, byte/4 + 4) of as many rows as there are lanes: out[j] is word j of each row.
HWY_INLINE void transpose_words(const char* const* rows, index_t byte, word_vector* out) {
  const words d;
  const hn::Repartition<std::uint64_t, words> d64;
  const auto v0 = load_row_blocks(rows, 0, byte), v1 = load_row_blocks(rows, 1, byte);
  const auto v2 = load_row_blocks(rows, 2, byte), v3 = load_row_blocks(rows, 3, byte);
  const auto a = hn::BitCast(d64, hn::InterleaveLower(d, v0, v1));
  const auto b = hn::BitCast(d64, hn::InterleaveLower(d, v2, v3));
  const auto e = hn::BitCast(d64, hn::InterleaveUpper(d, v0, v1));
  const auto f = hn::BitCast(d64, hn::InterleaveUpper(d, v2, v3));
  out[0] = hn::BitCast(d, hn::InterleaveLower(d64, a, b));
  out[1] = hn::BitCast(d, hn::InterleaveUpper(d64, a, b));
  out[2] = hn::BitCast(d, hn::InterleaveLower(d64, e, f));
  out[3] = hn::BitCast(d, hn::InterleaveUpper(d64, e, f));
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

/// The last, incomplete 4 words of `lanes` rows of k elements, from word u on, padded with zero.
template <class T>
HWY_INLINE void transpose_last_words(const char* const* rows, index_t u, index_t k,
                                     word_vector* out) {
  constexpr index_t e = elements_per_word<T>;
  T padded[HWY_MAX_BYTES / 4][4 * e] = {};
  const char* short_rows[HWY_MAX_BYTES / 4];
  for (index_t i = 0; i < lanes(words()); ++i) {
    const T* row = reinterpret_cast<const T*>(rows[i]);
    for (index_t j = u * e; j < k; ++j) padded[i][j - u * e] = row[j];
    short_rows[i] = reinterpret_cast<const char*>(padded[i]);
  }
  transpose_words(short_rows, 0, out);
}

/// Calls body(vector, u) for each word of `lanes` rows of `k` elements, u ascending, the last word
/// padded with zero.
template <class T, class Body>
HWY_INLINE void for_each_word(const char* const* rows, index_t k, const Body& body) {
  constexpr index_t e = elements_per_word<T>;
  word_vector v[4];
  index_t u = 0;
  for (; (u + 4) * e <= k; u += 4) {
    transpose_words(rows, u * 4, v);
    body(v[0], u);
    body(v[1], u + 1);
    body(v[2], u + 2);
    body(v[3], u + 3);
  }
  if (u * e < k) {
    transpose_last_words<T>(rows, u, k, v);
    for (index_t j = 0; (u + j) * e < k; ++j) body(v[j], u + j);
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
      for_each_word<T>(at, k, [=](word_vector v, index_t u) HWY_ATTR {
        if constexpr (std::is_same_v<T, bf16> && Units::k_per_unit == 1) {
          put_units(first_of_pair(v), words_out + 2 * u * width + i, part,
                    (units - 2 * u) * width - i);
          if (2 * u + 1 < k)
            put_units(second_of_pair(v), words_out + (2 * u + 1) * width + i, part,
                      (units - 2 * u - 1) * width - i);
        } else {
          put_units(v, words_out + u * width + i, part, (units - u) * width - i);
        }
      });
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
/// Rows that are not there become zero.
template <class Units, class T>
void pack_columns(const T* p, index_t stride, index_t first, index_t rows, index_t width,
                  index_t from, index_t k, typename Units::template unit<T>* out) {
  const tag_for<T> d;
  const index_t units = (k + Units::k_per_unit - 1) / Units::k_per_unit;
  for (index_t u = 0; u < units; ++u) {
    for (index_t i = 0; i < width; i += lanes(d)) {
      const index_t part = width - i < lanes(d) ? width - i : lanes(d);
      const index_t valid = rows - first - i < part ? rows - first - i : part;
      auto take = [&](index_t j) HWY_ATTR {
        const T* at = p + (from + j) * stride + first + i;
        return valid == lanes(d) ? load(d, at) : valid > 0 ? load_n(d, at, valid) : hn::Zero(d);
      };
      const index_t room = (units - u) * width - i;
      if constexpr (Units::k_per_unit == 1) {
        put_units(take(u), out + u * width + i, part, room);
      } else {
        const hn::ScalableTag<std::uint32_t> du;
        const auto low = hn::BitCast(du, take(2 * u));
        const auto high = 2 * u + 1 < k ? hn::BitCast(du, take(2 * u + 1)) : hn::Zero(du);
        put_units(hn::Or(hn::ShiftRight<16>(low), high), out + u * width + i, part, room);
      }
    }
  }
}

template <class Units, class T>
HWY_INLINE void pack(bool contiguous_rows, const T* p, index_t stride, index_t first, index_t rows,
                     index_t width, index_t from, index_t k,
                     typename Units::template unit<T>* out) {
  if (contiguous_rows) {
    pack_rows<Units>(p, stride, first, rows, width, from, k, out);
  } else {
    pack_columns<Units>(p, stride, first, rows, width, from, k, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
