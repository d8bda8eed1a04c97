// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tiles of matrix products in registers. gemm-inl.hpp includes this inside the namespace of a
// target, and once more for the level with native bf16, whose steps need its instructions.

/// A tile of H x 2 vectors of sums: c (H, width) = first ? a b : c + a b, over packed units; those
/// of b are `stride` apart.
template <class Step, class Rows>
struct gemm_tile;
template <class Step, std::size_t... I>
struct gemm_tile<Step, std::index_sequence<I...>> {
  using A = typename Step::sum;
  using unit = typename Step::unit;
  static void run(const unit* HWY_RESTRICT a, const unit* HWY_RESTRICT b, index_t stride,
                  index_t units, A* HWY_RESTRICT c, bool first) {
    const hn::ScalableTag<A> d;
    const hn::ScalableTag<unit> du;
    constexpr index_t height = sizeof...(I);
    const index_t n = lanes(d);
    hn::Vec<decltype(d)> s0[height], s1[height];
    if (first) {
      ((s0[I] = hn::Zero(d), s1[I] = hn::Zero(d)), ...);
    } else {
      ((s0[I] = hn::LoadU(d, c + index_t(I) * 2 * n),
        s1[I] = hn::LoadU(d, c + index_t(I) * 2 * n + n)),
       ...);
    }
    for (index_t u = 0; u < units; ++u) {
      const auto b0 = hn::LoadU(du, b), b1 = hn::LoadU(du, b + n);
      (Step::multiply(a[I], b0, b1, s0[I], s1[I]), ...);
      a += height;
      b += stride;
    }
    ((hn::StoreU(s0[I], d, c + index_t(I) * 2 * n),
      hn::StoreU(s1[I], d, c + index_t(I) * 2 * n + n)),
     ...);
  }
};

/// The panel heights that tiles are compiled for, ascending.
template <index_t... H>
struct gemm_heights {
  static constexpr index_t largest = (H, ...);
  /// The smallest height that gives the least number of panels.
  static index_t for_rows(index_t m) {
    const index_t panels = (m + largest - 1) / largest;
    const index_t least = panels ? (m + panels - 1) / panels : 1;
    index_t h = largest;
    (void)((least <= H ? (h = H, true) : false) || ...);
    return h;
  }
  template <class Step>
  static void tile(index_t h, const typename Step::unit* a, const typename Step::unit* b,
                   index_t stride, index_t units, typename Step::sum* c, bool first) {
    (void)((h == H ? (gemm_tile<Step, std::make_index_sequence<std::size_t(H)>>::run(
                          a, b, stride, units, c, first),
                      true)
                   : false) ||
           ...);
  }
};

#if HWY_TARGET == HWY_SCALAR
using float_heights = gemm_heights<2, 4>;
using double_heights = gemm_heights<4>;
#elif HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
// 14 x 2 vectors of sums, 2 of w and 1 of x are 31 of 32 registers.
using float_heights = gemm_heights<4, 6, 8, 10, 12, 14>;
using double_heights = gemm_heights<8>;
#elif HWY_ARCH_X86 && HWY_TARGET == HWY_AVX2
using float_heights = gemm_heights<4, 6>;  // 6 x 2 + 3 of 16 registers
using double_heights = gemm_heights<4>;
#else
using float_heights = gemm_heights<2, 4>;
using double_heights = gemm_heights<2>;
#endif

template <class Step, class Heights, class X, class W>
struct gemm_way {
  using A = typename Step::sum;
  using unit = typename Step::unit;
  using Units = typename Step::units;
  static constexpr index_t block = 1536 / index_t(sizeof(unit));  // x 14 rows: 21 KiB of 32 of L1

  /// Are the words of packed w units?
  static constexpr bool packed_as_it_is =
      sizeof(unit) == 4 && elements_per_word<W> == Units::k_per_unit;
  static constexpr bool packed_in_pairs = std::is_same_v<W, bf16> && Units::k_per_unit == 1;

  static index_t width() { return 2 * lanes(hn::ScalableTag<A>()); }
  static index_t units_of(index_t k) { return (k + Units::k_per_unit - 1) / Units::k_per_unit; }

  static void pack_x(const gemm_job& job, index_t panel) {
    const index_t h = job.height;
    unit* out = static_cast<unit*>(job.packed) + panel * h * units_of(job.k);
    pack<Units>(job.x_rows, static_cast<const X*>(job.x), job.x_stride, panel * h, job.m, h, 1, 0,
                job.k, out);
  }

  static void columns(const gemm_job& job, index_t p0, index_t p1, index_t n0, index_t n1,
                      void* scratch) {
    const index_t h = job.height, all = units_of(job.k), wide = width();
    const index_t strips = (n1 - n0 + wide - 1) / wide;
    unit* b = static_cast<unit*>(scratch);
    A* sums = reinterpret_cast<A*>(b + strips * wide * block);
    const bool one_block = all <= block;
    for (index_t from = 0; from == 0 || from < all; from += block) {
      const index_t units = all - from < block ? all - from : block;
      const index_t k = from * Units::k_per_unit;
      const index_t count =
          job.k - k < units * Units::k_per_unit ? job.k - k : units * Units::k_per_unit;
      if (!job.w_packed) {
        pack<Units>(job.w_rows, static_cast<const W*>(job.w), job.w_stride, n0, job.n, wide, strips,
                    k, count, b);
      } else if constexpr (packed_in_pairs) {
        for (index_t j = 0; j < strips; ++j)
          widen_packed(packed_at(job, n0 + j * wide, k), wide, count, b + j * wide * units);
      }
      for (index_t p = p0; p < p1; ++p) {
        const unit* a = static_cast<const unit*>(job.packed) + (p * all + from) * h;
        const index_t m0 = p * h, rows = job.m - m0 < h ? job.m - m0 : h;
        for (index_t j = 0; j < strips; ++j) {
          const index_t at = n0 + j * wide, cols = n1 - at < wide ? n1 - at : wide;
          A* c = one_block ? sums : sums + ((p - p0) * strips + j) * h * wide;
          if (from == 0 && job.accumulate) job.results->start(job, m0, rows, at, cols, c, wide);
          const unit* w = b + j * wide * units;
          index_t stride = wide;
          if constexpr (packed_as_it_is) {
            if (job.w_packed)
              w = reinterpret_cast<const unit*>(packed_at(job, at, k)), stride = packed_rows::strip;
          }
          Heights::template tile<Step>(h, a, w, stride, units, c, from == 0 && !job.accumulate);
          if (from + block >= all) job.results->finish(job, m0, rows, at, cols, c, wide);
        }
      }
    }
  }

  /// The word of packed w in which row n has k.
  static const std::uint32_t* packed_at(const gemm_job& job, index_t n, index_t k) {
    const auto* strip =
        static_cast<const std::byte*>(job.w) + n / packed_rows::strip * job.w_strip_bytes;
    return reinterpret_cast<const std::uint32_t*>(strip) +
           k / elements_per_word<W> * packed_rows::strip + n % packed_rows::strip;
  }
  /// bf16 in pairs to floats: `count` k of `wide` rows.
  static void widen_packed(const std::uint32_t* from, index_t wide, index_t count, unit* out) {
    const hn::ScalableTag<std::uint32_t> d;
    auto* to = reinterpret_cast<std::uint32_t*>(out);
    for (index_t k = 0; k < count; k += 2, from += packed_rows::strip, to += 2 * wide) {
      for (index_t i = 0; i < wide; i += lanes(d)) {
        const auto v = hn::LoadU(d, from + i);
        hn::StoreU(hn::ShiftLeft<16>(v), d, to + i);
        if (k + 1 < count) hn::StoreU(hn::And(v, hn::Set(d, 0xffff0000u)), d, to + wide + i);
      }
    }
  }

  static gemm_path path() {
    gemm_path p;
    p.max_height = Heights::largest;
    p.width = width();
    p.k_per_unit = Units::k_per_unit;
    p.unit_bytes = p.stream_unit_bytes = sizeof(unit);
    p.sum_bytes = sizeof(A);
    p.block = block;
    p.height = &Heights::for_rows;
    p.pack_x = &pack_x;
    p.columns = &columns;
    return p;
  }
};
