// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of the selective scan: blocks of tokens from the last to the first, each recomputed from
// the state before it, so that its states and decays stay in cache.
HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T>
struct scan_backward_ops : scan_ops<T> {
  using base = scan_ops<T>;
  using base::block;
  using base::by_lanes;
  using base::carries;
  using base::from_lanes;
  using base::pack_shared;
  using base::padded;
  using base::row_or_zero;
  using base::size_of;
  using typename base::A;
  using typename base::channels;
  using typename base::D;
  using typename base::step_size;

  static index_t backward_scratch(index_t length, index_t states, index_t n) {
    const index_t w = lanes(D()), blocks = (length + block - 1) / block;
    return (3 + blocks) * states * padded(n) + 4 * padded(n) + 2 * block * padded(states) +
           (4 * block + 1) * states * w + 3 * block * w;
  }

  struct memory {
    A *rate, *G, *drate, *saved;  // per vector (states, lanes); saved: per block of tokens
    A *skip, *bias, *dD, *dbias;  // per channel
    A *B, *C;                     // a block of tokens
    A *h, *decay, *dB, *dC;       // (tokens, states, lanes); h starts with the state before
    A *dt, *slope, *x;            // (tokens, lanes)
  };

  /// h, decays and steps of tokens [from, to), from the state m.h holds first.
  template <class Part>
  HWY_FLATTEN static void recompute(const channels& in, Part part, index_t i, index_t from,
                                    index_t to, const memory& m, const A* rate) {
    const D d;
    const index_t w = lanes(d), width = padded(in.states), size = in.states * w;
    const auto dt_bias = hn::LoadU(d, m.bias + i);
    for (index_t s = from; s < to; ++s) {
      const index_t k = s - from;
      const step_size step = size_of(in, part, i, s, dt_bias);
      const auto dt = step.value, x = part.load(d, in.x + s * in.x_row + i);
      hn::StoreU(dt, d, m.dt + k * w);
      const auto slope = in.softplus ? softplus_derivative(d, step.raw) : hn::Set(d, A(1));
      hn::StoreU(slope, d, m.slope + k * w);
      hn::StoreU(x, d, m.x + k * w);
      const auto dtx = hn::Mul(dt, x);
      const bool carried = carries(in, s);
      const A *before = m.h + k * size, *B = m.B + k * width;
      A *after = m.h + (k + 1) * size, *decay = m.decay + k * size;
      for (index_t n = 0; n < size; n += w) {
        auto r = hn::Mul(dtx, hn::Set(d, B[n / w]));
        auto e = hn::Zero(d);
        if (carried) {
          e = exp(d, hn::Mul(dt, hn::LoadU(d, rate + n)));
          r = hn::MulAdd(e, hn::LoadU(d, before + n), r);
        }
        hn::StoreU(e, d, decay + n);
        hn::StoreU(r, d, after + n);
      }
    }
  }

  /// Gradients of tokens [from, to), last first.
  template <class Part>
  HWY_FLATTEN static void adjoint(const scan_backward_task<T>& t, Part part, index_t i,
                                  index_t from, index_t to, const memory& m, const A* rate, A* G,
                                  A* drate) {
    const D d;
    const channels& in = t.in;
    const index_t w = lanes(d), width = padded(in.states), size = in.states * w;
    const auto skip = hn::LoadU(d, m.skip + i);
    auto dD = hn::LoadU(d, m.dD + i), dbias = hn::LoadU(d, m.dbias + i);
    for (index_t s = to - 1; s >= from; --s) {
      const index_t k = s - from;
      const auto dt = hn::LoadU(d, m.dt + k * w), x = hn::LoadU(d, m.x + k * w);
      const A *before = m.h + k * size, *after = before + size, *decay = m.decay + k * size;
      const A *B = m.B + k * width, *C = m.C + k * width;
      A *dB = m.dB + k * size, *dC = m.dC + k * size;
      auto dv = part.load(d, t.dy + s * t.dy_row + i);
      if (in.z) {
        const auto z = part.load(d, in.z + s * in.z_row + i), sig = sigmoid(d, z);
        const auto one = hn::Set(d, A(1));
        auto v = hn::Mul(skip, x);
        for (index_t n = 0; n < size; n += w)
          v = hn::MulAdd(hn::LoadU(d, after + n), hn::Set(d, C[n / w]), v);
        const auto slope = hn::Mul(sig, hn::MulAdd(z, hn::Sub(one, sig), one));
        part.store(hn::Mul(hn::Mul(dv, v), slope), d, t.dz + s * t.dz_row + i);
        dv = hn::Mul(dv, hn::Mul(z, sig));
      }
      const auto dtx = hn::Mul(dt, x);
      auto by_input = hn::Zero(d), by_decay = hn::Zero(d);
      const bool carried = carries(in, s);
      for (index_t n = 0; n < size; n += w) {
        const auto a = hn::MulAdd(dv, hn::Set(d, C[n / w]), hn::LoadU(d, G + n));
        hn::StoreU(hn::MulAdd(dv, hn::LoadU(d, after + n), hn::LoadU(d, dC + n)), d, dC + n);
        hn::StoreU(hn::MulAdd(a, dtx, hn::LoadU(d, dB + n)), d, dB + n);
        by_input = hn::MulAdd(a, hn::Set(d, B[n / w]), by_input);
        if (!carried) {  // not by a decay of zero: a may be infinite
          hn::StoreU(hn::Zero(d), d, G + n);
          continue;
        }
        const auto kept = hn::Mul(a, hn::LoadU(d, decay + n));
        hn::StoreU(kept, d, G + n);
        const auto through = hn::Mul(kept, hn::LoadU(d, before + n));
        by_decay = hn::MulAdd(hn::LoadU(d, rate + n), through, by_decay);
        hn::StoreU(hn::MulAdd(dt, through, hn::LoadU(d, drate + n)), d, drate + n);
      }
      const auto ddt = hn::Mul(hn::MulAdd(x, by_input, by_decay), hn::LoadU(d, m.slope + k * w));
      part.store(hn::MulAdd(skip, dv, hn::Mul(dt, by_input)), d, t.dx + s * t.dx_row + i);
      part.store(ddt, d, t.ddt + s * t.ddt_row + i);
      dD = hn::MulAdd(dv, x, dD), dbias = hn::Add(dbias, ddt);
    }
    hn::StoreU(dD, d, m.dD + i);
    hn::StoreU(dbias, d, m.dbias + i);
  }

  static void copy(const A* from, index_t n, A* to) {
    for (index_t i = 0; i < n; ++i) to[i] = from[i];
  }
  static void zero(A* p, index_t n) {
    for (index_t i = 0; i < n; ++i) p[i] = 0;
  }

  static void backward(const scan_backward_task<T>& t) {
    const D d;
    const channels& in = t.in;
    const index_t w = lanes(d), n = in.channels, states = in.states, all = states * padded(n);
    const index_t size = states * w, blocks = (in.length + block - 1) / block;
    bump<A> b{t.scratch};
    memory m;
    m.rate = b.take(all), m.G = b.take(all), m.drate = b.take(all), m.saved = b.take(blocks * all);
    m.skip = b.take(padded(n)), m.bias = b.take(padded(n));
    m.dD = b.take(padded(n)), m.dbias = b.take(padded(n));
    m.B = b.take(block * padded(states)), m.C = b.take(block * padded(states));
    m.h = b.take((block + 1) * size), m.decay = b.take(block * size);
    m.dB = b.take(block * size), m.dC = b.take(block * size);
    m.dt = b.take(block * w), m.slope = b.take(block * w), m.x = b.take(block * w);
    by_lanes(in.rate, in.rate_row, n, states, m.rate);
    row_or_zero(in.D, in.D_stride, n, m.skip);
    row_or_zero(in.dt_bias, in.dt_bias_stride, n, m.bias);
    by_lanes(t.dlast, t.dlast_row, n, states, m.G);
    zero(m.drate, all), zero(m.dD, padded(n)), zero(m.dbias, padded(n));
    if (blocks > 0) by_lanes(in.initial, in.initial_row, n, states, m.saved);
    for (index_t k = 0; k + 1 < blocks; ++k) {  // the state before each block
      pack_shared(in, k * block, block, m.B, m.C);
      for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
        const index_t at = i / w * size;
        copy(m.saved + k * all + at, size, m.h);
        recompute(in, part, i, k * block, (k + 1) * block, m, m.rate + at);
        copy(m.h + block * size, size, m.saved + (k + 1) * all + at);
      });
    }
    for (index_t k = blocks - 1; k >= 0; --k) {
      const index_t from = k * block, to = from + block < in.length ? from + block : in.length;
      pack_shared(in, from, to - from, m.B, m.C);
      zero(m.dB, block * size), zero(m.dC, block * size);
      for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
        const index_t at = i / w * size;
        copy(m.saved + k * all + at, size, m.h);
        recompute(in, part, i, from, to, m, m.rate + at);
        adjoint(t, part, i, from, to, m, m.rate + at, m.G + at, m.drate + at);
      });
      for (index_t j = 0; j < (to - from) * states; ++j) {
        t.dB[from * states + j] = sum_of_lanes(d, hn::LoadU(d, m.dB + j * w));
        t.dC[from * states + j] = sum_of_lanes(d, hn::LoadU(d, m.dC + j * w));
      }
    }
    if (t.dinitial) from_lanes(m.G, n, states, t.dinitial, t.dinitial_row);
    from_lanes(m.drate, n, states, t.drate, states);
    copy(m.dD, n, t.dD), copy(m.dbias, n, t.ddt_bias);
  }
};

template <class T>
scan_backward_entries<T> kernels_for(wanted<scan_backward_entries<T>>) {
  return {&scan_backward_ops<T>::backward_scratch, &scan_backward_ops<T>::backward};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
