// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tiles of x and w for products by AMX: packed, or where they are in w.

#include "mlmamba/backend/cpu/simd/amx_tile-inl.hpp"

#if MLMAMBA_SIMD_AMX
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",amx-tile,amx-bf16,amx-int8")
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace amx {

inline index_t blocks_of(index_t k) { return (k + terms - 1) / terms; }
/// How many bf16 one number of x is.
template <class X>
inline constexpr index_t parts = std::is_same_v<X, float> ? 3 : 1;

inline bool x_is_left(const gemm_job& job) { return job.w_packed || !job.w_rows; }

/// k of rows [first, first + wide) as left tiles: [block][row][32], zero where nothing is.
inline void pack_left(bool contiguous_rows, const bf16* p, index_t stride, index_t first,
                      index_t rows, index_t wide, index_t from, index_t k, std::byte* out) {
  const index_t blocks = blocks_of(k);
  if (contiguous_rows) {
    for (index_t i = 0; i < wide; ++i) {
      const index_t bytes = first + i < rows ? 2 * k : 0;
      const auto* row = reinterpret_cast<const std::byte*>(p + (first + i) * stride + from);
      for (index_t u = 0; u < blocks; ++u) {
        std::byte* to = out + (u * wide + i) * row_bytes;
        const index_t there = bytes - u * row_bytes;
        if (there >= row_bytes) {
          std::memcpy(to, row + u * row_bytes, row_bytes);
        } else {
          std::memset(to, 0, row_bytes);
          if (there > 0) std::memcpy(to, row + u * row_bytes, std::size_t(there));
        }
      }
    }
    return;
  }
  for (index_t u = 0; u < blocks; ++u) {
    const index_t count = k - u * terms < terms ? k - u * terms : terms;
    for (index_t i = 0; i < wide; i += tile_rows) {
      HWY_ALIGN std::uint32_t pairs[tile_rows * tile_rows] = {};
      pack_columns<pair_units>(p, stride, first + i, rows, tile_rows, 1, from + u * terms, count,
                               pairs);
      auto* to = reinterpret_cast<std::uint32_t*>(out + (u * wide + i) * row_bytes);
      turn_tile(pairs, tile_rows, to, tile_rows, wide - i < tile_rows ? wide - i : tile_rows);
    }
  }
}

/// The same as right tiles: [block][pair][row][2].
inline void pack_right(bool contiguous_rows, const bf16* p, index_t stride, index_t first,
                       index_t rows, index_t wide, index_t from, index_t k, std::byte* out) {
  const index_t all = blocks_of(k) * row_bytes * wide;
  index_t bytes = (k + 1) / 2 * wide * 4;
  if (contiguous_rows && wide == 1) {
    bytes = 2 * k;
    std::memcpy(out, p + first * stride + from, std::size_t(bytes));
  } else {
    pack<pair_units>(contiguous_rows, p, stride, first, rows, wide, 1, from, k,
                     reinterpret_cast<std::uint32_t*>(out));
  }
  std::memset(out + bytes, 0, std::size_t(all - bytes));
}

/// `count` k, at most 32, of rows [first, first + wide) as the three parts of each, and zero.
inline void split(const gemm_job& job, index_t first, index_t wide, index_t from, index_t count,
                  bf16 (*to)[width][terms]) {
  const hn::ScalableTag<float> d;
  const hn::ScalableTag<std::uint32_t> du;
  const hn::Rebind<std::uint16_t, decltype(d)> d16;
  const hn::Rebind<std::int32_t, decltype(d)> di;
  const auto* x = static_cast<const float*>(job.x);
  const auto top = hn::Set(du, 0xffff0000u), exponent = hn::Set(du, 0x7f800000u);
  for (index_t i = 0; i < wide; ++i) {
    const index_t row = first + i, there = row < job.m ? count : 0;
    float some[terms] = {};
    for (index_t j = 0; j < there; ++j)
      some[j] = job.x_rows ? x[row * job.x_stride + from + j] : x[(from + j) * job.x_stride + row];
    for (index_t j = 0; j < terms; j += lanes(d)) {
      auto v = hn::LoadU(d, some + j);
      const auto bits = hn::BitCast(du, v);
      // What is no number stays none, and infinity has no more parts.
      const auto special = hn::RebindMask(d, hn::Eq(hn::And(bits, exponent), exponent));
      const auto quiet =
          hn::IfThenElse(hn::Eq(v, v), v, hn::BitCast(d, hn::Or(bits, hn::Set(du, 0x400000u))));
      for (int part = 0; part < 3; ++part) {
        const auto high = hn::BitCast(d, hn::And(hn::BitCast(du, part == 0 ? quiet : v), top));
        const auto half = hn::ShiftRight<16>(hn::BitCast(du, high));
        hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, half)), d16,
                   reinterpret_cast<std::uint16_t*>(&to[part][i][j]));
        v = hn::IfThenZeroElse(special, hn::Sub(v, high));
      }
    }
  }
}

template <class X>
void pack_x(const gemm_job& job, index_t panel) {
  const index_t h = job.height, first = panel * h, blocks = blocks_of(job.k);
  const auto to_tiles = [&](bool rows_there, const bf16* x, index_t stride, index_t from,
                            index_t rows, index_t k, std::byte* out) {
    if (x_is_left(job)) {
      pack_left(rows_there, x, stride, from, rows, h, 0, k, out);
    } else {
      pack_right(rows_there, x, stride, from, rows, h, 0, k, out);
    }
  };
  auto* out = static_cast<std::byte*>(job.packed) + first * blocks * parts<X> * row_bytes;
  if constexpr (parts<X> == 1) {
    to_tiles(job.x_rows, static_cast<const bf16*>(job.x), job.x_stride, first, job.m, job.k, out);
  } else {
    HWY_ALIGN bf16 some[parts<X>][width][terms];
    for (index_t u = 0; u < blocks; ++u) {
      const index_t left = job.k - u * terms;
      split(job, first, h, u * terms, left < terms ? left : terms, some);
      for (index_t part = 0; part < parts<X>; ++part, out += h * row_bytes)
        to_tiles(true, some[part][0], terms, 0, h, terms, out);
    }
  }
}

/// Panel p of x from a block on.
template <class X>
operand x_tiles(const gemm_job& job, index_t p, index_t block) {
  const index_t h = job.height, each = h * row_bytes;
  const auto* at =
      static_cast<const std::byte*>(job.packed) + (p * blocks_of(job.k) + block) * parts<X> * each;
  if (x_is_left(job)) return {at, each, tile_bytes, row_bytes};
  return {at, each, row_bytes, 4 * h};
}

/// 32 rows of packed w from k on, as they lie; with a last block that isn't whole in `spare`.
inline operand packed_tiles(const gemm_job& job, index_t n, index_t k, index_t count,
                            std::byte* spare) {
  constexpr index_t pair = packed_rows::strip * 4;
  static_assert(packed_rows::strip == width);
  const std::byte* at = static_cast<const std::byte*>(job.w) +
                        n / packed_rows::strip * job.w_strip_bytes + k / 2 * pair;
  if (count % terms != 0) {
    const index_t there = (count + 1) / 2 * pair;
    std::memcpy(spare, at, std::size_t(there));
    std::memset(spare + there, 0, std::size_t(blocks_of(count) * terms / 2 * pair - there));
    at = spare;
  }
  return {at, terms / 2 * pair, row_bytes, pair};
}

/// Where packed rows before row n of w end.
inline std::uintptr_t end_of_strips(const gemm_job& job, index_t n) {
  constexpr index_t strip = packed_rows::strip;
  return reinterpret_cast<std::uintptr_t>(job.w) +
         std::uintptr_t((n + strip - 1) / strip * job.w_strip_bytes);
}

/// Rows of w from n and k on, as they are stored.
inline operand stored_tiles(const gemm_job& job, index_t n, index_t k) {
  const index_t row = 2 * job.w_stride;
  return {static_cast<const std::byte*>(job.w) + n * row + 2 * k, row_bytes, tile_rows * row, row};
}

/// `count` k of rows n to n + 31 of w for so many panels of x: packed into `spare`, if they weren't
/// before, and are used often enough to pay for it.
inline operand w_tiles(const gemm_job& job, index_t n, index_t k, index_t count, index_t panels,
                       std::byte* spare) {
  if (job.w_packed) return packed_tiles(job, n, k, count, spare);
  const auto* w = static_cast<const bf16*>(job.w);
  if (job.w_rows && panels <= 4 && n + width <= job.n && count % terms == 0)
    return stored_tiles(job, n, k);
  if (job.w_rows) {
    pack_left(true, w, job.w_stride, n, job.n, width, k, count, spare);
    return {spare, width * row_bytes, tile_bytes, row_bytes};
  }
  pack_right(false, w, job.w_stride, n, job.n, width, k, count, spare);
  return {spare, width * row_bytes, row_bytes, width * 4};
}

}  // namespace amx
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif
