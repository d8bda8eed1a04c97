// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What SSD computes of one chunk, as small dense products.
//
// States are (states_, channels_) and x is (tokens, channels_), both cut into panels of
// ssd_plan::panel channels, one after the other: the half of a state that a product reads again and
// again then stays in the first cache. The functions with tiles are not inlined: GCC 12 runs out of
// registers where it holds more than one.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class D, class T>
void store_rows(D d, const hn::TFromD<D>* from, index_t from_row, index_t rows, index_t columns,
                T* to, index_t to_row) {
  for (index_t i = 0; i < rows; ++i)
    for_each_vector(d, columns, [&](auto part, index_t j) HWY_ATTR {
      part.store(part.load(d, from + i * from_row + j), d, to + i * to_row + j);
    });
}

template <class T>
struct ssd_chunks {
  using A = accum_t<T>;
  using D = tag_for<T>;

  static index_t unit() { return tile_unit(D()); }
  static index_t padded(index_t n) { return (n + unit() - 1) / unit() * unit(); }

  static void share(const ssd_plan& p, index_t c, strided<const T> B, strided<const T> C, A* at,
                    A* scratch) {
    const D d;
    const index_t q = p.tokens(c), t0 = p.first(c), rows = padded(q);
    const ssd_shared<A> s(p, at);
    A* const Bt = scratch + p.chunk_ * p.states_;
    pack_rows(d, B[t0], B.row, q, p.states, scratch, p.states_, rows);
    by_state(p, scratch, rows, s.B);
    if (p.both) by_token(p, scratch, rows, s.B_by_token);
    transpose(scratch, p.states_, rows, p.states_, Bt, p.chunk_);
    pack_rows(d, C[t0], C.row, q, p.states, scratch, p.states_, rows);
    by_token(p, scratch, rows, s.C);
    if (p.both) by_state(p, scratch, rows, s.C_by_state);
    multiply(d, rows, rows, tokens_by_states(p, s.C, Bt, p.chunk_), s.CB, p.chunk_, A(0),
             static_cast<const A*>(nullptr), true);
  }
  static index_t share_scratch(const ssd_plan& p) { return 2 * p.chunk_ * p.states_; }

  /// Rows of (tokens, states_) in panels of unit() states: a panel has all tokens.
  static void by_state(const ssd_plan& p, const A* from, index_t rows, A* to) {
    const D d;
    for (index_t n = 0; n < p.states_; n += unit(), to += unit() * p.chunk_)
      for (index_t k = 0; k < rows; ++k)
        for (index_t i = 0; i < unit(); i += lanes(d))
          hn::StoreU(hn::LoadU(d, from + k * p.states_ + n + i), d, to + k * unit() + i);
  }
  /// The same in panels of unit() tokens: a panel has all states.
  static void by_token(const ssd_plan& p, const A* from, index_t rows, A* to) {
    for (index_t k = 0; k < rows; k += unit())
      transpose(from + k * p.states_, p.states_, unit(), p.states_, to + k * p.states_, unit());
  }
  /// (tokens, states) times (states, any), and (states, q tokens) times (tokens, any).
  static product<A> tokens_by_states(const ssd_plan& p, const A* panels, const A* b,
                                     index_t b_row) {
    return {panels, 1, unit(), b, b_row, p.states, band::full, unit(), unit() * p.states_};
  }
  static product<A> states_by_tokens(const ssd_plan& p, const A* panels, const A* b, index_t b_row,
                                     index_t q) {
    return {panels, 1, unit(), b, b_row, q, band::full, unit(), unit() * p.chunk_};
  }

  /// body(first channel, channels) for each panel, padded.
  template <class Body>
  static HWY_INLINE void for_each_panel(const ssd_plan& p, const Body& body) {
    for (index_t j = 0; j < p.channels_; j += p.panel)
      body(j, p.channels_ - j < p.panel ? p.channels_ - j : p.panel);
  }

  /// The state of (channels, states) in panels, zeros around; and back.
  static void load_state(const ssd_plan& p, strided<const A> from, A* state, A* scratch) {
    const D d;
    pack_rows(d, from.at, from.row, p.channels, p.states, scratch, p.states_, p.channels_);
    for_each_panel(p, [&](index_t j, index_t width) {
      transpose(scratch + j * p.states_, p.states_, width, p.states_, state + j * p.states_, width);
    });
  }
  static void store_state(const ssd_plan& p, const A* state, strided<A> to, A* scratch) {
    for_each_panel(p, [&](index_t j, index_t width) {
      transpose(state + j * p.states_, width, p.states_, width, scratch + j * p.states_, p.states_);
    });
    store_rows(D(), scratch, p.states_, p.channels, p.states, to.at, to.row);
  }

  /// Memory that one chunk of one head needs.
  struct room {
    A *x = nullptr, *weighted = nullptr;  // (tokens, channels_) in panels
    A* weights = nullptr;                 // of x inside the chunk, (tokens, chunk_)
    A* y = nullptr;                       // tall_rows of a panel
    static index_t size(const ssd_plan& p) {
      return 2 * p.chunk_ * p.channels_ + p.chunk_ * p.chunk_ + tall_rows * p.channels_;
    }
    static room take(const ssd_plan& p, bump<A>& b) {
      room r;
      r.x = b.take(p.chunk_ * p.channels_), r.weighted = b.take(p.chunk_ * p.channels_);
      r.weights = b.take(p.chunk_ * p.chunk_), r.y = b.take(tall_rows * p.channels_);
      return r;
    }
  };
  /// What a processor is while these functions run.
  struct scope {};

  /// x and leave dt' x.
  static void load_chunk(const ssd_plan& p, const chunk_steps<A>& s, strided<const T> from,
                         index_t q, const room& to_room) {
    const D d;
    A *const x = to_room.x, *const weighted = to_room.weighted;
    for_each_panel(p, [&](index_t j, index_t width) HWY_ATTR {
      const index_t n = p.channels - j < width ? p.channels - j : width;
      for (index_t i = 0; i < q; ++i) {
        const T* row = from[i] + j;
        A *to = x + j * p.chunk_ + i * width, *to_weighted = weighted + (to - x);
        const auto f = hn::Set(d, s.leave[i] * s.dt[i]);
        index_t k = 0;
        for (; k < n; k += lanes(d)) {
          const auto v = k + lanes(d) <= n ? load(d, row + k) : load_n(d, row + k, n - k);
          hn::StoreU(v, d, to + k);
          hn::StoreU(hn::Mul(f, v), d, to_weighted + k);
        }
        for (; k < width; k += lanes(d)) {
          hn::StoreU(hn::Zero(d), d, to + k);
          hn::StoreU(hn::Zero(d), d, to_weighted + k);
        }
      }
    });
  }

  /// Rows [m, end) of the weights of x inside the chunk: decay . C B^T . dt'.
  static HWY_NOINLINE void weight_rows(const ssd_plan& p, const chunk_steps<A>& s, const A* CB,
                                       index_t m, index_t end, A* to) {
    const D d;
    if (m % unit() == 0) open_block(d, s, m);
    const A *dt = s.dt, *row = CB + m * p.chunk_;
    for (; m < end; ++m, row += p.chunk_, to += p.chunk_)
      for_each_decay(d, s, m, [=](index_t k, auto decay, auto) HWY_ATTR {
        const auto by = hn::Mul(decay, hn::LoadU(d, dt + k));
        hn::StoreU(hn::Mul(hn::LoadU(d, row + k), by), d, to + k);
      });
  }

  /// One panel of what x in the chunk and the state before it (null: zero) give, before skip and
  /// gate. Whole tiles of tall_rows rows get `skip` and go to `whole`, unless that is null. For
  /// other rows, m = 0, tall_rows, ..., rows(m, end, y) is called with tall_rows rows, `width`
  /// apart; y is room for them. The first panel fills `weights`. meanwhile(r) is called for each
  /// row during the product with the state.
  template <class Meanwhile, class Rows>
  static HWY_NOINLINE void output_panel(const ssd_plan& p, const chunk_steps<A>& s, index_t q,
                                        const ssd_shared<const A>& shared, const room& r,
                                        const A* state, index_t j, index_t width, const A* skip,
                                        strided<T> whole, const Meanwhile& meanwhile,
                                        const Rows& rows) {
    const D d;
    A *const weights = r.weights, *const y = r.y;
    const A *panel = state + (state ? j * p.states_ : 0), *x_panel = r.x + j * p.chunk_;
    const product<A> entering = tokens_by_states(p, shared.C, panel, width);
    for (index_t m = 0; m < q; m += tall_rows) {
      const index_t end = m + tall_rows < q ? m + tall_rows : q;
      if (j == 0) weight_rows(p, s, shared.CB, m, end, weights + m * p.chunk_);
      const bool direct = whole.at && end - m == tall_rows && p.channels - j >= width;
      bool enters = false;
      for (index_t i = m; state && i < end; ++i) enters = enters || s.enter[i] != A(0);
      for_each_tile_column<tall_columns>(d, width, [&](auto columns, index_t k) HWY_ATTR {
        register_tile<tall_rows, columns(), D> tile;
        tile.clear();
        if (enters) {
          const A *a = entering.row(m), *b = panel + k;
          for (index_t i = 0, from = 0; i < tall_rows; ++i) {
            const index_t n = p.states * (i + 1) / tall_rows - from;
            if (k == 0) meanwhile(m + i);
            tile.add(a, entering.a_row, entering.a_k, b, width, n);
            a += n * entering.a_k, b += n * width, from += n;
          }
          tile.scale(s.enter + m);
        }
        tile.add(weights + m * p.chunk_, p.chunk_, 1, x_panel + k, width, end);
        if (direct) {
          tile.add_product(skip + j + k, x_panel + m * width + k, width);
          tile.store(whole[m] + j + k, whole.row);
        } else {
          tile.store(y + k, width);
        }
      });
      if (!direct) rows(m, end, y);
    }
  }

  /// One panel of next = keep state + sum_k B[k] weighted[k]^T; state may be null (zero) or next.
  /// meanwhile(r) is called for each r below the length of a chunk.
  template <class Meanwhile>
  static HWY_NOINLINE void state_panel(const ssd_plan& p, const chunk_steps<A>& s, index_t q,
                                       const ssd_shared<const A>& shared, const room& room,
                                       const A* state, A* next, index_t j, index_t width,
                                       const Meanwhile& meanwhile) {
    const D d;
    const A keep = state ? s.keep : A(0);
    const A* const from = state + (state ? j * p.states_ : 0);
    A* const to = next + j * p.states_;
    const product<A> sum = states_by_tokens(p, shared.B, room.weighted + j * p.chunk_, width, q);
    for_each_tile_column<tall_columns>(d, width, [&](auto columns, index_t k) HWY_ATTR {
      index_t r = 0;
      for (index_t i = 0; i < p.states_; i += tall_rows) {
        for (; k == 0 && r * p.states_ < p.chunk * (i + tall_rows); ++r) meanwhile(r);
        const index_t at = i * width + k;
        register_tile<tall_rows, columns(), D> tile;
        tile.clear();
        tile.add(sum.row(i), sum.a_row, sum.a_k, sum.b + k, width, q);
        if (keep != A(0)) tile.add_scaled(keep, from + at, width);
        tile.store(to + at, width);
      }
    });
  }

  /// Both, panel by panel; the next state only if next is not null. `rows` gets tokens [m, end) of
  /// n channels from j on, and how far apart they are, unless they are in `whole`; expect_x and
  /// expect_y are called for n channels from j on of each token of a chunk.
  template <class ExpectX, class ExpectY, class Rows>
  static HWY_INLINE void chunk(const ssd_plan& p, const chunk_steps<A>& s, strided<const T> x,
                               index_t q, const A* shared_at, const room& r, const A* state,
                               A* next, const A* skip, strided<T> whole, const ExpectX& expect_x,
                               const ExpectY& expect_y, const Rows& rows) {
    const ssd_shared<const A> shared(p, shared_at);
    load_chunk(p, s, x, q, r);
    for_each_panel(p, [&](index_t j, index_t width) HWY_ATTR {
      const index_t n = p.channels - j < width ? p.channels - j : width;
      output_panel(
          p, s, q, shared, r, state, j, width, skip, whole,
          [&](index_t i) HWY_ATTR { expect_x(j, n, i); },
          [&](index_t m, index_t end, const A* y) HWY_ATTR { rows(j, n, m, end, y, width); });
      if (next)
        state_panel(p, s, q, shared, r, state, next, j, width,
                    [&](index_t i) HWY_ATTR { expect_y(j, n, i); });
    });
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
