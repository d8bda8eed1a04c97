// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Products of one to four rows of x where tiles have rows and columns, with multiply-adds: tiles
// would be nearly empty, and each product of them takes its time. The sums have the bits of tiles:
// what TDPBF16PS is documented to do, with denormal numbers as zero.

#include "mlmamba/backend/cpu/simd/denormals.hpp"

#if MLMAMBA_SIMD_AMX
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",amx-tile,amx-bf16,amx-int8")
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace amx {

inline constexpr index_t most_few = 4;  // rows

/// x as floats: [block][term][part][row].
template <class X>
void pack_few(const gemm_job& job) {
  const index_t h = job.height;
  auto* out = static_cast<float*>(job.packed);
  HWY_ALIGN bf16 some[parts<X>][width][terms];
  for (index_t k = 0; k < job.k; k += terms) {
    const index_t count = job.k - k < terms ? job.k - k : terms;
    if constexpr (parts<X> != 1) {
      split(job, 0, h, k, count, some);
    } else {
      const auto* x = static_cast<const bf16*>(job.x);
      for (index_t i = 0; i < h; ++i)
        for (index_t j = 0; j < terms; ++j)
          some[0][i][j] = i >= job.m || j >= count ? bf16(0.0f)
                          : job.x_rows             ? x[i * job.x_stride + k + j]
                                                   : x[(k + j) * job.x_stride + i];
    }
    for (index_t j = 0; j < terms; ++j)
      for (const auto& part : some)
        for (index_t i = 0; i < h; ++i) *out++ = float(part[i][j]);
  }
}

/// Sums of rows of x with as many rows of w as there are lanes. A block of w meets all parts of x
/// at once, each in sums of its own.
template <class X, class Rows, class Parts>
struct few_sums;
template <class X, std::size_t... I, std::size_t... P>
struct few_sums<X, std::index_sequence<I...>, std::index_sequence<P...>> {
  using D = hn::ScalableTag<float>;
  static constexpr index_t height = sizeof...(I), each = sizeof...(P);  // P: of parts x rows
  hn::Vec<D> s[height], first[each], second[each];

  HWY_INLINE void load(const float* c, index_t stride) {
    ((s[I] = hn::LoadU(D(), c + index_t(I) * stride)), ...);
  }
  HWY_INLINE void store(float* c, index_t stride) const {
    (hn::StoreU(s[I], D(), c + index_t(I) * stride), ...);
  }
  HWY_INLINE void begin_block() { ((first[P] = hn::Zero(D()), second[P] = hn::Zero(D())), ...); }
  HWY_INLINE void add(word_vector pair, const float* x) {
    const D d;
    const auto w0 = hn::BitCast(d, first_of_pair(pair)), w1 = hn::BitCast(d, second_of_pair(pair));
    ((first[P] = hn::MulAdd(hn::Set(d, x[P]), w0, first[P])), ...);
    ((second[P] = hn::MulAdd(hn::Set(d, x[each + index_t(P)]), w1, second[P])), ...);
  }
  HWY_INLINE void end_block() {
    for (index_t part = 0; part < parts<X>; ++part)
      ((s[I] = hn::Add(
            s[I], hn::Add(first[part * height + index_t(I)], second[part * height + index_t(I)]))),
       ...);
  }
};
template <class X, index_t height>
using few_sums_of = few_sums<X, std::make_index_sequence<std::size_t(height)>,
                             std::make_index_sequence<std::size_t(height* parts<X>)>>;

template <class T, std::size_t... J>
HWY_INLINE void add_block(T& t, const word_block& b, const float* x, std::index_sequence<J...>) {
  t.begin_block();
  (t.add(b.v[J], x + 2 * index_t(J) * T::each), ...);
  t.end_block();
}

/// 16 rows of w as they are stored, transposed on the way; to the last sums c (height, 16).
template <class X, index_t height>
HWY_NOINLINE void few_stored(const gemm_job& job, index_t n, float* c) {
  using T = few_sums_of<X, height>;
  constexpr index_t ahead = 1024;  // bytes in each row
  const index_t bytes = 2 * job.k, jump = 2 * (tile_rows * job.w_stride - job.k);
  const char* rows[word_lanes];
  row_pointers(static_cast<const bf16*>(job.w), job.w_stride, n, job.n, rows);
  const auto* x = static_cast<const float*>(job.packed);
  T t;
  t.load(c, tile_rows);
  for (index_t u = 0; u * 4 < bytes; u += tile_rows, x += terms * T::each) {
    word_block b;
    if (u * 4 + row_bytes <= bytes) {
      // Behind the end of these rows the next ones begin.
      const index_t at = u * 4 + ahead, to = at >= bytes ? at + jump : at;
      for (const char* row : rows) hwy::Prefetch(row + to);
      load_words(rows, u, b, all_words());
    } else {
      load_last_words<bf16>(rows, u, job.k, b);
    }
    add_block(t, b, x, all_words());
  }
  t.store(c, tile_rows);
}

/// 32 rows of packed w; c (height, 32).
template <class X, index_t height>
HWY_NOINLINE void few_packed(const gemm_job& job, index_t n, std::uintptr_t end, float* c) {
  using T = few_sums_of<X, height>;
  const index_t whole = job.k / terms, left = job.k % terms;
  HWY_ALIGN std::byte spare[width * row_bytes];
  const auto* x = static_cast<const float*>(job.packed);
  T low, high;
  low.load(c, width), high.load(c + tile_rows, width);
  // Whole blocks, then what is left of k. No lambda: with clang it has none of the tiles'
  // attributes.
  for (const bool last : {false, true}) {
    const index_t from = last ? whole * terms : 0, some = last ? left : whole * terms;
    const operand w = packed_tiles(job, n, from, some, spare);
    const auto* at = reinterpret_cast<const std::uint32_t*>(w.at);
    for (index_t count = blocks_of(some); count > 0; --count) {
      low.begin_block(), high.begin_block();
      for (index_t j = 0; j < tile_rows; ++j, at += 2 * tile_rows, x += 2 * T::each) {
        fetch_packed_ahead(at, end);
        low.add(hn::LoadU(words(), at), x);
        high.add(hn::LoadU(words(), at + tile_rows), x);
      }
      low.end_block(), high.end_block();
    }
  }
  low.store(c, width), high.store(c + tile_rows, width);
}

template <class X, index_t height>
void stream_few(const gemm_job& job, index_t n0, index_t n1) {
  HWY_ALIGN float c[most_few * tile_rows] = {};
  for (; n0 < n1; n0 += tile_rows) {
    const index_t columns = n1 - n0 < tile_rows ? n1 - n0 : tile_rows;
    if (job.accumulate) {
      job.results->start(job, 0, job.m, n0, columns, c, tile_rows);
    } else {
      std::memset(c, 0, sizeof(c));
    }
    {
      const without_denormals scope;
      few_stored<X, height>(job, n0, c);
    }
    job.results->finish(job, 0, job.m, n0, columns, c, tile_rows);
  }
}
template <class X, index_t height>
void stream_few_packed(const gemm_job& job, index_t n0, index_t n1) {
  HWY_ALIGN float c[most_few * width];
  const auto end = end_of_strips(job, n1);
  for (; n0 < n1; n0 += width) {
    std::memset(c, 0, sizeof(c));
    {
      const without_denormals scope;
      few_packed<X, height>(job, n0, end, c);
    }
    job.results->finish(job, 0, job.m, n0, n1 - n0 < width ? n1 - n0 : width, c, width);
  }
}

}  // namespace amx
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif
