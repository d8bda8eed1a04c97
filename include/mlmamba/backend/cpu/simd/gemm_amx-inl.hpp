// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Products of bf16 or float with bf16 by tiles: the same sums for any number of rows and any
// layout, since each gets, for ascending blocks of 32 terms, what TDPBF16PS makes of a block.
//
// A float is three bf16, exactly: its 24 bits, 8 at a time. So x of float takes three times the
// products, and its sums have the error of sums of float.
//
// Rows of w, as they are stored, are left tiles, and x packed in pairs gives right ones; the sums
// are turned in the end. Packed w already consists of right tiles, and columns of w become some:
// then rows of x are left tiles.

#include "mlmamba/backend/cpu/simd/gemm_amx_pack-inl.hpp"
//
#include "mlmamba/backend/cpu/simd/gemm_amx_stream-inl.hpp"

#if MLMAMBA_SIMD_AMX
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",amx-tile,amx-bf16,amx-int8")
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace amx {

/// A block of 32 rows of w and `height` of x: sums in the order of the tiles, turned if w is left.
template <class X>
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
  template <class Fetch = no_fetch>
  void add(const operand& x, operand w, index_t rows, index_t blocks, float* c, bool first,
           const Fetch& fetch_more = {}) {
    w.repeat = parts<X>, blocks *= parts<X>;
    auto* const to = reinterpret_cast<std::byte*>(c);
    if (x_left) {
      multiply<bf16_products>(job.height, width, x, w, blocks, to, 4 * width, first, fetch_more);
    } else {
      multiply<bf16_products>(rows, job.height, w, x, blocks, to, 4 * job.height, first,
                              fetch_more);
    }
  }
};

/// Blocks of 32 terms at a time: w and x are 32 KiB of the 48 of L1.
template <class X>
inline constexpr index_t block = 16 / (1 + parts<X>);

/// Fetches part i of so many of the next `count` k of rows of w from n on, from memory. What a
/// processor fetches by itself ends with the rows, which are short.
inline void fetch_w(const gemm_job& job, index_t n, index_t k, index_t count, index_t i,
                    index_t parts_of_it) {
  const index_t bytes = 2 * (job.k - k < count ? job.k - k : count);
  if (job.w_packed && bytes > 0) {
    const index_t lines = bytes * packed_rows::strip / 64;
    const auto at = reinterpret_cast<std::uintptr_t>(packed_tiles(job, n, k, 0, nullptr).at);
    for (index_t l = i * lines / parts_of_it; l < (i + 1) * lines / parts_of_it; ++l)
      prefetch_to_l2(at + std::uintptr_t(64 * l));
  }
  if (job.w_packed || !job.w_rows) return;
  const auto* w = static_cast<const bf16*>(job.w) + k;
  const index_t last = job.n - n < width ? job.n - n : width;
  for (index_t r = i * width / parts_of_it; r < (i + 1) * width / parts_of_it && r < last; ++r)
    for (index_t b = 0; b < bytes; b += 64)
      prefetch_to_l2(reinterpret_cast<std::uintptr_t>(w + (n + r) * job.w_stride) +
                     std::uintptr_t(b));
}

template <class X>
void columns(const gemm_job& job, index_t p0, index_t p1, index_t n0, index_t n1, void* scratch) {
  const index_t h = job.height, all = blocks_of(job.k), strips = (n1 - n0 + width - 1) / width;
  constexpr index_t some = block<X>;
  auto* const spare = static_cast<std::byte*>(scratch);
  auto* const kept = reinterpret_cast<float*>(spare + strips * width * some * row_bytes);
  sums<X> s(job);
  const configuration as(s.x_left ? h : width, s.x_left ? width : h);
  for (index_t from = 0; from == 0 || from < all; from += some) {
    const index_t blocks = all - from < some ? all - from : some, k = from * terms;
    const index_t count = job.k - k < blocks * terms ? job.k - k : blocks * terms;
    for (index_t j = 0; j < strips; ++j) {
      const index_t n = n0 + j * width, cols = n1 - n < width ? n1 - n : width;
      const operand w = w_tiles(job, n, k, count, p1 - p0, spare);
      const bool last = j + 1 == strips;
      for (index_t p = p0; p < p1; ++p) {
        fetch_w(job, last ? n0 : n + width, last ? k + count : k, some * terms, p - p0, p1 - p0);
        const index_t m0 = p * h, rows = job.m - m0 < h ? job.m - m0 : h;
        float* c = all <= some ? kept : kept + ((p - p0) * strips + j) * h * width;
        if (from == 0 && job.accumulate) s.start(m0, rows, n, cols, c);
        s.add(x_tiles<X>(job, p, from), w, width, blocks, c, from == 0 && !job.accumulate);
        if (from + some >= all) s.finish(m0, rows, n, cols, c);
      }
    }
  }
}

/// One panel of x, and rows of w as they are stored: each tile of w is used once.
template <class X>
void stream_rows(const gemm_job& job, index_t n, index_t rows) {
  const index_t whole = job.k / terms, left = job.k % terms;
  HWY_ALIGN float c[width * width];
  sums<X> s(job);
  if (job.accumulate) s.start(0, job.m, n, rows, c);
  s.add(x_tiles<X>(job, 0, 0), stored_tiles(job, n, 0), rows, whole, c, !job.accumulate);
  if (left > 0) {
    HWY_ALIGN std::byte last[width * row_bytes];
    pack_left(true, static_cast<const bf16*>(job.w), job.w_stride, n, n + rows, width,
              whole * terms, left, last);
    s.add(x_tiles<X>(job, 0, whole), {last, 0, tile_bytes, row_bytes}, rows, 1, c, false);
  }
  s.finish(0, job.m, n, rows, c);
}

/// f(rows, a constant) for the few rows of a job; false if they are more.
template <class F>
bool for_few(const gemm_job& job, const F& f) {
  if (job.height > most_few) return false;
  job.height == 1   ? f(std::integral_constant<index_t, 1>())
  : job.height == 2 ? f(std::integral_constant<index_t, 2>())
                    : f(std::integral_constant<index_t, most_few>());
  return true;
}
template <class X>
void pack_stream(const gemm_job& job) {
  job.height <= most_few ? pack_few<X>(job) : pack_x<X>(job, 0);
}
template <class X>
void stream(const gemm_job& job, index_t n0, index_t n1) {
  if (for_few(job, [&](auto rows) { stream_few<X, rows()>(job, n0, n1); })) return;
  if (n0 + width <= n1) {
    const configuration as(width, job.height);
    for (; n0 + width <= n1; n0 += width) stream_rows<X>(job, n0, width);
  }
  if (n0 == n1) return;
  const configuration as(n1 - n0, job.height);
  stream_rows<X>(job, n0, n1 - n0);
}

/// The same of packed w: up to 16 rows of x meet two strips at a time, more meet one.
template <class X>
void stream_packed(const gemm_job& job, index_t n0, index_t n1) {
  if (for_few(job, [&](auto rows) { stream_few_packed<X, rows()>(job, n0, n1); })) return;
  const index_t whole = job.k / terms, left = job.k % terms;
  const configuration as(job.height, width);
  HWY_ALIGN float c[2][width * width];
  HWY_ALIGN std::byte last[width * row_bytes];
  const auto end = end_of_strips(job, n1);
  const auto fetch_more = [&](const std::byte* w) HWY_ATTR {
    for (index_t i = 0; i < 2 * tile_bytes; i += packed_rows::strip * 4)
      fetch_packed_ahead(w + i, end);
  };
  sums<X> s(job);
  const auto x = x_tiles<X>(job, 0, 0);
  for (index_t n = n0; n < n1;) {
    operand w = packed_tiles(job, n, 0, whole * terms, last);
    const bool two = job.height <= tile_rows && n + width < n1;
    if (two) {
      operand other = packed_tiles(job, n + width, 0, whole * terms, last);
      w.repeat = other.repeat = parts<X>;
      // Behind the first strip is the second, which is being read: what follows that one is next.
      const auto fetch_first = [&](const std::byte* at) HWY_ATTR {
        const bool near_end = at - w.at >= job.w_strip_bytes - packed_ahead;
        fetch_more(near_end ? at + 2 * job.w_strip_bytes : at);
      };
      multiply_two<bf16_products>(x, w, other, whole, c[0], c[1], fetch_first, fetch_more);
    } else {
      s.add(x, w, width, whole, c[0], true, fetch_more);
    }
    for (index_t i = 0; i < (two ? 2 : 1); ++i, n += width) {
      if (left > 0)
        s.add(x_tiles<X>(job, 0, whole), packed_tiles(job, n, whole * terms, left, last), width, 1,
              c[i], false);
      s.finish(0, job.m, n, n1 - n < width ? n1 - n : width, c[i]);
    }
  }
}

inline index_t height(index_t m) {
  index_t h = 1;
  while (h < m && h < width) h *= 2;
  return h;
}

template <class X>
gemm_path way() {
  gemm_path p;
  p.max_height = p.width = p.max_stream = p.max_stream_packed = width;
  p.k_per_unit = terms;
  p.unit_bytes = parts<X> * row_bytes;
  p.stream_unit_bytes = 2 * p.unit_bytes;
  p.sum_bytes = sizeof(float);
  p.block = block<X>;
  p.height = p.stream_height = &height;
  p.pack_x = &pack_x<X>;
  p.pack_stream = &pack_stream<X>;
  p.columns = &columns<X>;
  p.stream = &stream<X>;
  p.stream_packed = &stream_packed<X>;
  return p;
}
template <class X>
requires std::is_same_v<X, bf16> || std::is_same_v<X, float> gemm_path_of<X, bf16> kernels_for(
    wanted<gemm_path_of<X, bf16>>) {
  return {way<X>()};
}

}  // namespace amx
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif
