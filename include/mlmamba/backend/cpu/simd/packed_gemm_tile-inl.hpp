// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tiles of integer products in registers. packed_gemm-inl.hpp includes this inside the namespace of
// a target, and once more for the level whose Dot needs instructions of its own.

/// Rows of x times two vectors of rows of w: exact sums in groups, the groups in float.
template <class Dot, bool nibbles, class Rows>
struct quantised_tile;
template <class Dot, bool nibbles, std::size_t... I>
struct quantised_tile<Dot, nibbles, std::index_sequence<I...>> {
  using D = hn::ScalableTag<float>;
  using DI = hn::ScalableTag<std::int32_t>;
  static constexpr index_t height = sizeof...(I), strip = packed_rows::strip;

  static void run(const quantised_job& job, index_t m0, index_t s0, index_t s1) {
    const D d;
    const index_t wide = 2 * lanes(d);
    HWY_ALIGN float c[2 * height * HWY_LANES(float)];
    const auto end = reinterpret_cast<std::uintptr_t>(job.w) +
                     std::uintptr_t((s1 - job.first_strip) * job.strip_bytes);
    const index_t rows = job.out.m - m0 < height ? job.out.m - m0 : height;  // more are padding
    const bool from_memory = job.out.m <= job.height;  // of more rows w is in the caches
    for (index_t n = s0 * strip; n < s1 * strip && n < job.out.n; n += wide) {
      const index_t columns = job.out.n - n < wide ? job.out.n - n : wide;
      if (from_memory) {
        sums<true>(job, m0, n, columns, end, c);
      } else {
        sums<false>(job, m0, n, columns, end, c);
      }
      job.out.results->finish(job.out, m0, rows, n, columns, c, wide);
    }
  }

  template <bool from_memory>
  static HWY_INLINE void sums(const quantised_job& job, index_t m0, index_t n, index_t columns,
                              std::uintptr_t end, float* c) {
    const D d;
    const DI di;
    const index_t step = lanes(d), wide = 2 * step;
    const std::int8_t* r =
        job.r + m0 / job.height * job.height * job.padded_k + m0 % job.height * 4;
    const index_t first = m0 / job.height * job.height * job.groups + m0 % job.height;
    const float* x_scale = job.x_scale + first;
    const std::int32_t* x_start = job.x_start + first;
    const index_t next = job.height * 4;
    const auto* w = reinterpret_cast<const std::int32_t*>(job.w + (n / strip - job.first_strip) *
                                                                      job.strip_bytes) +
                    n % strip;
    std::uintptr_t ahead = job.ahead;
    const bf16* scale = job.w_scale + n / strip * job.groups * strip + n % strip;
    if (job.groups == 0)
      for (index_t i = 0; i < 2 * height; ++i) hn::StoreU(hn::Zero(d), d, c + i * step);
    for (index_t g = 0; g < job.groups; ++g) {
      if constexpr (!from_memory) {  // a few lines of y at a time: all at once, w waits for them
        const index_t from = g * height / job.groups, to = (g + 1) * height / job.groups;
        if (from < to) job.out.results->fetch(job.out, m0 + from, to - from, n, columns);
      }
      typename Dot::sum i0[height], i1[height];
      ((i0[I] = i1[I] = Dot::start(x_start[I])), ...);
      // 8 k at once: a word of 4 bits, two of 8
      for (index_t k = 0; k < job.group; k += 8) {
        if constexpr (!from_memory)
          if (k % quantised_job::piece == 0) fetch_piece(job, ahead);
        if constexpr (from_memory) fetch_packed_ahead(w, end);
        const auto v0 = hn::LoadU(di, w), v1 = hn::LoadU(di, w + step);
        w += strip;
        if constexpr (nibbles) {
          const hn::ScalableTag<std::uint32_t> du;
          const auto low = hn::Set(di, 0x0f0f0f0f);
          const auto a0 = hn::And(v0, low), a1 = hn::And(v1, low);
          (Dot::add(r + 4 * index_t(I), a0, a1, i0[I], i1[I]), ...);
          r += next;
          const auto h0 = hn::And(hn::BitCast(di, hn::ShiftRight<4>(hn::BitCast(du, v0))), low);
          const auto h1 = hn::And(hn::BitCast(di, hn::ShiftRight<4>(hn::BitCast(du, v1))), low);
          (Dot::add(r + 4 * index_t(I), h0, h1, i0[I], i1[I]), ...);
        } else {
          (Dot::add(r + 4 * index_t(I), v0, v1, i0[I], i1[I]), ...);
          r += next;
          if constexpr (from_memory) fetch_packed_ahead(w, end);
          const auto h0 = hn::LoadU(di, w), h1 = hn::LoadU(di, w + step);
          w += strip;
          (Dot::add(r + 4 * index_t(I), h0, h1, i0[I], i1[I]), ...);
        }
        r += next;
      }
      const auto w0 = load(d, scale), w1 = load(d, scale + step);
      if (g == 0) {
        (add_group<true>(Dot::value(i0[I]), Dot::value(i1[I]), w0, w1, x_scale[I],
                         c + index_t(I) * wide),
         ...);
      } else {
        (add_group<false>(Dot::value(i0[I]), Dot::value(i1[I]), w0, w1, x_scale[I],
                          c + index_t(I) * wide),
         ...);
      }
      scale += strip, x_scale += job.height, x_start += job.height;
    }
  }

  /// The sums in float stay in memory: integer ones take all registers, and these come once a
  /// group. Row by row: GCC 12 would convert all rows first, and has no registers for that.
  template <bool first>
  static HWY_INLINE void add_group(hn::Vec<DI> i0, hn::Vec<DI> i1, hn::Vec<D> w0, hn::Vec<D> w1,
                                   float x_scale, float* c) {
    const D d;
    const auto s = hn::Set(d, x_scale);
    float* c1 = c + lanes(d);
    const auto before = [&](const float* p)
                            HWY_ATTR { return first ? hn::Zero(d) : hn::LoadU(d, p); };
    hn::StoreU(fused(d, hn::ConvertTo(d, i0), hn::Mul(s, w0), before(c)), d, c);
    hn::StoreU(fused(d, hn::ConvertTo(d, i1), hn::Mul(s, w1), before(c1)), d, c1);
    HWY_FENCE;
  }
};

/// Rows are taken by so many: what is left over by fewer.
template <class Dot, index_t... H>
struct quantised_heights {
  template <index_t h>
  static void one(const quantised_job& job, index_t m0, index_t s0, index_t s1) {
    using rows = std::make_index_sequence<std::size_t(h)>;
    if (job.nibbles) {
      quantised_tile<Dot, true, rows>::run(job, m0, s0, s1);
    } else {
      quantised_tile<Dot, false, rows>::run(job, m0, s0, s1);
    }
  }
  static void tile(const quantised_job& job, index_t m0, index_t rows, index_t s0, index_t s1) {
    quantised_job own = job;
    while (rows > 0) {
      index_t taken = 1;
      (void)((rows >= H ? (one<H>(own, m0, s0, s1), taken = H, true) : false) || ...);
      m0 += taken, rows -= taken;
      own.pass_ahead();
    }
  }
  /// A strip of 4 bits in 8, for products that read it many times.
  static void unpack(const quantised_job& job, index_t s, std::byte* to) {
    const hn::ScalableTag<std::uint32_t> d;
    constexpr index_t strip = packed_rows::strip;
    const auto* w = reinterpret_cast<const std::uint32_t*>(job.w + s * job.strip_bytes);
    auto* out = reinterpret_cast<std::uint32_t*>(to);
    const auto low = hn::Set(d, 0x0f0f0f0fu);
    for (index_t i = 0; i < job.strip_bytes / 4; i += strip, w += strip, out += 2 * strip)
      for (index_t j = 0; j < strip; j += lanes(d)) {
        const auto v = hn::LoadU(d, w + j);
        hn::StoreU(hn::And(v, low), d, out + j);
        hn::StoreU(hn::And(hn::ShiftRight<4>(v), low), d, out + strip + j);
      }
  }
  static index_t unit(index_t) { return 4; }
  static quantised_entries entries(index_t most) {
    quantised_entries e;
    e.few = e.tall = {most, &unit, &tile, &unpack};
    e.few_height = &height_for;
    return e;
  }
  /// The least height that has room for m rows, else the greatest.
  static index_t height_for(index_t m) {
    index_t least = 0;
    ((least = H >= m || least == 0 ? H : least), ...);
    return least;
  }
};
