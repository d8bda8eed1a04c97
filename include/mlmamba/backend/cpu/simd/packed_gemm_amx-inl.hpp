// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Products of many rows with weights of 8 and 4 bits by tiles of int8. The sums of a group are
// exact and are added in float as everywhere: the same bits.

#if MLMAMBA_SIMD_AMX
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni,amx-tile,amx-bf16,amx-int8")
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace amx {

/// The most k of a group that one product takes: a part of it that is a multiple of 4.
inline index_t bytes_at_once(index_t group) {
  index_t unit = row_bytes;
  while (group % unit != 0) unit -= 4;
  return unit;
}

/// c (rows, 32) = or += sums of a group times the scales of rows of x and of w.
inline void add_group(const std::int32_t* sums, index_t rows, const float* x_scale,
                      const bf16* w_scale, bool first, float* c) {
  const hn::ScalableTag<float> d;
  const hn::ScalableTag<std::int32_t> di;
  const index_t n = lanes(d);
  const auto w0 = load(d, w_scale), w1 = load(d, w_scale + n);
  for (index_t i = 0; i < rows; ++i, sums += width, c += width) {
    const auto s = hn::Set(d, x_scale[i]);
    const auto c0 = first ? hn::Zero(d) : hn::Load(d, c);
    const auto c1 = first ? hn::Zero(d) : hn::Load(d, c + n);
    const auto i0 = hn::ConvertTo(d, hn::Load(di, sums));
    const auto i1 = hn::ConvertTo(d, hn::Load(di, sums + n));
    hn::Store(hn::MulAdd(i0, hn::Mul(s, w0), c0), d, c);
    hn::Store(hn::MulAdd(i1, hn::Mul(s, w1), c1), d, c + n);
  }
}

/// `rows` of a block of x, L tiles, with a strip of w.
template <int L>
void quantised_block(const quantised_job& job, index_t m0, index_t rows, index_t s) {
  using T = tiles<int8_products, L, 2>;
  HWY_ALIGN float c[width * width];
  HWY_ALIGN std::int32_t sums[2][width * width];
  const index_t at_once = job.unit, all = job.group / at_once;
  operand left{reinterpret_cast<const std::byte*>(job.r) + m0 * job.padded_k, job.height * at_once,
               tile_rows * at_once, at_once};
  constexpr index_t four = packed_rows::strip * 4;
  operand right{job.w + (s - job.first_strip) * job.strip_bytes, at_once / 4 * four, row_bytes,
                four};
  const float* x_scale = job.x_scale + m0 * job.groups;
  const bf16* w_scale = job.w_scale + s * job.groups * packed_rows::strip;
  std::uintptr_t ahead = job.ahead;
  const auto fetch_more = [&](const std::byte*) HWY_ATTR { fetch_piece(job, ahead); };
  const auto multiply = [&] {
    T::zero();
    fetch_more(nullptr);
    T::add(left, right, all, fetch_more);
    left.at += all * left.block, right.at += all * right.block;
  };
  const auto keep = [&](index_t g) {
    T::store(reinterpret_cast<std::byte*>(sums[g % 2]), 4 * width);
  };
  if (job.groups == 0) std::memset(c, 0, sizeof(c));
  if (job.groups > 0) multiply(), keep(0);
  for (index_t g = 0; g < job.groups; ++g) {
    // The next group's products run beside this one's arithmetic.
    if (g + 1 < job.groups) multiply();
    add_group(sums[g % 2], rows, x_scale + g * job.height, w_scale + g * packed_rows::strip, g == 0,
              c);
    if (g + 1 < job.groups) keep(g + 1);
  }
  const index_t n = s * packed_rows::strip;
  job.out.results->finish(job.out, m0, rows, n, job.out.n - n < width ? job.out.n - n : width, c,
                          width);
}

/// Tiles are configured once for all whole blocks: it waits for what they still compute.
inline void quantised_blocks(const quantised_job& job, index_t m0, index_t rows, index_t s0,
                             index_t s1) {
  const index_t whole = rows / width * width, left = rows - whole;
  quantised_job own = job;
  if (whole > 0) {
    const configuration as(width, width, job.unit);
    for (index_t m = m0; m < m0 + whole; m += width, own.pass_ahead())
      for (index_t s = s0; s < s1; ++s) quantised_block<2>(own, m, width, s);
  }
  if (left == 0) return;
  const configuration as(left, width, job.unit);
  for (index_t s = s0; s < s1; ++s) {
    if (left > tile_rows) {
      quantised_block<2>(own, m0 + whole, left, s);
    } else {
      quantised_block<1>(own, m0 + whole, left, s);
    }
  }
}

/// A strip in 8 bits with a sign.
inline void signed_strip(const quantised_job& job, index_t s, std::byte* to) {
  const hn::ScalableTag<std::uint8_t> d;
  const index_t n = lanes(d);
  const auto* from = reinterpret_cast<const std::uint8_t*>(job.w + s * job.strip_bytes);
  auto* out = reinterpret_cast<std::uint8_t*>(to);
  if (!job.nibbles) {
    const auto offset = hn::Set(d, std::uint8_t(128));
    for (index_t i = 0; i < job.strip_bytes; i += n)
      hn::StoreU(hn::Xor(hn::LoadU(d, from + i), offset), d, out + i);
    return;
  }
  const auto low = hn::Set(d, std::uint8_t(15)), offset = hn::Set(d, std::uint8_t(8));
  const hn::ScalableTag<std::uint16_t> d16;
  constexpr index_t four = packed_rows::strip * 4;
  for (index_t i = 0; i < job.strip_bytes; i += four, out += 2 * four)
    for (index_t j = 0; j < four; j += n) {
      const auto v = hn::LoadU(d, from + i + j);
      const auto high = hn::BitCast(d, hn::ShiftRight<4>(hn::BitCast(d16, v)));
      hn::StoreU(hn::Sub(hn::And(v, low), offset), d, out + j);
      hn::StoreU(hn::Sub(hn::And(high, low), offset), d, out + four + j);
    }
}

template <std::same_as<quantised_entries> Entries>
Entries kernels_for(wanted<Entries> w) {
  Entries e = vnni::kernels_for(w);
  e.tiles = {width, &bytes_at_once, &quantised_blocks, &signed_strip, true};
  e.tiles_above = 24;
  return e;
}

}  // namespace amx
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif
