// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix products with few rows: w is read once. Included behind gemm_tile-inl.hpp, each time.

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

  static void run(const gemm_job& job, index_t n0, index_t n1) {
    const hn::ScalableTag<A> d;
    const hn::ScalableTag<unit> du;
    const index_t wide = 2 * lanes(d), k = job.k;
    A c[2 * height * word_lanes];
    const index_t soon = job.w_soon > n1 ? job.w_soon : n1;
    const auto end = reinterpret_cast<std::uintptr_t>(job.w) +
                     std::uintptr_t((soon + strip - 1) / strip * job.w_strip_bytes);
    for (index_t n = n0; n < n1; n += wide) {
      hn::Vec<decltype(d)> s0[height], s1[height];
      ((s0[I] = hn::Zero(d), s1[I] = hn::Zero(d)), ...);
      const unit* a = static_cast<const unit*>(job.packed);
      const std::uint32_t* p = way::packed_at(job, n, 0);
      for (index_t u = 0; u * elements_per_word<W> < k; ++u, p += strip) {
        fetch_packed_ahead(p, end);
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

/// Adds the stream kernels for 1, 2, 4 and (given the registers) 8 rows, of packed w up to 12.
template <class Step, class W>
void add_stream(gemm_path& p) {
  p.max_stream = lanes(words()) >= 8 ? 8 : 4;
  p.max_stream_packed = lanes(words()) >= 16 ? 12 : p.max_stream;
  p.max_passes = lanes(words()) >= 16 ? 2 : 1;
  p.stream_height = [](index_t m) -> index_t { return m <= 2 ? m : (m + 3) / 4 * 4; };
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
      case 8:
        return packed_stream<Step, W, std::make_index_sequence<8>>::run(job, n0, n1);
      default:
        if constexpr (word_lanes >= 16)
          return packed_stream<Step, W, std::make_index_sequence<12>>::run(job, n0, n1);
    }
  };
}

#endif
