// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Attention of one head by blocks of queries and keys, with the softmax of what was seen so far.
//
// Everything is computed in accum (float for bf16), by tiles in attention_amx-inl.hpp. A query sees
// its keys block by block, first to last, whatever block it sits in.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T>
struct attentions {
  using A = accum_t<T>;
  using D = tag_for<T>;

  // Scores of a block stay in the second-level cache; the backward's products run over queries
  // too, and like them long.
  static constexpr index_t query_block = 32, key_block = 256;
  static constexpr index_t backward_query_block = 64, backward_key_block = 256;

  static HWY_INLINE index_t padded(index_t n) {
    const index_t u = tile_unit(D());
    return (n + u - 1) / u * u;
  }
  /// A row length of at least n whose multiples spread over a cache: an odd number of units.
  /// Columns of rows a power of two apart would share a few of its sets.
  static HWY_INLINE index_t skewed(index_t n) {
    const index_t u = tile_unit(D());
    return ((n + u - 1) / u | 1) * u;
  }
  static HWY_INLINE index_t scores_row(index_t keys, index_t block) {
    return skewed(keys < block ? keys : block);
  }
  /// Keys of a block from j0 on that query i sees: key j counts if j <= i + S - T.
  static HWY_INLINE index_t visible(bool causal, index_t i, index_t queries, index_t keys,
                                    index_t j0, index_t count) {
    if (!causal) return count;
    const index_t n = i + keys - queries + 1 - j0;
    return n < 0 ? 0 : n < count ? n : count;
  }
  static HWY_INLINE void pack(const T* from, index_t row, index_t rows, index_t width, A* to) {
    pack_rows(D(), from, row, rows, width, to, padded(width), padded(rows));
  }
  static HWY_INLINE void unpack(const A* from, index_t rows, index_t width, T* to, index_t row) {
    const D d;
    for (index_t i = 0; i < rows; ++i)
      for_each_vector(d, width, [&](auto part, index_t c) HWY_ATTR {
        part.store(hn::LoadU(d, from + i * padded(width) + c), d, to + i * row + c);
      });
  }

  static index_t backward_scratch(index_t queries, index_t keys, index_t width) {
    const index_t w = padded(width), s = padded(keys), t = padded(queries);
    return 3 * t * w + (3 * s + 2 * skewed(keys)) * w + t +
           2 * backward_query_block * scores_row(keys, backward_key_block);
  }

  /// One row of scores becomes exp(scale s - top), zero where not visible. The largest scaled score
  /// raises `top`, the sum is returned.
  static HWY_INLINE A softmax_row(A* s, index_t n, index_t seen, A scale, A& top) {
    const D d;
    const index_t step = lanes(d);
    const auto f = hn::Set(d, scale), lowest = hn::Set(d, -std::numeric_limits<A>::infinity());
    auto m = lowest;
    for (index_t j = 0; j < seen; j += step) {
      const auto v = hn::Mul(hn::LoadU(d, s + j), f);
      hn::StoreU(v, d, s + j);
      m = hn::Max(m, first_or(d, v, seen - j, lowest));
    }
    const A largest = max_of_lanes(d, m);
    if (largest > top) top = largest;
    const auto t = hn::Set(d, top);
    auto sum = hn::Zero(d);
    for (index_t j = 0; j < n; j += step) {
      auto p = hn::Zero(d);
      if (j < seen) p = first_or(d, exp(d, hn::Sub(hn::LoadU(d, s + j), t)), seen - j, p);
      hn::StoreU(p, d, s + j);
      sum = hn::Add(sum, p);
    }
    return sum_of_lanes(d, sum);
  }

  /// Queries [from, to) of a head. Blocks: what is done to a block of queries and keys, and how
  /// their operands lie (see attention_blocks).
  template <class Blocks>
  static void forward(const attention_head<T>& o, index_t from, index_t to, A* scratch) {
    const D d;
    const index_t w = padded(o.width), step = lanes(d);
    Blocks blocks(o, scratch);
    A* const sums = blocks.sums;  // (query_block, w)
    A top[query_block], total[query_block];
    for (index_t i0 = from; i0 < to; i0 += query_block) {
      const index_t n = to - i0 < query_block ? to - i0 : query_block;
      blocks.take_queries(i0, n);
      std::fill_n(top, n, -std::numeric_limits<A>::infinity());
      std::fill_n(total, n, A(0));
      for (index_t j0 = 0; j0 < o.keys; j0 += key_block) {
        const index_t count = o.keys - j0 < key_block ? o.keys - j0 : key_block;
        if (visible(o.causal, i0 + n - 1, o.queries, o.keys, j0, count) == 0) break;
        blocks.score(n, j0, count);
        for (index_t i = 0; i < n; ++i) {
          const index_t seen = visible(o.causal, i0 + i, o.queries, o.keys, j0, count);
          const A before = top[i];
          const A sum = blocks.softmax(i, count, seen, top[i]);
          if (j0 > 0 && top[i] != before) {
            const A shrink = std::exp(before - top[i]);
            total[i] *= shrink;
            A* y = sums + i * w;
            for (index_t c = 0; c < w; c += step)
              hn::StoreU(hn::Mul(hn::LoadU(d, y + c), hn::Set(d, shrink)), d, y + c);
          }
          total[i] += sum;
        }
        blocks.add_values(n, j0, count);
      }
      for (index_t i = 0; i < n; ++i) {
        const auto divisor = hn::Set(d, total[i] > 0 ? total[i] : A(1));
        for_each_vector(d, o.width, [&](auto part, index_t c) HWY_ATTR {
          part.store(hn::Div(hn::LoadU(d, sums + i * w + c), divisor), d,
                     o.y + (i0 + i) * o.y_row + c);
        });
        if (o.log_sum_exp)
          o.log_sum_exp[(i0 + i) * o.log_sum_exp_step] = top[i] + std::log(total[i]);
      }
    }
  }

  /// s -> p = exp(scale s - log_sum_exp), dp -> ds = scale p (dp - delta); zero where not visible.
  /// delta is dy . y, the mean of dp by p: that is used where all keys are in the row, since y was
  /// rounded and the difference cancels. (p adds up to 1 only nearly, with large scores.)
  static HWY_INLINE void gradient_row(A* s, A* dp, index_t n, index_t seen, A scale, A lse,
                                      const A* delta) {
    const D d;
    const index_t step = lanes(d);
    const auto f = hn::Set(d, scale), l = hn::Set(d, lse);
    auto sum = hn::Zero(d), all = sum;
    for (index_t j = 0; j < n; j += step) {
      auto p = hn::Zero(d);
      if (j < seen)
        p = first_or(d, exp(d, hn::Sub(hn::Mul(hn::LoadU(d, s + j), f), l)), seen - j, p);
      hn::StoreU(p, d, s + j);
      sum = hn::MulAdd(p, hn::LoadU(d, dp + j), sum);
      all = hn::Add(all, p);
    }
    const A total = sum_of_lanes(d, all);
    const auto e = hn::Set(d, delta ? *delta : sum_of_lanes(d, sum) / (total > 0 ? total : A(1)));
    for (index_t j = 0; j < n; j += step) {
      const auto ds = hn::Mul(hn::LoadU(d, s + j), hn::Sub(hn::LoadU(d, dp + j), e));
      hn::StoreU(hn::Mul(ds, f), d, dp + j);
    }
  }

  static void backward(const attention_backward_head<T>& o, A* scratch) {
    const D d;
    const index_t w = padded(o.width), s = padded(o.keys), t = padded(o.queries), step = lanes(d);
    A* q = scratch;  // (t, w), as dy and dq
    A* dy = q + t * w;
    A* dq = dy + t * w;
    A* k = dq + t * w;  // (s, w), as dk and dv
    A* dk = k + s * w;
    A* dv = dk + s * w;
    const index_t kt_row = skewed(o.keys), p_row = scores_row(o.keys, backward_key_block);
    A* kt = dv + s * w;  // (w, kt_row), as vt
    A* vt = kt + kt_row * w;
    A* delta = vt + kt_row * w;  // (t)
    A* p = delta + t;            // (backward_query_block, p_row), as ds
    A* ds = p + backward_query_block * p_row;
    pack(o.q, o.q_row, o.queries, o.width, q);
    pack(o.dy, o.dy_row, o.queries, o.width, dy);
    pack(o.k, o.k_row, o.keys, o.width, k);
    pack(o.v, o.v_row, o.keys, o.width, dv);
    transpose(k, w, s, w, kt, kt_row);
    transpose(dv, w, s, w, vt, kt_row);
    const bool one_block = o.keys <= backward_key_block;
    for (index_t i = 0; i < o.queries && !one_block; ++i)
      delta[i] = sum_of_vectors(d, o.width, [&](auto part, index_t c) HWY_ATTR {
        return hn::Mul(hn::LoadU(d, dy + i * w + c), part.load(d, o.y + i * o.y_row + c));
      });
    std::fill_n(dq, t * w, A(0));
    std::fill_n(dk, 2 * s * w, A(0));  // and dv
    for (index_t j0 = 0; j0 < o.keys; j0 += backward_key_block) {
      const index_t count = o.keys - j0 < backward_key_block ? o.keys - j0 : backward_key_block;
      const index_t columns = (count + step - 1) / step * step;
      for (index_t i0 = 0; i0 < o.queries; i0 += backward_query_block) {
        const index_t n =
            o.queries - i0 < backward_query_block ? o.queries - i0 : backward_query_block;
        if (visible(o.causal, i0 + n - 1, o.queries, o.keys, j0, count) == 0) continue;
        // s = q k^T and dp = dy v^T, to p and ds
        multiply(d, n, columns, product<A>{q + i0 * w, w, 1, kt + j0, kt_row, o.width}, p, p_row);
        multiply(d, n, columns, product<A>{dy + i0 * w, w, 1, vt + j0, kt_row, o.width}, ds, p_row);
        for (index_t i = 0; i < n; ++i)
          gradient_row(p + i * p_row, ds + i * p_row, columns,
                       visible(o.causal, i0 + i, o.queries, o.keys, j0, count), o.scale,
                       o.log_sum_exp[(i0 + i) * o.log_sum_exp_step],
                       one_block ? nullptr : delta + i0 + i);
        // dv += p^T dy, dk += ds^T q, dq += ds k
        multiply(d, count, w, product<A>{p, 1, p_row, dy + i0 * w, w, n}, dv + j0 * w, w, A(1));
        multiply(d, count, w, product<A>{ds, 1, p_row, q + i0 * w, w, n}, dk + j0 * w, w, A(1));
        multiply(d, n, w, product<A>{ds, p_row, 1, k + j0 * w, w, count}, dq + i0 * w, w, A(1));
      }
    }
    unpack(dq, o.queries, o.width, o.dq, o.dq_row);
    unpack(dk, o.keys, o.width, o.dk, o.dk_row);
    unpack(dv, o.keys, o.width, o.dv, o.dv_row);
  }
};

/// What the forward does to a block of queries and keys, in products of accum. Keys and values are
/// widened and padded once per head.
template <class T>
struct attention_blocks : attentions<T> {
  using base = attentions<T>;
  using typename base::A;
  using typename base::D;
  const attention_head<T>& o;
  index_t w, kt_row, p_row;
  A *kt, *v, *q, *p;  // (w, kt_row), (keys, w), (query_block, w), (query_block, p_row)
  A* sums;            // (query_block, w): of values

  static index_t scratch(index_t keys, index_t width) {
    const index_t w = base::padded(width);
    return (base::padded(keys) + base::skewed(keys)) * w +
           base::query_block * (2 * w + base::scores_row(keys, base::key_block));
  }
  attention_blocks(const attention_head<T>& head, A* at)
      : o(head),
        w(base::padded(o.width)),
        kt_row(base::skewed(o.keys)),
        p_row(base::scores_row(o.keys, base::key_block)) {
    const index_t s = base::padded(o.keys);
    bump<A> b{at};
    kt = b.take(kt_row * w), v = b.take(s * w);
    q = b.take(base::query_block * w), sums = b.take(base::query_block * w);
    p = b.take(base::query_block * p_row);
    base::pack(o.k, o.k_row, o.keys, o.width, v);
    transpose(v, w, s, w, kt, kt_row);
    base::pack(o.v, o.v_row, o.keys, o.width, v);
  }
  static index_t rows(index_t n) { return (n + tile_rows - 1) / tile_rows * tile_rows; }
  static index_t columns(index_t count) {
    const index_t step = lanes(D());
    return (count + step - 1) / step * step;
  }
  void take_queries(index_t i0, index_t n) {
    pack_rows(D(), o.q + i0 * o.q_row, o.q_row, n, o.width, q, w, rows(n));
    std::fill_n(sums, rows(n) * w, A(0));
  }
  void score(index_t n, index_t j0, index_t count) {
    multiply(D(), rows(n), columns(count), product<A>{q, w, 1, kt + j0, kt_row, o.width}, p, p_row);
  }
  A softmax(index_t i, index_t count, index_t seen, A& top) {
    return base::softmax_row(p + i * p_row, columns(count), seen, o.scale, top);
  }
  void add_values(index_t n, index_t j0, index_t count) {
    multiply(D(), rows(n), w, product<A>{p, p_row, 1, v + j0 * w, w, count}, sums, w, A(j0 > 0));
  }
};

template <class T>
attention_entries<T> kernels_for(wanted<attention_entries<T>>) {
  using Blocks = attention_blocks<T>;
  return {&Blocks::scratch, &Blocks::template forward<Blocks>};
}
template <class T>
attention_backward_entries<T> kernels_for(wanted<attention_backward_entries<T>>) {
  return {&attentions<T>::backward_scratch, &attentions<T>::backward};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
