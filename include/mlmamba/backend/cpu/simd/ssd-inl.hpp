// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD kernels: chunks as small dense products, and token by token.
//
// Inside a chunk a[m] is the sum of dt' A over its tokens up to m, added in double and kept as the
// unevaluated sum of two numbers, so that a[m] - a[k] is as precise as a sum from k + 1 to m.

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

/// The steps of one chunk.
template <class A>
struct chunk_steps {
  A *dt, *slope;          // dt' and its derivative by dt; 0 after the end
  A *high, *low;          // a in two parts
  A *enter, *leave;       // decay from before the chunk to m, and from k to its end; 0 where cut
  A keep = 0;             // decay over the whole chunk
  index_t continued = 0;  // tokens that still see the state before the chunk
  const index_t* starts = nullptr;
  index_t t0 = 0;

  static index_t size(const ssd_plan& p) { return 6 * p.chunk_; }
  chunk_steps() = default;
  explicit chunk_steps(A* from, const ssd_plan& p) {
    bump<A> b{from};
    dt = b.take(p.chunk_), slope = b.take(p.chunk_), high = b.take(p.chunk_);
    low = b.take(p.chunk_), enter = b.take(p.chunk_), leave = b.take(p.chunk_);
  }
  index_t start_of(index_t m) const {
    return starts && starts[t0 + m] > t0 ? starts[t0 + m] - t0 : 0;
  }
};

template <class D, class T, class A>
void prepare_chunk(D d, const ssd_plan& plan, const ssd_head<T>& h, index_t c, chunk_steps<A>& s) {
  const index_t q = plan.tokens(c), width = plan.chunk_, step = lanes(d);
  s.starts = h.starts, s.t0 = plan.first(c);
  for (index_t i = 0; i < q; ++i) s.dt[i] = A(h.dt[(s.t0 + i) * h.dt_row]) + h.dt_bias;
  for (index_t i = q; i < width; ++i) s.dt[i] = 0;
  const auto zero = hn::Zero(d), one = hn::Set(d, A(1));
  const auto least = hn::Set(d, h.dt_min), most = hn::Set(d, h.dt_max);
  for (index_t i = 0; i < q; i += step) {
    auto v = hn::LoadU(d, s.dt + i), slope = one;
    if (h.softplus) slope = softplus_derivative(d, v), v = softplus(d, v);
    const auto under = hn::Lt(v, least), over = hn::Gt(v, most);
    v = hn::IfThenElse(over, most, hn::IfThenElse(under, least, v));
    hn::StoreU(v, d, s.dt + i);
    hn::StoreU(hn::IfThenElse(hn::Or(under, over), zero, slope), d, s.slope + i);
  }
  for (index_t i = q; i < width; ++i) s.dt[i] = 0;
  double a = 0;
  for (index_t i = 0; i < width; ++i) {
    // steps beyond 1e30 forget everything already: keep the differences of sums finite
    const double by = double(s.dt[i]) * double(h.rate);
    a += by < -1e30 ? -1e30 : by > 1e30 ? 1e30 : by;
    s.high[i] = A(a);
    s.low[i] = A(a - double(s.high[i]));
  }
  s.continued = q;
  if (h.starts)
    for (s.continued = 0; s.continued < q && h.starts[s.t0 + s.continued] < s.t0;) ++s.continued;
  s.keep = s.continued == q ? A(std::exp(a)) : A(0);
  const index_t from = s.start_of(q - 1);
  const auto end_high = hn::Set(d, s.high[q - 1]), end_low = hn::Set(d, s.low[q - 1]);
  for (index_t i = 0; i < width; i += step) {
    const auto high = hn::LoadU(d, s.high + i), low = hn::LoadU(d, s.low + i);
    hn::StoreU(exp(d, hn::Add(high, low)), d, s.enter + i);
    hn::StoreU(exp(d, hn::Add(hn::Sub(end_high, high), hn::Sub(end_low, low))), d, s.leave + i);
  }
  for (index_t i = s.continued; i < width; ++i) s.enter[i] = 0;
  for (index_t i = 0; i < from; ++i) s.leave[i] = 0;
  for (index_t i = q; i < width; ++i) s.leave[i] = 0;
}

/// body(i, decay, numbers) for the vectors of row m up to the diagonal's unit: decay[k] = exp(a[m]
/// - a[k]) where k is in [start of m's sequence, m] and 0 elsewhere; numbers[k] = k.
template <class D, class A, class Body>
HWY_INLINE void for_each_decay(D d, const chunk_steps<A>& s, index_t m, const Body& body) {
  const auto high = hn::Set(d, s.high[m]), low = hn::Set(d, s.low[m]);
  const auto first = hn::Set(d, A(s.start_of(m))), last = hn::Set(d, A(m));
  const auto iota = hn::Iota(d, 0);
  const index_t step = lanes(d), end = (m / tile_unit(d) + 1) * tile_unit(d);
  for (index_t i = 0; i < end; i += step) {
    const auto k = hn::Add(iota, hn::Set(d, A(i)));
    const auto e =
        hn::Add(hn::Sub(high, hn::LoadU(d, s.high + i)), hn::Sub(low, hn::LoadU(d, s.low + i)));
    // select, not multiply: after the diagonal e may be a large positive number
    const auto in = hn::And(hn::Ge(k, first), hn::Le(k, last));
    body(i, hn::IfThenElseZero(in, exp(d, e)), k);
  }
}

/// to[i] = scale[i] from[i], rows of `width`.
template <class D, class A>
void scale_rows(D d, const A* from, const A* scale, const A* scale2, index_t rows, index_t width,
                A* to) {
  for (index_t i = 0; i < rows; ++i) {
    const auto f = hn::Set(d, scale2 ? scale[i] * scale2[i] : scale[i]);
    for (index_t j = 0; j < width; j += lanes(d))
      hn::StoreU(hn::Mul(f, hn::LoadU(d, from + i * width + j)), d, to + i * width + j);
  }
}

template <class T>
struct ssd_ops {
  using A = accum_t<T>;
  using D = tag_for<T>;

  static index_t unit() { return tile_unit(D()); }
  static index_t padded(index_t n) { return (n + unit() - 1) / unit() * unit(); }

  static index_t forward_scratch(const ssd_plan& p) {
    return chunk_steps<A>::size(p) + 3 * p.chunk_ * p.channels_ + p.chunk_ * p.chunk_ +
           2 * p.states_ * p.channels_ + 2 * p.states_ + 2 * p.channels_ + p.chunk_ * p.states_;
  }

  static void share(const ssd_plan& p, index_t c, strided<const T> B, strided<const T> C, A* shared,
                    A* scratch) {
    const D d;
    const index_t q = p.tokens(c), t0 = p.first(c), rows = padded(q);
    A *Bt = shared, *Ct = Bt + p.states_ * p.chunk_, *CB = Ct + p.states_ * p.chunk_;
    pack_rows(d, B[t0], B.row, q, p.states, scratch, p.states_, rows);
    transpose(scratch, p.states_, rows, p.states_, Bt, p.chunk_);
    pack_rows(d, C[t0], C.row, q, p.states, scratch, p.states_, rows);
    transpose(scratch, p.states_, rows, p.states_, Ct, p.chunk_);
    multiply(d, rows, rows, product<A>{Ct, 1, p.chunk_, Bt, p.chunk_, p.states}, CB, p.chunk_, A(0),
             static_cast<const A*>(nullptr), true);
  }

  /// The state of (channels, states) as (states_, channels_), zeros around; and back.
  static void load_state(const ssd_plan& p, strided<const A> from, A* state, A* scratch) {
    const D d;
    pack_rows(d, from.at, from.row, p.channels, p.states, scratch, p.states_, p.channels_);
    transpose(scratch, p.states_, p.channels_, p.states_, state, p.channels_);
  }
  static void store_state(const ssd_plan& p, const A* state, strided<A> to, A* scratch) {
    transpose(state, p.channels_, p.states_, p.channels_, scratch, p.states_);
    store_rows(D(), scratch, p.states_, p.channels, p.states, to.at, to.row);
  }
  static void load_skip(const ssd_plan& p, const ssd_head<T>& h, A* skip) {
    for (index_t i = 0; i < p.channels_; ++i)
      skip[i] = h.D && i < p.channels ? h.D[i * h.D_stride] : A(0);
  }

  /// y = (v + D x) silu(z) for one token; v and x in A.
  static HWY_INLINE void finish_token(const ssd_plan& p, const A* skip, const A* v, const A* x,
                                      const T* z, T* y) {
    const D d;
    for_each_vector(d, p.channels, [&](auto part, index_t j) HWY_ATTR {
      auto r = hn::MulAdd(hn::LoadU(d, skip + j), hn::LoadU(d, x + j), hn::LoadU(d, v + j));
      if (z) {
        const auto g = part.load(d, z + j);
        r = hn::Mul(r, hn::Mul(g, sigmoid(d, g)));
      }
      part.store(r, d, y + j);
    });
  }

  /// y = decay . C B^T . dt' x inside the chunk + what enters it; not yet skipped and gated.
  static void chunk_output(const ssd_plan& p, const chunk_steps<A>& s, index_t q, const A* shared,
                           const A* x, const A* state, A* weights, A* y) {
    const D d;
    const A *Ct = shared + p.states_ * p.chunk_, *CB = Ct + p.states_ * p.chunk_;
    for (index_t m = 0; m < q; ++m)
      for_each_decay(d, s, m, [&](index_t i, auto decay, auto) HWY_ATTR {
        const auto cb = hn::LoadU(d, CB + m * p.chunk_ + i);
        const auto dt = hn::LoadU(d, s.dt + i);
        hn::StoreU(hn::Mul(hn::Mul(cb, decay), dt), d, weights + m * p.chunk_ + i);
      });
    const index_t from_state = state ? s.continued : 0;
    if (from_state > 0) {
      multiply(d, from_state, p.channels_,
               product<A>{Ct, 1, p.chunk_, state, p.channels_, p.states}, y, p.channels_, A(0),
               s.enter);
      for (index_t i = from_state * p.channels_; i < padded(q) * p.channels_; ++i) y[i] = 0;
    }
    multiply(d, q, p.channels_, product<A>{weights, p.chunk_, 1, x, p.channels_, q, band::lower}, y,
             p.channels_, from_state > 0 ? A(1) : A(0));
  }

  /// next = keep state + sum_k leave[k] dt'[k] B[k] x[k]^T; state may be null (zero) or next.
  static void chunk_state(const ssd_plan& p, const chunk_steps<A>& s, index_t q, const A* shared,
                          const A* x, A* weighted, const A* state, A* next) {
    const D d;
    scale_rows(d, x, s.leave, s.dt, q, p.channels_, weighted);
    if (state && state != next)
      for (index_t i = 0; i < p.states_ * p.channels_; ++i) next[i] = state[i];
    multiply(d, p.states_, p.channels_, product<A>{shared, p.chunk_, 1, weighted, p.channels_, q},
             next, p.channels_, state ? s.keep : A(0));
  }

  static void forward(const ssd_forward_task<T>& t) {
    const D d;
    const ssd_plan& p = t.plan;
    const ssd_head<T>& h = t.head;
    bump<A> b{t.scratch};
    chunk_steps<A> s(b.take(chunk_steps<A>::size(p)), p);
    A *x = b.take(p.chunk_ * p.channels_), *y = b.take(p.chunk_ * p.channels_);
    A *weighted = b.take(p.chunk_ * p.channels_), *weights = b.take(p.chunk_ * p.chunk_);
    A *state = b.take(p.states_ * p.channels_), *other = b.take(p.states_ * p.channels_);
    A* skip = b.take(p.channels_);
    load_skip(p, h, skip);
    bool known = bool(h.initial.at);  // the state is not zero
    if (known) load_state(p, h.initial, state, other);
    for (index_t c = 0; c < p.chunks(); ++c) {
      const index_t q = p.tokens(c), t0 = p.first(c);
      prepare_chunk(d, p, h, c, s);
      pack_rows(d, h.x[t0], h.x.row, q, p.channels, x, p.channels_, padded(q));
      const A* shared = t.shared + c * p.shared_size();
      chunk_output(p, s, q, shared, x, known ? state : nullptr, weights, y);
      for (index_t i = 0; i < q; ++i)
        finish_token(p, skip, y + i * p.channels_, x + i * p.channels_,
                     h.z.at ? h.z[t0 + i] : nullptr, t.y[t0 + i]);
      if (c + 1 < p.chunks() || t.last.at)
        chunk_state(p, s, q, shared, x, weighted, known ? state : nullptr, state), known = true;
    }
    if (!t.last.at) return;
    if (!known)
      for (index_t i = 0; i < p.states_ * p.channels_; ++i) state[i] = 0;
    store_state(p, state, t.last, other);
  }

  // ---------------------------------------------------------- token by token

  /// state = decay state + dt' x B^T (without the first term if it is not carried), v = state C.
  static void token(const ssd_plan& p, A decay, bool carried, A dt, const A* x, const A* B,
                    const A* C, strided<A> state, A* v) {
    const D d;
    const auto f = hn::Set(d, decay);
    for (index_t i = 0; i < p.channels; ++i) {
      const auto dx = hn::Set(d, dt * x[i]);
      auto sum = hn::Zero(d);
      A* row = state[i];
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
      finish_token(p, skip, v, x, h.z.at ? h.z[i] : nullptr, t.y[i]);
    }
    if (t.last.at) store_rows(d, state.at, state.row, p.channels, p.states, t.last.at, t.last.row);
  }

  static void step(const ssd_plan& p, const ssd_head<T>& h, const T* B, const T* C, T* y,
                   strided<A> state, A* scratch) {
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
    finish_token(p, skip, v, x, h.z.at, y);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
