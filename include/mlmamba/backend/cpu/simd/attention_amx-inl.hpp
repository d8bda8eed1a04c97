// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Attention of bf16 by tiles. Scores are sums of exact products; what the softmax makes of them is
// rounded to bf16 to meet values, and summed as it was before. Keys whose scores make a product lie
// in pairs of i and i + 16 of 32.

#if MLMAMBA_SIMD_AMX
HWY_PUSH_ATTRIBUTES(MLMAMBA_AMX_TARGET)
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace amx {

/// As HWY_NAMESPACE::attention_blocks.
template <class T>
struct attention_blocks : attentions<T> {
  using base = attentions<T>;
  using A = float;
  static_assert(base::query_block == width);
  const attention_head<T>& o;
  index_t w, p_row, blocks;  // blocks of 32 of the width
  std::byte* k;              // right tiles, (32 keys, block, pair, key)
  std::byte* v;              // right tiles, (32 keys, w / 16)
  std::byte *q, *p;          // left tiles, (block, query), (32 keys of key_block, query)
  A *scores, *sums;          // (query_block, p_row), (query_block, w)
  configuration as{width, width};

  static index_t whole(index_t n) { return (n + width - 1) / width * width; }
  static index_t row(index_t keys) {  // an odd number of tiles: rows spread over a cache
    return whole(keys < base::key_block ? keys : base::key_block) + tile_rows;
  }
  static index_t scratch(index_t keys, index_t columns) {
    const index_t w = base::padded(columns);
    return whole(keys) * (whole(columns) + w) / 2 +
           width * (whole(columns) / 2 + base::key_block / 2 + row(keys) + w);
  }
  attention_blocks(const attention_head<T>& head, A* at)
      : o(head), w(base::padded(o.width)), p_row(row(o.keys)), blocks(blocks_of(o.width)) {
    bump<A> b{at};
    const auto bytes = [&](index_t n) { return reinterpret_cast<std::byte*>(b.take(n / 2)); };
    k = bytes(whole(o.keys) * blocks * terms), v = bytes(whole(o.keys) * w);
    q = bytes(width * blocks * terms), p = bytes(width * base::key_block);
    scores = b.take(width * p_row), sums = b.take(width * w);
    for (index_t j = 0; j < o.keys; j += width) {
      pack_right(true, o.k, o.k_row, j, o.keys, width, 0, o.width, keys(j));
      pack_values(j);
    }
  }
  std::byte* keys(index_t j) const { return k + j * blocks * row_bytes; }
  std::byte* values(index_t j) const { return v + j / width * (w / tile_rows) * tile_bytes; }

  void pack_values(index_t j) const {
    std::byte* to = values(j);
    for (index_t c = 0; c < w; c += tile_rows)
      for (index_t i = j; i < j + tile_rows; ++i, to += row_bytes) {
        const auto take = [&](index_t key) MLMAMBA_AMX_ATTR {
          return key < o.keys ? load_words(o.v + key * o.v_row + c, first_of(o.width - c))
                              : hn::Zero(words());
        };
        store_words(pair_of(take(i), take(i + tile_rows)), to);
      }
  }
  void take_queries(index_t i0, index_t n) {
    pack_left(true, o.q, o.q_row, i0, i0 + n, width, 0, o.width, q);
    std::fill_n(sums, n * w, A(0));
  }
  HWY_NOINLINE void score(index_t n, index_t j0, index_t count) {
    for (index_t j = 0; j < count; j += width)
      multiply<bf16_products>(n, count - j, {q, width * row_bytes, tile_bytes, row_bytes},
                              {keys(j0 + j), width * row_bytes, row_bytes, 4 * width}, blocks,
                              reinterpret_cast<std::byte*>(scores + j), 4 * p_row, true,
                              no_fetch());
  }
  /// p = exp(scale scores - top) of query i, zero where not visible; see softmax_row.
  HWY_NOINLINE A softmax(index_t i, index_t count, index_t seen, A& top) {
    const floats d;
    const A* const s = scores + i * p_row;
    const auto f = hn::Set(d, o.scale), lowest = hn::Set(d, -std::numeric_limits<A>::infinity());
    auto m0 = lowest, m1 = lowest;
    for (index_t j = 0; j < seen; j += width) {
      const auto second = j + tile_rows < seen
                              ? first_or(d, hn::Mul(hn::LoadU(d, s + j + tile_rows), f),
                                         seen - j - tile_rows, lowest)
                              : lowest;
      m0 = hn::Max(m0, first_or(d, hn::Mul(hn::LoadU(d, s + j), f), seen - j, lowest));
      m1 = hn::Max(m1, second);
    }
    const A largest = max_of_lanes(d, hn::Max(m0, m1));
    if (largest > top) top = largest;
    const auto t = hn::Set(d, top);
    auto sum = hn::Zero(d);
    std::byte* to = p + i * row_bytes;
    for (index_t j = 0; j < count; j += width, to += width * row_bytes) {
      auto a = hn::Zero(d), b = a;
      if (j < seen)
        a = first_or(d, exp(d, hn::Sub(hn::Mul(hn::LoadU(d, s + j), f), t)), seen - j, a);
      if (j + tile_rows < seen)
        b = first_or(d, exp(d, hn::Sub(hn::Mul(hn::LoadU(d, s + j + tile_rows), f), t)),
                     seen - j - tile_rows, b);
      store_words(rounded_pair(a, b), to);
      sum = hn::Add(sum, hn::Add(a, b));
    }
    return sum_of_lanes(d, sum);
  }
  HWY_NOINLINE void add_values(index_t n, index_t j0, index_t count) {
    const index_t tiles = w / tile_rows;
    for (index_t c = 0; c < tiles; c += 2)
      multiply<bf16_products>(
          n, (tiles - c) * tile_rows, {p, width * row_bytes, tile_bytes, row_bytes},
          {values(j0) + c * tile_bytes, tiles * tile_bytes, tile_bytes, row_bytes},
          blocks_of(count), reinterpret_cast<std::byte*>(sums + c * tile_rows), 4 * w, j0 == 0,
          no_fetch());
  }
};

/// Tiles where they pay: not for heads of few keys, half of which is padding (36 x 32 took 1.1
/// times as long, 36 x 64 0.85 times).
template <class T>
struct attentions_by_size {
  using few = HWY_NAMESPACE::attention_blocks<T>;
  using many = attention_blocks<T>;
  static bool is_many(index_t keys, index_t columns) {
    return keys >= width && keys * columns >= 2048;
  }
  static index_t scratch(index_t keys, index_t columns) {
    return is_many(keys, columns) ? many::scratch(keys, columns) : few::scratch(keys, columns);
  }
  static void forward(const attention_head<T>& o, index_t from, index_t to, float* scratch) {
    is_many(o.keys, o.width) ? many::template forward<many>(o, from, to, scratch)
                             : few::template forward<few>(o, from, to, scratch);
  }
};
template <class T>
requires std::is_same_v<T, bf16> attention_entries<T> kernels_for(wanted<attention_entries<T>>) {
  using by = attentions_by_size<T>;
  return {&by::scratch, &by::forward};
}

}  // namespace amx
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif
