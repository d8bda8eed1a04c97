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
  static constexpr index_t prefetch = 2048 / 4;  // words ahead

  static void run(const quantised_job& job, index_t m0, index_t s0, index_t s1) {
    const D d;
    const index_t wide = 2 * lanes(d);
    float c[2 * height * HWY_LANES(float)];
    for (index_t n = s0 * strip; n < s1 * strip && n < job.out.n; n += wide) {
      sums(job, m0, n, c);
      const index_t columns = job.out.n - n < wide ? job.out.n - n : wide;
      job.out.results->finish(job.out, m0, height, n, columns, c, wide);
    }
  }

  static HWY_INLINE void sums(const quantised_job& job, index_t m0, index_t n, float* c) {
    const D d;
    const DI di;
    const index_t step = lanes(d), wide = 2 * step;
    const std::int8_t* r =
        job.r + m0 / job.height * job.height * job.padded_k + m0 % job.height * 4;
    const index_t next = job.height * 4;
    const auto* w =
        reinterpret_cast<const std::int32_t*>(job.w + n / strip * job.strip_bytes) + n % strip;
    const bf16* scale = job.w_scale + n / strip * job.groups * strip + n % strip;
    hn::Vec<D> f0[height], f1[height];
    ((f0[I] = hn::Zero(d), f1[I] = hn::Zero(d)), ...);
    for (index_t g = 0; g < job.groups; ++g, scale += strip) {
      const index_t at = m0 * job.groups + g;
      hn::Vec<DI> i0[height], i1[height];
      ((i0[I] = i1[I] = hn::Set(di, job.x_start[at + index_t(I) * job.groups])), ...);
      for (index_t k = 0; k < job.group; k += nibbles ? 8 : 4, w += strip) {
        hwy::Prefetch(w + prefetch);
        hwy::Prefetch(w + prefetch + 16);
        const auto v0 = hn::LoadU(di, w), v1 = hn::LoadU(di, w + step);
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
        }
        r += next;
      }
      const auto w0 = load(d, scale), w1 = load(d, scale + step);
      auto group = [&](hn::Vec<DI> i, hn::Vec<D> ws, float xs, hn::Vec<D>& f) HWY_ATTR {
        f = fused(d, hn::ConvertTo(d, i), hn::Mul(hn::Set(d, xs), ws), f);
      };
      (group(i0[I], w0, job.x_scale[at + index_t(I) * job.groups], f0[I]), ...);
      (group(i1[I], w1, job.x_scale[at + index_t(I) * job.groups], f1[I]), ...);
    }
    ((hn::StoreU(f0[I], d, c + index_t(I) * wide),
      hn::StoreU(f1[I], d, c + index_t(I) * wide + step)),
     ...);
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
    while (rows > 0) {
      index_t taken = 1;
      (void)((rows >= H ? (one<H>(job, m0, s0, s1), taken = H, true) : false) || ...);
      m0 += taken, rows -= taken;
    }
  }
  static quantised_entries entries(index_t most) { return {most, &tile}; }
};
