// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD of bf16 by tiles: the products of a chunk, everything else as in ssd_chunk-inl.hpp.
//
// x, B and C are tiles as they are, so C B^T has the error of its sums only. What is computed is a
// factor too:
//   - x that enters the state, which goes on being float: as two bf16 (amx_pairs-inl.hpp), to 2^-16
//   - weights of x, and the state that C meets: rounded to bf16. They give nothing but y, which is
//     rounded as well
// Terms that are tokens lie in pairs of i and i + 16.

#if MLMAMBA_SIMD_AMX
HWY_PUSH_ATTRIBUTES(MLMAMBA_AMX_TARGET)
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace amx {

/// As ssd_chunks. Panels have 32 channels, all sizes are padded to 32.
template <class T>
struct ssd_tiles : ssd_chunks<T> {
  using A = float;
  using base = ssd_chunks<T>;
  static constexpr index_t tile_floats = width * width;  // of the sums of 2 x 2 tiles

  static index_t unit() { return width; }

  /// Shared by heads: B^T and C as left tiles, (block of tokens, state, 32) and (block of states,
  /// token, 32), and C B^T.
  template <class Number>  // A or const A
  struct shared_tiles {
    using byte = std::conditional_t<std::is_const_v<Number>, const std::byte, std::byte>;
    byte *B, *C;
    Number* CB;
    shared_tiles(const ssd_plan& p, Number* at) {
      const ssd_shared<Number> s(p, at);
      B = reinterpret_cast<byte*>(s.B), C = reinterpret_cast<byte*>(s.C), CB = s.CB;
    }
  };
  static void share(const ssd_plan& p, index_t c, strided<const T> B, strided<const T> C, A* at,
                    A* scratch) {
    const index_t q = p.tokens(c), t0 = p.first(c), block = p.chunk_ * row_bytes;
    const shared_tiles<A> s(p, at);
    auto* const rows = reinterpret_cast<std::byte*>(scratch);  // (block of states, token, 32)
    auto* const turned = rows + p.states_ / terms * block;     // (block of states, pair, token)
    pack_left(true, B[t0], B.row, 0, q, p.chunk_, 0, p.states, rows);
    pack_left(true, C[t0], C.row, 0, q, p.chunk_, 0, p.states, s.C);
    const auto all = first_of(tile_rows);
    for (index_t n = 0; n < p.states_; n += tile_rows)
      for (index_t k = 0; k < p.chunk_; k += width) {
        word_block t;
        const auto* from = reinterpret_cast<const bf16*>(rows + n / terms * block + k * row_bytes);
        from += n % terms;
        for (index_t i = 0; i < tile_rows; ++i)
          t.v[i] = pair_of(load_words(from + i * terms, all),
                           load_words(from + (i + tile_rows) * terms, all));
        transpose(t);
        for (index_t i = 0; i < tile_rows; ++i)
          store_words(t.v[i], s.B + (k / width * p.states_ + n + i) * row_bytes);
      }
    for (index_t n = 0; n < p.states_; n += terms)
      for (index_t k = 0; k < p.chunk_; k += tile_rows)
        turn_tile(reinterpret_cast<const std::uint32_t*>(rows + n / terms * block + k * row_bytes),
                  tile_rows, reinterpret_cast<std::uint32_t*>(turned + n / terms * block) + k,
                  p.chunk_, tile_rows);
    const scope as;
    for (index_t m = 0; m < q; m += width)
      for (index_t k = 0; k <= m; k += width)
        multiply<bf16_products, 2, 2>(
            {s.C + m * row_bytes, block, tile_bytes, row_bytes},
            {turned + k * 4, block, row_bytes, 4 * p.chunk_}, p.states_ / terms,
            reinterpret_cast<std::byte*>(s.CB + m * p.chunk_ + k), 4 * p.chunk_, true, no_fetch());
  }

  struct room {
    std::byte *x, *weighted;  // right tiles, (block of tokens, 1 or 2 parts, 2 tiles)
    A* into;                  // leave dt' by token
    A* rows;                  // weights of 16 tokens
    std::byte* weights;       // left tiles of 32 tokens each, (block of tokens, token, 32)
    std::byte* state;         // right tiles, (block of states, 2 tiles)
    A *sums, *others;         // of 2 x 2 tiles, two of each: one is used while the next is made
    static index_t size(const ssd_plan& p) {
      return p.chunk_ * (width / 2 + width + 1 + tile_rows + p.chunk_ / 2) + p.states_ * width / 2 +
             4 * tile_floats;
    }
    static room take(const ssd_plan& p, bump<A>& b) {
      const auto bytes = [&](index_t n) { return reinterpret_cast<std::byte*>(b.take(n)); };
      room r;
      r.x = bytes(p.chunk_ * width / 2), r.weighted = bytes(p.chunk_ * width);
      r.into = b.take(p.chunk_), r.rows = b.take(p.chunk_ * tile_rows);
      r.weights = bytes(p.chunk_ * p.chunk_ / 2), r.state = bytes(p.states_ * width / 2);
      r.sums = b.take(2 * tile_floats), r.others = b.take(2 * tile_floats);
      return r;
    }
    /// The weights of 32 tokens; before them are those of all tokens before.
    std::byte* weights_of(index_t m) const {
      const index_t i = m / width;
      return weights + i * (i + 1) / 2 * 2 * tile_bytes;
    }
  };
  struct scope : configuration {
    scope() : configuration(width, width) {}
  };

  /// x and leave dt' x of a panel.
  static void load_panel(const ssd_plan& p, strided<const T> from, index_t q, index_t first,
                         const room& r) {
    const floats d;
    for (index_t j = first; j < first + width; j += tile_rows) {
      std::byte* x = r.x + (j - first) * row_bytes;
      std::byte* weighted = r.weighted + (j - first) * row_bytes;
      const auto all = first_of(p.channels - j);
      for (index_t k = 0; k < q; k += width, x += tile_bytes, weighted += 3 * tile_bytes)
        for (index_t i = k; i < k + tile_rows; ++i, x += row_bytes, weighted += row_bytes) {
          const index_t after = i + tile_rows;
          const auto a = i < q ? load_words(from[i] + j, all) : hn::Zero(words());
          const auto b = after < q ? load_words(from[after] + j, all) : hn::Zero(words());
          const auto parts = split_pair(hn::Mul(hn::Set(d, r.into[i]), float_of(a)),
                                        hn::Mul(hn::Set(d, r.into[after]), float_of(b)));
          store_words(pair_of(a, b), x);
          store_words(parts.high, weighted);
          store_words(parts.low, weighted + 2 * tile_bytes);
        }
    }
  }

  /// Weights of x for tokens [from, end).
  static void weigh(const ssd_plan& p, const chunk_steps<A>& s, const A* CB, index_t from,
                    index_t end, const room& r) {
    const floats d;
    while (from < end) {
      const index_t next = (from / tile_rows + 1) * tile_rows, last = next < end ? next : end;
      base::weight_rows(p, s, CB, from, last, r.rows);
      for (const A* row = r.rows; from < last; ++from, row += p.chunk_) {
        std::byte* at = r.weights_of(from) + from % width * row_bytes;
        const index_t there = from / tile_rows * tile_rows;  // the vectors that are
        for (index_t k = 0; k <= from; k += width, at += 2 * tile_bytes)
          store_words(rounded_pair(hn::LoadU(d, row + k),
                                   k < there ? hn::LoadU(d, row + k + tile_rows) : hn::Zero(d)),
                      at);
      }
    }
  }
  /// Pairs [from, end) of the 32 states of a panel: next = keep state + changes, and, rounded, the
  /// state as it was before. Any of the three may be null.
  static HWY_INLINE void pass(const A* state, A keep, A* next, const A* changes, std::byte* rounded,
                              index_t from, index_t end) {
    const floats d;
    const auto f = hn::Set(d, keep);
    for (index_t n = from; n < end; ++n) {
      for (index_t t = 0; t < 2; ++t) {
        const index_t i = 2 * n * width + t * tile_rows;
        auto a = hn::Zero(d), b = a;
        if (state) a = hn::LoadU(d, state + i), b = hn::LoadU(d, state + i + width);
        if (rounded) store_words(rounded_pair(a, b), rounded + n * row_bytes + t * tile_bytes);
        if (!next) continue;
        auto c = hn::LoadU(d, changes + i), e = hn::LoadU(d, changes + i + width);
        if (keep != 0) c = hn::MulAdd(f, a, c), e = hn::MulAdd(f, b, e);
        hn::StoreU(c, d, next + i);
        hn::StoreU(e, d, next + i + width);
      }
    }
  }
  /// The lower or the upper numbers of 16 words.
  static HWY_INLINE float_vector half_of(const std::byte* at, bool above) {
    const words du;
    const auto w = hn::LoadU(du, reinterpret_cast<const std::uint32_t*>(at));
    return hn::BitCast(floats(),
                       above ? hn::And(w, hn::Set(du, 0xffff0000u)) : hn::ShiftLeft<16>(w));
  }

  template <class ExpectX, class ExpectY, class Rows>
  static void chunk(const ssd_plan& p, const chunk_steps<A>& s, strided<const T> x, index_t q,
                    const A* shared, const room& r, const A* state, A* next, const A* skip,
                    strided<T> whole, const ExpectX& expect_x, const ExpectY& expect_y,
                    const Rows& rows) {
    const floats d;
    for (index_t i = 0; i < p.chunk_; i += tile_rows)  // zero from q on, as leave is
      hn::StoreU(hn::Mul(hn::LoadU(d, s.leave + i), hn::LoadU(d, s.dt + i)), d, r.into + i);
    for (index_t j = 0; j < p.channels_; j += width) {
      load_panel(p, x, q, j, r);
      panel(p, s, q, shared, r, state, next, j, skip, whole, expect_x, expect_y, rows);
    }
  }
  template <class ExpectX, class ExpectY, class Rows>
  static HWY_NOINLINE void panel(const ssd_plan& p, const chunk_steps<A>& s, index_t q,
                                 const A* shared_at, const room& r, const A* state, A* next,
                                 index_t j, const A* skip, strided<T> whole,
                                 const ExpectX& expect_x, const ExpectY& expect_y,
                                 const Rows& rows) {
    const floats d;
    const shared_tiles<const A> shared(p, shared_at);
    const index_t continued = state ? s.continued : 0, strips = (q + width - 1) / width;
    const index_t channels = p.channels - j < width ? p.channels - j : width;
    const A keep = state ? s.keep : 0;
    const auto bytes = [](A* at) { return reinterpret_cast<std::byte*>(at); };
    const auto sum = [&](A* of, index_t i) { return of + i / width % 2 * tile_floats; };
    // The state after the chunk, and the weights.
    const auto pass_states = [&](index_t n, index_t from, index_t end) MLMAMBA_AMX_ATTR {
      const index_t at = j * p.states_ + n * width;
      pass(state ? state + at : nullptr, keep, next ? next + at : nullptr, sum(r.sums, n),
           continued > 0 ? r.state + n * row_bytes : nullptr, from, end);
    };
    const auto weigh_rows = [&](index_t from, index_t end) MLMAMBA_AMX_ATTR {
      for (index_t i = from; i < end; ++i) expect_x(j, channels, i), expect_y(j, channels, i);
      if (j == 0) weigh(p, s, shared.CB, from, end, r);
    };
    const index_t passes = next || continued > 0 ? p.states_ : 0;
    paced weights(q, (next ? passes / width : 0) * strips * 2, weigh_rows);
    for (index_t n = 0; n < passes; n += width) {
      const auto pass_before = [&](index_t from, index_t end)
                                   MLMAMBA_AMX_ATTR { pass_states(n - width, from, end); };
      paced before(n > 0 ? width / 2 : 0, next ? strips * 2 : 0, pass_before);
      const auto both = [&]() MLMAMBA_AMX_ATTR {
        weights(), before();
      };  // the second waits for tiles
      if (next)
        multiply_beside({shared.B + n * row_bytes, p.states_ * row_bytes, tile_bytes, row_bytes, 2},
                        {r.weighted, 2 * tile_bytes, tile_bytes, row_bytes}, 2 * strips,
                        bytes(sum(r.sums, n)), both);
      before.finish();
    }
    if (passes > 0) pass_states(passes - width, 0, width / 2);
    weights.finish();
    // The output, of 32 tokens at a time.
    const bool direct = whole.at && channels == width;
    const auto f0 = hn::LoadU(d, skip + j), f1 = hn::LoadU(d, skip + j + tile_rows);
    const auto finish = [&](index_t m, index_t from, index_t end) MLMAMBA_AMX_ATTR {
      A* const inside = sum(r.sums, m);
      const A* const entering = sum(r.others, m);
      const std::byte* const x = r.x + m * row_bytes;
      for (index_t k = from; k < end; ++k) {
        A* const at = inside + k * width;
        auto a = hn::LoadU(d, at), b = hn::LoadU(d, at + tile_rows);
        if (m + k < continued && s.enter[m + k] != 0) {
          const auto f = hn::Set(d, s.enter[m + k]);
          a = hn::MulAdd(f, hn::LoadU(d, entering + k * width), a);
          b = hn::MulAdd(f, hn::LoadU(d, entering + k * width + tile_rows), b);
        }
        if (direct) {
          const std::byte* pairs = x + k % tile_rows * row_bytes;
          a = hn::MulAdd(f0, half_of(pairs, k >= tile_rows), a);
          b = hn::MulAdd(f1, half_of(pairs + tile_bytes, k >= tile_rows), b);
          store_row(a, b, whole[m + k] + j);
        } else {
          hn::StoreU(a, d, at);
          hn::StoreU(b, d, at + tile_rows);
        }
      }
      if (!direct && from < end) rows(j, channels, m + from, m + end, inside + from * width, width);
    };
    for (index_t m = 0; m < q; m += width) {
      const index_t inner = m / width + 1, outer = m < continued ? p.states_ / terms : 0;
      const auto finish_before = [&](index_t from, index_t end)
                                     MLMAMBA_AMX_ATTR { finish(m - width, from, end); };
      paced before(m > 0 ? width : 0, inner + outer, finish_before);
      multiply_beside({r.weights_of(m), 2 * tile_bytes, tile_bytes, row_bytes},
                      {r.x, 2 * tile_bytes, tile_bytes, row_bytes}, inner, bytes(sum(r.sums, m)),
                      before);
      if (outer > 0)
        multiply_beside({shared.C + m * row_bytes, p.chunk_ * row_bytes, tile_bytes, row_bytes},
                        {r.state, 2 * tile_bytes, tile_bytes, row_bytes}, outer,
                        bytes(sum(r.others, m)), before);
      before.finish();
    }
    finish((strips - 1) * width, 0, q - (strips - 1) * width);
  }
};

/// The chunked forward of whole sequences: by tiles from 16 tokens on. Fewer take no longer in
/// float, and keep its precision; sizes padded for tiles are padded for vectors, too.
template <class T>
struct ssd_of_length {
  using A = float;
  using few = ssd_ops<T>;
  using many = ssd_ops<T, ssd_tiles<T>>;
  static bool is_short(const ssd_plan& p) { return p.length < tile_rows; }

  static index_t scratch(const ssd_plan& p, index_t heads) {
    return is_short(p) ? few::forward_scratch(p, heads) : many::forward_scratch(p, heads);
  }
  static index_t share_scratch(const ssd_plan& p) {
    return is_short(p) ? few::share_scratch(p) : many::share_scratch(p);
  }
  static void share(const ssd_plan& p, index_t c, strided<const T> B, strided<const T> C, A* shared,
                    A* at) {
    is_short(p) ? few::share(p, c, B, C, shared, at) : many::share(p, c, B, C, shared, at);
  }
  static void forward(const ssd_forward_task<T>* tasks, index_t heads) {
    is_short(tasks->plan) ? few::forward(tasks, heads) : many::forward(tasks, heads);
  }
};

template <class T>
requires std::is_same_v<T, bf16> ssd_entries<T> kernels_for(wanted<ssd_entries<T>>) {
  using F = ssd_of_length<T>;
  return {ssd_tiles<T>::unit(),   64, &F::scratch, &F::share_scratch, &F::share, &F::forward,
          &ssd_ops<T>::sequential};
}

}  // namespace amx
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif
