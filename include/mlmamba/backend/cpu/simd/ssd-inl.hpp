// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD kernels: chunk by chunk, and token by token.

#include "mlmamba/backend/cpu/simd/ssd_steps-inl.hpp"
//
#include "mlmamba/backend/cpu/simd/ssd_chunk-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

/// Chunks: what is computed of one chunk, and how its operands lie (see ssd_chunks).
template <class T, class Chunks = ssd_chunks<T>>
struct ssd_ops : Chunks {
  using A = accum_t<T>;
  using D = tag_for<T>;
  using chunks = Chunks;

  /// Scratch of `forward` for so many heads.
  static index_t forward_scratch(const ssd_plan& p, index_t heads) {
    return chunk_steps<A>::size(p) + chunks::room::size(p) + p.states_ * p.channels_ +
           heads * (p.states_ + 1) * p.channels_ + 2 * p.states_ + 2 * p.channels_;
  }

  static void load_skip(const ssd_plan& p, const ssd_head<T>& h, A* skip) {
    for (index_t i = 0; i < p.channels_; ++i)
      skip[i] = h.D && i < p.channels ? h.D[i * h.D_stride] : A(0);
  }

  /// y = (v + D x) silu(z) for n channels of one token; v in A.
  static HWY_INLINE void finish_token(index_t n, const A* skip, const A* v, const T* x, const T* z,
                                      T* y) {
    const D d;
    for_each_vector(d, n, [&](auto part, index_t j) HWY_ATTR {
      auto r = hn::MulAdd(hn::LoadU(d, skip + j), part.load(d, x + j), hn::LoadU(d, v + j));
      if (z) {
        const auto g = part.load(d, z + j);
        r = hn::Mul(r, hn::Mul(g, sigmoid(d, g)));
      }
      part.store(r, d, y + j);
    });
  }

  /// The chunks of some heads of one group and row, side by side: what they share stays in cache.
  static void forward(const ssd_forward_task<T>* tasks, index_t heads) {
    const D d;
    const ssd_plan& p = tasks->plan;
    const index_t state_size = p.states_ * p.channels_;
    bump<A> b{tasks->scratch};
    chunk_steps<A> s(b.take(chunk_steps<A>::size(p)), p);
    const typename chunks::room room = chunks::room::take(p, b);
    [[maybe_unused]] const typename chunks::scope scope;
    A *other = b.take(state_size), *skips = b.take(heads * p.channels_);
    A* states = b.take(heads * state_size);
    for (index_t k = 0; k < heads; ++k) {
      const ssd_head<T>& h = tasks[k].head;
      load_skip(p, h, skips + k * p.channels_);
      if (h.initial.at) chunks::load_state(p, h.initial, states + k * state_size, other);
    }
    for (index_t i = 0; i < heads * p.chunks(); ++i) {
      const index_t c = i / heads, k = i % heads, q = p.tokens(c), t0 = p.first(c);
      const ssd_forward_task<T>& t = tasks[k];
      const ssd_head<T>& h = t.head;
      const A* const shared = t.shared + c * p.shared_size();
      const index_t next_c = (i + 1) / heads, next_t0 = p.first(next_c);
      const index_t next_q = next_c < p.chunks() ? p.tokens(next_c) : 0;
      const ssd_forward_task<T>& after = tasks[(i + 1) % heads];
      A *const next = states + k * state_size, *const skip = skips + k * p.channels_;
      const A* const state = c > 0 || h.initial.at ? next : nullptr;  // null: zero
      const strided<T> whole{h.z.at ? nullptr : t.y[t0], t.y.row};
      prepare_chunk(d, p, h, c, s);
      // `width` numbers apart: rows of n channels from j on of tokens [m, end)
      auto finish = [&](index_t j, index_t n, index_t m, index_t end, const A* rows, index_t width)
                        HWY_ATTR {
                          for (; m < end; ++m, rows += width)
                            finish_token(n, skip + j, rows, h.x[t0 + m] + j,
                                         h.z.at ? h.z[t0 + m] + j : nullptr, t.y[t0 + m] + j);
                        };
      // No hardware prefetcher follows rows of one head, and many at once would keep the loads of
      // the products waiting: x comes during one product, y during the other.
      auto expect_x = [&](index_t j, index_t n, index_t r) HWY_ATTR {
        if (r < next_q) expect_row(after.head.x[next_t0 + r] + j, n);
      };
      auto expect_y = [&](index_t j, index_t n, index_t r) HWY_ATTR {
        if (r < next_q) expect_row<true>(after.y[next_t0 + r] + j, n);
      };
      A* const wanted = c + 1 < p.chunks() || t.last.at ? next : nullptr;
      const strided<const T> x{h.x[t0], h.x.row};
      chunks::chunk(p, s, x, q, shared, room, state, wanted, skip, whole, expect_x, expect_y,
                    finish);
    }
    for (index_t k = 0; k < heads; ++k) {
      if (!tasks[k].last.at) continue;
      A* const state = states + k * state_size;
      if (p.chunks() == 0 && !tasks[k].head.initial.at)
        for (index_t i = 0; i < state_size; ++i) state[i] = 0;
      chunks::store_state(p, state, tasks[k].last, other);
    }
  }

  // ---------------------------------------------------------- token by token

  /// state = decay state + dt' x B^T (without the first term if it is not carried), v = state C.
  template <class State>
  static void token(const ssd_plan& p, A decay, bool carried, A dt, const A* x, const A* B,
                    const A* C, strided<State> state, A* v) {
    const D d;
    const auto f = hn::Set(d, decay);
    for (index_t i = 0; i < p.channels; ++i) {
      const auto dx = hn::Set(d, dt * x[i]);
      auto sum = hn::Zero(d);
      State* row = state[i];
      for_each_vector(d, p.states, [&](auto part, index_t n) HWY_ATTR {
        auto r = hn::Mul(dx, hn::LoadU(d, B + n));
        if (carried) r = hn::MulAdd(f, part.load(d, row + n), r);
        part.store(r, d, row + n);
        sum = hn::MulAdd(r, hn::LoadU(d, C + n), sum);
      });
      v[i] = sum_of_lanes(d, sum);
    }
  }
  static A step_size(const ssd_head<T>& h, A raw) {
    A v = raw + h.dt_bias;
    if (h.softplus) v = hn::GetLane(softplus(D(), hn::Set(D(), v)));
    return v > h.dt_max ? h.dt_max : v < h.dt_min ? h.dt_min : v;
  }
  static A decay_of(A a) { return hn::GetLane(exp(D(), hn::Set(D(), a))); }

  static void sequential(const ssd_forward_task<T>& t) {
    const D d;
    const ssd_plan& p = t.plan;
    const ssd_head<T>& h = t.head;
    bump<A> b{t.scratch};
    A *B = b.take(p.states_), *C = b.take(p.states_), *skip = b.take(p.channels_);
    A *x = b.take(p.channels_), *v = b.take(p.channels_);
    const strided<A> state{b.take(p.channels_ * p.states_), p.states_};
    load_skip(p, h, skip);
    pack_rows(d, h.initial.at, h.initial.row, h.initial.at ? p.channels : 0, p.states, state.at,
              p.states_, p.channels_);
    for (index_t i = 0; i < p.length; ++i) {
      pack_rows(d, t.B[i], t.B.row, 1, p.states, B, p.states_, 1);
      pack_rows(d, t.C[i], t.C.row, 1, p.states, C, p.states_, 1);
      pack_rows(d, h.x[i], h.x.row, 1, p.channels, x, p.channels_, 1);
      const A dt = step_size(h, A(h.dt[i * h.dt_row]));
      token(p, decay_of(dt * h.rate), !h.starts || h.starts[i] != i, dt, x, B, C, state, v);
      finish_token(p.channels, skip, v, h.x[i], h.z.at ? h.z[i] : nullptr, t.y[i]);
    }
    if (t.last.at) store_rows(d, state.at, state.row, p.channels, p.states, t.last.at, t.last.row);
  }

  template <class State>
  static void step(const ssd_plan& p, const ssd_head<T>& h, const T* B, const T* C, T* y,
                   strided<State> state, A* scratch) {
    const D d;
    bump<A> b{scratch};
    A *Bw = b.take(p.states_), *Cw = b.take(p.states_), *skip = b.take(p.channels_);
    A *x = b.take(p.channels_), *v = b.take(p.channels_);
    load_skip(p, h, skip);
    pack_rows(d, B, 0, 1, p.states, Bw, p.states_, 1);
    pack_rows(d, C, 0, 1, p.states, Cw, p.states_, 1);
    pack_rows(d, h.x.at, 0, 1, p.channels, x, p.channels_, 1);
    const A dt = step_size(h, A(*h.dt));
    token(p, decay_of(dt * h.rate), true, dt, x, Bw, Cw, state, v);
    finish_token(p.channels, skip, v, h.x.at, h.z.at, y);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
