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
    p.unit_bytes = sizeof(unit);
    p.block = block;
    p.height = &Heights::for_rows;
    p.pack_x = &pack_x;
    p.columns = &columns;
    return p;
  }
};

#if HWY_TARGET != HWY_SCALAR

/// Few rows of x: w is read once, front to back, and transposed on the way.
template <class Step, class W, class Rows>
struct gemm_stream;
template <class Step, class W, std::size_t... I>
struct gemm_stream<Step, W, std::index_sequence<I...>> {
  using A = typename Step::sum;
  using unit = typename Step::unit;
  static constexpr index_t height = sizeof...(I);
  static constexpr index_t prefetch = 1024;  // bytes ahead in each row

  /// As many columns of y as there are lanes.
  struct group {
    hn::Vec<hn::ScalableTag<A>> s[height];
    const unit* a;
    index_t n, columns, k, jump;

    HWY_INLINE void begin(const gemm_job& job, index_t from, index_t to, const char** rows, A* c) {
      const hn::ScalableTag<A> d;
      n = from;
      columns = to - from < lanes(d) ? to - from : lanes(d);
      a = static_cast<const unit*>(job.packed);
      k = job.k;
      jump = (lanes(d) * job.w_stride - k) * index_t(sizeof(W));
      row_pointers(static_cast<const W*>(job.w), job.w_stride, n, job.n, rows);
      ((s[I] = hn::Zero(d)), ...);
      if (job.accumulate && columns > 0) {
        job.results->start(job, 0, job.m, n, columns, c, lanes(d));
        ((s[I] = hn::LoadU(d, c + index_t(I) * lanes(d))), ...);
      }
    }
    HWY_INLINE void word(word_vector v, index_t u) {
      const hn::ScalableTag<unit> du;
      if constexpr (std::is_same_v<W, bf16> && Step::units::k_per_unit == 1) {
        const auto b0 = hn::BitCast(du, first_of_pair(v)), b1 = hn::BitCast(du, second_of_pair(v));
        (Step::multiply(a[2 * u * height + index_t(I)], b0, s[I]), ...);
        if (2 * u + 1 < k) (Step::multiply(a[(2 * u + 1) * height + index_t(I)], b1, s[I]), ...);
      } else {
        (Step::multiply(a[u * height + index_t(I)], hn::BitCast(du, v), s[I]), ...);
      }
    }
    template <std::size_t... J>
    HWY_INLINE void next_words(const char* const* rows, index_t u, std::index_sequence<J...> all) {
      word_block t;
      // Behind the end of these rows the next group's begin.
      index_t ahead = u * 4 + prefetch;
      if (ahead >= k * index_t(sizeof(W))) ahead += jump;
      (hwy::Prefetch(rows[J] + ahead), ...);
      load_words(rows, u, t, all);
      (word(t.v[J], u + index_t(J)), ...);
    }
    HWY_INLINE void last_words(const char* const* rows, index_t u) {
      word_block t;
      load_last_words<W>(rows, u, k, t);
      for (index_t j = 0; (u + j) * elements_per_word<W> < k; ++j) word(t.v[j], u + j);
    }
    HWY_INLINE void end(const gemm_job& job, A* c) {
      const hn::ScalableTag<A> d;
      if (columns <= 0) return;
      (hn::StoreU(s[I], d, c + index_t(I) * lanes(d)), ...);
      job.results->finish(job, 0, job.m, n, columns, c, lanes(d));
    }
  };

  static void run(const gemm_job& job, index_t n0, index_t n1) {
    const hn::ScalableTag<A> d;
    constexpr index_t e = elements_per_word<W>, step = index_t(word_lanes);
    A c[height * step];
    for (index_t n = n0; n < n1; n += lanes(d)) {
      const char* rows[word_lanes];  // apart from the sums: those shall stay in registers
      group g;
      g.begin(job, n, n1, rows, c);
      index_t u = 0;
      for (; (u + step) * e <= job.k; u += step) g.next_words(rows, u, all_words());
      if (u * e < job.k) g.last_words(rows, u);
      g.end(job, c);
    }
  }
};

/// Few rows of x and packed w, which is read as it lies.
template <class Step, class W, class Rows>
struct packed_stream;
template <class Step, class W, std::size_t... I>
struct packed_stream<Step, W, std::index_sequence<I...>> {
  using A = typename Step::sum;
  using unit = typename Step::unit;
  using way = gemm_way<Step, float_heights, float, W>;  // for the place of a word
  static constexpr index_t height = sizeof...(I), strip = packed_rows::strip;
  static constexpr index_t prefetch = 2048 / 4;  // words ahead

  static void run(const gemm_job& job, index_t n0, index_t n1) {
    const hn::ScalableTag<A> d;
    const hn::ScalableTag<unit> du;
    const index_t wide = 2 * lanes(d), k = job.k;
    A c[2 * height * word_lanes];
    for (index_t n = n0; n < n1; n += wide) {
      hn::Vec<decltype(d)> s0[height], s1[height];
      ((s0[I] = hn::Zero(d), s1[I] = hn::Zero(d)), ...);
      const unit* a = static_cast<const unit*>(job.packed);
      const std::uint32_t* p = way::packed_at(job, n, 0);
      for (index_t u = 0; u * elements_per_word<W> < k; ++u, p += strip) {
        hwy::Prefetch(p + prefetch);
        hwy::Prefetch(p + prefetch + 16);
        const auto v0 = hn::LoadU(words(), p), v1 = hn::LoadU(words(), p + lanes(d));
        if constexpr (std::is_same_v<W, bf16> && Step::units::k_per_unit == 1) {
          const auto b0 = hn::BitCast(du, first_of_pair(v0)),
                     b1 = hn::BitCast(du, first_of_pair(v1));
          (Step::multiply(a[I], b0, b1, s0[I], s1[I]), ...);
          a += height;
          if (2 * u + 1 < k) {
            const auto e0 = hn::BitCast(du, second_of_pair(v0));
            const auto e1 = hn::BitCast(du, second_of_pair(v1));
            (Step::multiply(a[I], e0, e1, s0[I], s1[I]), ...);
            a += height;
          }
        } else {
          const auto b0 = hn::BitCast(du, v0), b1 = hn::BitCast(du, v1);
          (Step::multiply(a[I], b0, b1, s0[I], s1[I]), ...);
          a += height;
        }
      }
      ((hn::StoreU(s0[I], d, c + index_t(I) * wide),
        hn::StoreU(s1[I], d, c + index_t(I) * wide + lanes(d))),
       ...);
      job.results->finish(job, 0, job.m, n, n1 - n < wide ? n1 - n : wide, c, wide);
    }
  }
};

/// Adds the stream kernels for 1, 2, 4 and (given the registers) 8 rows.
template <class Step, class W>
void add_stream(gemm_path& p) {
  p.max_stream = lanes(words()) >= 8 ? 8 : 4;
  p.stream_height = [](index_t m) -> index_t { return m <= 2 ? m : m <= 4 ? 4 : 8; };
  p.stream = [](const gemm_job& job, index_t n0, index_t n1) {
    switch (job.height) {
      case 1:
        return gemm_stream<Step, W, std::make_index_sequence<1>>::run(job, n0, n1);
      case 2:
        return gemm_stream<Step, W, std::make_index_sequence<2>>::run(job, n0, n1);
      case 4:
        return gemm_stream<Step, W, std::make_index_sequence<4>>::run(job, n0, n1);
      default:
        return gemm_stream<Step, W, std::make_index_sequence<8>>::run(job, n0, n1);
    }
  };
  p.stream_packed = [](const gemm_job& job, index_t n0, index_t n1) {
    switch (job.height) {
      case 1:
        return packed_stream<Step, W, std::make_index_sequence<1>>::run(job, n0, n1);
      case 2:
        return packed_stream<Step, W, std::make_index_sequence<2>>::run(job, n0, n1);
      case 4:
        return packed_stream<Step, W, std::make_index_sequence<4>>::run(job, n0, n1);
      default:
        return packed_stream<Step, W, std::make_index_sequence<8>>::run(job, n0, n1);
    }
  };
}

#endif
