// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD backward kernels: chunks from the last to the first, each a dozen small dense products.
//
// G is the gradient of the state after the chunk, do that of the output before the gate, all
// sums of decays as in ssd-inl.hpp. Gradients of decays are built from terms that all belong to
// pairs k < j <= m, never as differences of large sums.

#include "mlmamba/backend/cpu/simd/ssd_finish-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

/// to[i] = scale[i] from[i], rows of `width`.
template <class D, class A>
void scale_rows(D d, const A* from, const A* scale, index_t rows, index_t width, A* to) {
  for (index_t i = 0; i < rows; ++i) {
    const auto f = hn::Set(d, scale[i]);
    for (index_t j = 0; j < width; j += lanes(d))
      hn::StoreU(hn::Mul(f, hn::LoadU(d, from + i * width + j)), d, to + i * width + j);
  }
}

template <class T>
struct ssd_backward_ops {
  using A = accum_t<T>;
  using D = tag_for<T>;
  using forward = ssd_ops<T>;

  static index_t padded(index_t n) { return forward::padded(n); }

  static index_t scratch(const ssd_plan& p) {
    return p.chunks() * p.states_ * p.channels_ + chunk_steps<A>::size(p) +
           7 * p.chunk_ * p.channels_ + 2 * p.chunk_ * p.chunk_ + p.states_ * p.chunk_ +
           2 * p.states_ * p.channels_ + 2 * p.channels_ + 6 * p.chunk_;
  }

  /// Everything one chunk works on.
  struct work {
    const ssd_plan& p;
    ssd_shared<const A> shared;
    const chunk_steps<A>* s = nullptr;
    index_t c = 0, q = 0, rows = 0;                    // chunk, its tokens, the same padded
    A *dBt = nullptr, *dCt = nullptr, *dCB = nullptr;  // gradients of what is shared
    A *x = nullptr, *xt = nullptr, *dout = nullptr, *doutt = nullptr;
    A *weighted = nullptr, *dx = nullptr, *y = nullptr;
    A *m1 = nullptr, *m2 = nullptr, *tmp = nullptr;
    // by token: gradients of dt' and of decays
    A *direct = nullptr, *inner = nullptr, *at_k = nullptr, *at_m = nullptr;
    A *suffix = nullptr, *into = nullptr;
  };

  /// do = dy silu(z), dz = dy v silu'(z); without z, do = dy.
  static void gate(const ssd_backward_task<T>& t, const work& w, const A* skip, const A* state) {
    const D d;
    const ssd_plan& p = w.p;
    const ssd_head<T>& h = t.head;
    const index_t t0 = p.first(w.c);
    pack_rows(d, t.dy[t0], t.dy.row, w.q, p.channels, w.dout, p.channels_, w.rows);
    if (!h.z.at) return;
    auto rows = [&](index_t i, index_t end, const A* y) HWY_ATTR {
      for (; i < end; ++i, y += p.channels_) {
        A* dout = w.dout + i * p.channels_;
        const A* x = w.x + i * p.channels_;
        const T* z = h.z[t0 + i];
        T* dz = t.dz[t0 + i];
        for_each_vector(d, p.channels, [&](auto part, index_t j) HWY_ATTR {
          const auto g = part.load(d, z + j), dy = hn::LoadU(d, dout + j);
          const auto sig = sigmoid(d, g), one = hn::Set(d, A(1));
          const auto v =
              hn::MulAdd(hn::LoadU(d, skip + j), hn::LoadU(d, x + j), hn::LoadU(d, y + j));
          const auto slope = hn::Mul(sig, hn::MulAdd(g, hn::Sub(one, sig), one));
          part.store(hn::Mul(hn::Mul(dy, v), slope), d, dz + j);
          part.store(hn::Mul(dy, hn::Mul(g, sig)), d, dout + j);
        });
      }
    };
    const typename forward::room room{w.x, nullptr, w.m1, w.y};
    forward::output_panel(
        p, *w.s, w.q, w.shared, room, state, 0, p.channels_, skip, {}, [](index_t) {}, rows);
  }

  /// The pairs (m, k) of the chunk: weights of dx in m2, dCB, and the gradient of inner decays.
  static void pairs(const ssd_backward_task<T>& t, const work& w, bool first) {
    const D d;
    const ssd_plan& p = w.p;
    const index_t t0 = p.first(w.c);
    const index_t step = lanes(d), unit = tile_unit(d);
    multiply(d, w.rows, w.rows, product<A>{w.dout, p.channels_, 1, w.xt, p.chunk_, p.channels},
             w.m1, p.chunk_, A(0), static_cast<const A*>(nullptr), true);
    for (index_t i = 0; i < w.rows; i += step) hn::StoreU(hn::Zero(d), d, w.suffix + i);
    if (first)
      for (index_t i = 0; i < w.rows; ++i)
        for (index_t j = i < w.q ? (i / unit + 1) * unit : 0; j < w.rows; j += step)
          hn::StoreU(hn::Zero(d), d, w.dCB + i * p.chunk_ + j);
    // suffix[k] = sum of U[m', k] over m' >= m; inner[m] = sum of suffix[k] over k < m
    for (index_t m = w.q - 1; m >= 0; --m) {
      if (m == w.q - 1 || m % unit == unit - 1) open_block(d, *w.s, m / unit * unit);
      const index_t row = m * p.chunk_;
      expect_row<true>(t.dx[t0 + m], p.channels);
      if (w.c > 0) {
        expect_row(t.head.x[t0 - p.chunk + m], p.channels);
        expect_row(t.dy[t0 - p.chunk + m], p.channels);
      }
      const auto last = hn::Set(d, A(m));
      auto sum = hn::Zero(d);
      for_each_decay(d, *w.s, m, [&](index_t i, auto decay, auto k) HWY_ATTR {
        const auto cb = hn::LoadU(d, w.shared.CB + row + i);
        const auto g =
            hn::Mul(hn::LoadU(d, w.m1 + row + i), hn::Mul(decay, hn::LoadU(d, w.s->dt + i)));
        hn::StoreU(hn::Mul(cb, decay), d, w.m2 + row + i);
        A* dcb = w.dCB + row + i;
        hn::StoreU(first ? g : hn::Add(hn::LoadU(d, dcb), g), d, dcb);
        const auto before = hn::Lt(k, last);
        const auto u =
            hn::Add(hn::LoadU(d, w.suffix + i), hn::IfThenElseZero(before, hn::Mul(g, cb)));
        hn::StoreU(u, d, w.suffix + i);
        sum = hn::Add(sum, hn::IfThenElseZero(before, u));
      });
      w.inner[m] = sum_of_lanes(d, sum);
    }
  }

  /// dx, dD, and the direct gradient of dt'. G may be null: zero.
  static void inputs(const ssd_backward_task<T>& t, const work& w, const A* skip, const A* G,
                     A* dD) {
    const D d;
    const ssd_plan& p = w.p;
    const index_t t0 = p.first(w.c);
    if (G)
      multiply(d, w.q, p.channels_,
               forward::tokens_by_states(p, w.shared.B_by_token, G, p.channels_), w.dx, p.channels_,
               A(0), w.s->leave);
    multiply(d, w.q, p.channels_,
             product<A>{w.m2, 1, p.chunk_, w.dout, p.channels_, w.q, band::upper}, w.dx,
             p.channels_, G ? A(1) : A(0));
    for (index_t i = 0; i < w.q; ++i) {
      const index_t row = i * p.channels_;
      const auto dt = hn::Set(d, w.s->dt[i]);
      auto sum = hn::Zero(d);
      T* dx = t.dx[t0 + i];
      for_each_vector(d, p.channels, [&](auto part, index_t j) HWY_ATTR {
        const auto g = hn::LoadU(d, w.dx + row + j), x = hn::LoadU(d, w.x + row + j);
        const auto dout = hn::LoadU(d, w.dout + row + j);
        sum = hn::MulAdd(g, x, sum);
        hn::StoreU(hn::MulAdd(dout, x, hn::LoadU(d, dD + j)), d, dD + j);
        part.store(hn::MulAdd(dt, g, hn::Mul(hn::LoadU(d, skip + j), dout)), d, dx + j);
      });
      w.direct[i] = sum_of_lanes(d, sum);
    }
  }

  /// grad[n][k] (+)= scale[k] (state other^T)[n][k], by_token[k] = its product with
  /// `with` (in panels of tokens): the way B meets G, and C the state before the chunk.
  static void through_state(const work& w, const A* state, const A* other, const A* scale,
                            const A* with, bool first, A* grad, A* by_token) {
    const D d;
    const ssd_plan& p = w.p;
    const index_t step = lanes(d);
    if (state)
      multiply(d, p.states, w.rows, product<A>{state, p.channels_, 1, other, p.chunk_, p.channels},
               w.tmp, p.chunk_);
    for (index_t i = 0; i < w.rows; i += step) hn::StoreU(hn::Zero(d), d, by_token + i);
    for (index_t n = 0; n < p.states && (state || first); ++n)
      for (index_t i = 0; i < w.rows; i += step) {
        const index_t at = n * p.chunk_ + i;
        auto g = hn::Zero(d);
        if (state) {
          const index_t unit = forward::unit(), in_panel = n * unit + i % unit;
          const auto v = hn::LoadU(d, with + i / unit * unit * p.states_ + in_panel);
          g = hn::Mul(hn::LoadU(d, scale + i), hn::LoadU(d, w.tmp + at));
          hn::StoreU(hn::MulAdd(g, v, hn::LoadU(d, by_token + i)), d, by_token + i);
        }
        hn::StoreU(first ? g : hn::Add(g, hn::LoadU(d, grad + at)), d, grad + at);
      }
  }

  /// Gradients of dt, and the sums of those of A and dt_bias.
  static void steps(const ssd_backward_task<T>& t, const work& w, A of_keep, double& dA,
                    double& dbias) {
    const chunk_steps<A>& s = *w.s;
    A later = of_keep;  // gradient of a[m] summed over the tokens that read the state before
    for (index_t j = w.q - 1; j >= 0; --j) later += w.at_m[j], w.inner[j] += later;
    A earlier = 0;  // the same for tokens that enter the state after the chunk
    for (index_t j = 0; j < w.q; ++j) {
      const A decay = w.inner[j] + earlier;
      earlier += w.at_k[j];
      const A ddt = (decay * t.head.rate + w.direct[j]) * s.slope[j];
      dA += double(decay) * double(s.dt[j]);
      dbias += double(ddt);
      t.ddt[(s.t0 + j) * t.ddt_row] = T(ddt);
    }
  }

  static void head(const ssd_backward_task<T>& t) {
    const D d;
    const ssd_plan& p = t.plan;
    const ssd_head<T>& h = t.head;
    const index_t nc = p.chunks(), state_size = p.states_ * p.channels_;
    bump<A> b{t.scratch};
    A* steps_at = b.take(chunk_steps<A>::size(p));
    A* states = b.take(nc * state_size);  // before each chunk
    A *G = b.take(state_size), *other = b.take(state_size);
    A *skip = b.take(p.channels_), *dD = b.take(p.channels_);
    work w{p, {p, t.shared}};
    for (A** at : {&w.x, &w.xt, &w.dout, &w.doutt, &w.weighted, &w.dx, &w.y})
      *at = b.take(p.chunk_ * p.channels_);
    for (A** at : {&w.m1, &w.m2}) *at = b.take(p.chunk_ * p.chunk_);
    for (A** at : {&w.direct, &w.inner, &w.at_k, &w.at_m, &w.suffix, &w.into})
      *at = b.take(p.chunk_);
    w.tmp = b.take(p.states_ * p.chunk_);
    load_skip(p, h, skip, dD);
    const bool initial = bool(h.initial.at);
    if (initial && nc > 0) forward::load_state(p, h.initial, states, other);
    for (index_t c = 0; c + 1 < nc; ++c) {
      chunk_steps<A> s(steps_at, p);
      prepare_chunk(d, p, h, c, s);
      const typename forward::room room{w.x, w.weighted};
      forward::load_chunk(p, s, {h.x[p.first(c)], h.x.row}, p.tokens(c), room);
      forward::state_panel(p, s, p.tokens(c), {p, t.shared + c * p.shared_size()}, room,
                           c > 0 || initial ? states + c * state_size : nullptr,
                           states + (c + 1) * state_size, 0, p.channels_, [](index_t) {});
    }
    bool known = bool(t.dlast.at);  // G is not zero
    if (known) forward::load_state(p, t.dlast, G, other);
    double dA = 0, dbias = 0;
    for (index_t c = nc - 1; c >= 0; --c) {
      chunk_steps<A> s(steps_at, p);
      prepare_chunk(d, p, h, c, s);
      open(t, c, s, w);
      const A* state = (c > 0 || initial) && s.continued > 0 ? states + c * state_size : nullptr;
      gate(t, w, skip, state);
      transpose(w.x, p.channels_, w.rows, p.channels_, w.xt, p.chunk_);
      transpose(w.dout, p.channels_, w.rows, p.channels_, w.doutt, p.chunk_);
      const A* after = known ? G : nullptr;
      pairs(t, w, t.first);
      inputs(t, w, skip, after, dD);
      for (index_t i = 0; i < p.chunk_; ++i) w.into[i] = s.leave[i] * s.dt[i];
      through_state(w, after, w.xt, w.into, w.shared.B_by_token, t.first, w.dBt, w.at_k);
      through_state(w, state, w.doutt, s.enter, w.shared.C, t.first, w.dCt, w.at_m);
      const A of_keep =
          state && after && s.keep != A(0) ? s.keep * dot(state, G, state_size) : A(0);
      steps(t, w, of_keep, dA, dbias);
      if (c > 0 || t.dinitial.at) {
        scale_rows(d, w.dout, s.enter, s.continued, p.channels_, w.weighted);
        multiply(
            d, p.states_, p.channels_,
            forward::states_by_tokens(p, w.shared.C_by_state, w.weighted, p.channels_, s.continued),
            G, p.channels_, known ? s.keep : A(0));
        known = true;
      }
    }
    if (t.dinitial.at) {
      if (!known)
        for (index_t i = 0; i < state_size; ++i) G[i] = 0;
      forward::store_state(p, G, t.dinitial, other);
    }
    t.sums[0] = A(dA), t.sums[1] = A(dbias);
    for (index_t i = 0; i < p.channels; ++i) t.sums[2 + i] = dD[i];
  }

  static void open(const ssd_backward_task<T>& t, index_t c, const chunk_steps<A>& s, work& w) {
    const ssd_plan& p = w.p;
    w.c = c, w.q = p.tokens(c), w.rows = padded(w.q), w.s = &s;
    const index_t block = p.states_ * p.chunk_;
    w.shared = {p, t.shared + c * p.shared_size()};
    w.dBt = t.shared_grad + c * p.grad_size(), w.dCt = w.dBt + block, w.dCB = w.dCt + block;
    pack_rows(D(), t.head.x[p.first(c)], t.head.x.row, w.q, p.channels, w.x, p.channels_, w.rows);
  }
  static void load_skip(const ssd_plan& p, const ssd_head<T>& h, A* skip, A* dD) {
    forward::load_skip(p, h, skip);
    for (index_t i = 0; i < p.channels_; ++i) dD[i] = 0;
  }
  static A dot(const A* a, const A* b, index_t n) {
    const D d;
    auto sum = hn::Zero(d);
    for (index_t i = 0; i < n; i += lanes(d))
      sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
    return sum_of_lanes(d, sum);
  }
};

template <class T>
ssd_entries<T> kernels_for(wanted<ssd_entries<T>>) {
  using F = ssd_ops<T>;
  return {F::unit(), 32,          &F::forward_scratch, &F::share_scratch,
          &F::share, &F::forward, &F::sequential};
}
template <class T>
ssd_backward_entries<T> kernels_for(wanted<ssd_backward_entries<T>>) {
  using F = ssd_backward_ops<T>;
  using S = ssd_ops<T>;
  return {S::unit(), &S::share_scratch, &S::share, &F::scratch, &F::head, &finish_ssd_backward<T>};
}
template <class T, class State>
ssd_step_entries<T, State> kernels_for(wanted<ssd_step_entries<T, State>>) {
  return {ssd_ops<T>::unit(), &ssd_ops<T>::template step<State>};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
