// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Steps and decays of a chunk of SSD.
//
// Inside a chunk a[m] is the sum of dt' A over its tokens up to m, added in double and kept as the
// unevaluated sum of two numbers, so that a[m] - a[k] is as precise as a sum from k + 1 to m.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

/// The steps of one chunk.
template <class A>
struct chunk_steps {
  A *dt, *slope;           // dt' and its derivative by dt; 0 after the end
  A *high, *low;           // a in two parts
  A *enter, *leave;        // decay from before the chunk to m, and from k to its end; 0 where cut
  A *to_block, *in_block;  // decay from k to the first row of a block, and from there to its rows
  A keep = 0;              // decay over the whole chunk
  index_t continued = 0;   // tokens that still see the state before the chunk
  const index_t* starts = nullptr;
  index_t t0 = 0;
  bool falling = true;  // no decay is above 1

  static index_t size(const ssd_plan& p) { return 8 * p.chunk_; }
  chunk_steps() = default;
  explicit chunk_steps(A* from, const ssd_plan& p) {
    bump<A> b{from};
    dt = b.take(p.chunk_), slope = b.take(p.chunk_), high = b.take(p.chunk_);
    low = b.take(p.chunk_), enter = b.take(p.chunk_), leave = b.take(p.chunk_);
    to_block = b.take(p.chunk_), in_block = b.take(p.chunk_);
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
  s.falling = true;
  for (index_t i = 0; i < width; ++i) {
    // A step of -1e5 forgets everything, in double too: with larger ones in the sum, the
    // differences of what comes after lose their bits, and beyond all bounds they are no numbers.
    const double by = double(s.dt[i]) * double(h.rate);
    s.falling = s.falling && by <= 0;
    a += by < -1e5 ? -1e5 : by > 1e30 ? 1e30 : by;
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

/// Prepares for_each_decay for the rows of the block (of tile_unit rows) that starts at row
/// `first`.
template <class D, class A>
void open_block(D d, const chunk_steps<A>& s, index_t first) {
  if (!s.falling) return;
  const auto high = hn::Set(d, s.high[first]), low = hn::Set(d, s.low[first]);
  for (index_t i = 0; i < first + tile_unit(d); i += lanes(d)) {
    const auto h = hn::Sub(high, hn::LoadU(d, s.high + i));
    const auto l = hn::Sub(low, hn::LoadU(d, s.low + i));
    if (i < first) {
      hn::StoreU(exp(d, hn::Add(h, l)), d, s.to_block + i);
    } else {
      hn::StoreU(exp(d, hn::Neg(hn::Add(h, l))), d, s.in_block + (i - first));
    }
  }
}

/// body(i, decay, numbers) for the vectors of row m up to the diagonal's block: decay[k] = exp(a[m]
/// - a[k]) where k is in [start of m's sequence, m] and 0 elsewhere; numbers[k] = k. Before the
/// block it is the product of the decays to its first row (see open_block) and from there; neither
/// is above 1, or all are exp of the difference.
template <class D, class A, class Body>
HWY_INLINE void for_each_decay(D d, const chunk_steps<A>& s, index_t m, const Body& body) {
  const auto high = hn::Set(d, s.high[m]), low = hn::Set(d, s.low[m]);
  const auto first = hn::Set(d, A(s.start_of(m))), last = hn::Set(d, A(m));
  const auto iota = hn::Iota(d, 0);
  const index_t step = lanes(d), block = m / tile_unit(d) * tile_unit(d);
  index_t i = 0;
  if (s.falling) {
    const auto rest = hn::Set(d, s.in_block[m - block]);
    for (; i < block; i += step) {
      const auto k = hn::Add(iota, hn::Set(d, A(i)));
      const auto decay = hn::Mul(rest, hn::LoadU(d, s.to_block + i));
      body(i, hn::IfThenElseZero(hn::Ge(k, first), decay), k);
    }
  }
  for (; i < block + tile_unit(d); i += step) {
    const auto k = hn::Add(iota, hn::Set(d, A(i)));
    const auto e =
        hn::Add(hn::Sub(high, hn::LoadU(d, s.high + i)), hn::Sub(low, hn::LoadU(d, s.low + i)));
    // select, not multiply: after the diagonal e may be a large positive number
    const auto in = hn::And(hn::Ge(k, first), hn::Le(k, last));
    body(i, hn::IfThenElseZero(in, exp(d, e)), k);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
