// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Products of bf16 with bf16 by tiles: the same sums for any number of rows and any layout, since
// each gets, for ascending blocks of 32 terms, what TDPBF16PS makes of a block.
//
// Rows of w, as they are stored, are left tiles, and x packed in pairs gives right ones; the sums
// are turned in the end. Packed w already consists of right tiles, and columns of w become some:
// then rows of x are left tiles.

#include "mlmamba/backend/cpu/simd/amx_tile-inl.hpp"

#if MLMAMBA_SIMD_AMX
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",amx-tile,amx-bf16,amx-int8")
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace amx {

inline index_t blocks_of(index_t k) { return (k + terms - 1) / terms; }
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
  const index_t pairs = (k + 1) / 2, padded = blocks_of(k) * terms / 2;
  pack<pair_units>(contiguous_rows, p, stride, first, rows, wide, 1, from, k,
                   reinterpret_cast<std::uint32_t*>(out));
  std::memset(out + pairs * wide * 4, 0, std::size_t((padded - pairs) * wide * 4));
}

inline void pack_x(const gemm_job& job, index_t panel) {
  const index_t h = job.height;
  const auto* x = static_cast<const bf16*>(job.x);
  std::byte* out = static_cast<std::byte*>(job.packed) + panel * h * blocks_of(job.k) * row_bytes;
  if (x_is_left(job)) {
    pack_left(job.x_rows, x, job.x_stride, panel * h, job.m, h, 0, job.k, out);
  } else {
    pack_right(job.x_rows, x, job.x_stride, panel * h, job.m, h, 0, job.k, out);
  }
}

/// Panel p of x from a block on.
inline operand x_tiles(const gemm_job& job, index_t p, index_t block) {
  const index_t h = job.height, each = h * row_bytes;
  const auto* at =
      static_cast<const std::byte*>(job.packed) + (p * blocks_of(job.k) + block) * each;
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

// ------------------------------------------------------------ ways

/// A block of 32 rows of w and `height` of x: sums in the order of the tiles, turned if w is left.
struct sums {
  const gemm_job& job;
  bool x_left;
  HWY_ALIGN float turned[width * width];

  explicit sums(const gemm_job& j) : job(j), x_left(x_is_left(j)) {}
  void start(index_t m0, index_t rows, index_t n0, index_t columns, float* c) {
    job.results->start(job, m0, rows, n0, columns, x_left ? c : turned, width);
    if (!x_left) turn(turned, job.height, width, c);
  }
  void finish(index_t m0, index_t rows, index_t n0, index_t columns, float* c) {
    if (!x_left) turn(c, width, job.height, turned);
    job.results->finish(job, m0, rows, n0, columns, x_left ? c : turned, width);
  }
  /// c = first ? x w : c + x w, `rows` of w being there.
  void add(const operand& x, const operand& w, index_t rows, index_t blocks, float* c, bool first) {
    auto* const to = reinterpret_cast<std::byte*>(c);
    if (x_left) {
      multiply<bf16_products>(job.height, width, x, w, blocks, to, 4 * width, first);
    } else {
      multiply<bf16_products>(rows, job.height, w, x, blocks, to, 4 * job.height, first);
    }
  }
};

inline constexpr index_t block = 8;  // of 32 terms: 16 KiB of w and of x each, of 48 of L1

/// Fetches part i of so many parts of w_tiles(job, n, k, ..) from memory. What a processor fetches
/// by itself ends with the rows, which are short.
inline void fetch_w_tiles(const gemm_job& job, index_t n, index_t k, index_t i, index_t parts) {
  if (job.w_packed || !job.w_rows || k >= job.k) return;
  const auto* w = static_cast<const bf16*>(job.w) + k;
  const index_t last = job.n - n < width ? job.n - n : width, bytes = 2 * (job.k - k);
  for (index_t r = i * width / parts; r < (i + 1) * width / parts && r < last; ++r)
    for (index_t b = 0; b < block * row_bytes && b < bytes; b += 64)
      prefetch_to_l2(reinterpret_cast<std::uintptr_t>(w + (n + r) * job.w_stride) +
                     std::uintptr_t(b));
}

inline void columns(const gemm_job& job, index_t p0, index_t p1, index_t n0, index_t n1,
                    void* scratch) {
  const index_t h = job.height, all = blocks_of(job.k), strips = (n1 - n0 + width - 1) / width;
  auto* const spare = static_cast<std::byte*>(scratch);
  auto* const kept = reinterpret_cast<float*>(spare + strips * width * block * row_bytes);
  sums s(job);
  const configuration as(s.x_left ? h : width, s.x_left ? width : h);
  for (index_t from = 0; from == 0 || from < all; from += block) {
    const index_t blocks = all - from < block ? all - from : block, k = from * terms;
    const index_t count = job.k - k < blocks * terms ? job.k - k : blocks * terms;
    for (index_t j = 0; j < strips; ++j) {
      const index_t n = n0 + j * width, cols = n1 - n < width ? n1 - n : width;
      const operand w = w_tiles(job, n, k, count, p1 - p0, spare);
      const bool last = j + 1 == strips;
      for (index_t p = p0; p < p1; ++p) {
        fetch_w_tiles(job, last ? n0 : n + width, last ? k + block * terms : k, p - p0, p1 - p0);
        const index_t m0 = p * h, rows = job.m - m0 < h ? job.m - m0 : h;
        float* c = all <= block ? kept : kept + ((p - p0) * strips + j) * h * width;
        if (from == 0 && job.accumulate) s.start(m0, rows, n, cols, c);
        s.add(x_tiles(job, p, from), w, width, blocks, c, from == 0 && !job.accumulate);
        if (from + block >= all) s.finish(m0, rows, n, cols, c);
      }
    }
  }
}

/// One panel of x, and rows of w as they are stored: each tile of w is used once.
inline void stream_rows(const gemm_job& job, index_t n, index_t rows) {
  const index_t whole = job.k / terms, left = job.k % terms;
  HWY_ALIGN float c[width * width];
  sums s(job);
  if (job.accumulate) s.start(0, job.m, n, rows, c);
  s.add(x_tiles(job, 0, 0), stored_tiles(job, n, 0), rows, whole, c, !job.accumulate);
  if (left > 0) {
    HWY_ALIGN std::byte last[width * row_bytes];
    pack_left(true, static_cast<const bf16*>(job.w), job.w_stride, n, n + rows, width,
              whole * terms, left, last);
    s.add(x_tiles(job, 0, whole), {last, 0, tile_bytes, row_bytes}, rows, 1, c, false);
  }
  s.finish(0, job.m, n, rows, c);
}
inline void stream(const gemm_job& job, index_t n0, index_t n1) {
  if (n0 + width <= n1) {
    const configuration as(width, job.height);
    for (; n0 + width <= n1; n0 += width) stream_rows(job, n0, width);
  }
  if (n0 == n1) return;
  const configuration as(n1 - n0, job.height);
  stream_rows(job, n0, n1 - n0);
}

/// The same of packed w.
inline void stream_packed(const gemm_job& job, index_t n0, index_t n1) {
  const index_t whole = job.k / terms, left = job.k % terms;
  const configuration as(job.height, width);
  HWY_ALIGN float c[width * width];
  HWY_ALIGN std::byte last[width * row_bytes];
  sums s(job);
  for (index_t n = n0; n < n1; n += width) {
    s.add(x_tiles(job, 0, 0), packed_tiles(job, n, 0, whole * terms, last), width, whole, c, true);
    if (left > 0)
      s.add(x_tiles(job, 0, whole), packed_tiles(job, n, whole * terms, left, last), width, 1, c,
            false);
    s.finish(0, job.m, n, n1 - n < width ? n1 - n : width, c);
  }
}

inline index_t height(index_t m) {
  index_t h = 1;
  while (h < m && h < width) h *= 2;
  return h;
}

inline gemm_path_of<bf16, bf16> kernels_for(wanted<gemm_path_of<bf16, bf16>>) {
  gemm_path_of<bf16, bf16> p;
  p.max_height = p.width = p.max_stream = width;
  p.k_per_unit = terms;
  p.unit_bytes = row_bytes;
  p.sum_bytes = sizeof(float);
  p.block = block;
  p.height = p.stream_height = &height;
  p.pack_x = &pack_x;
  p.columns = &columns;
  p.stream = &stream;
  p.stream_packed = &stream_packed;
  return p;
}

}  // namespace amx
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif
