// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Selective scan kernels. A vector holds one state of several channels; blocks of tokens keep what
// they share (B, C) in cache.
#include <hwy/cache_control.h>

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T>
struct scan_ops {
  using A = accum_t<T>;
  using D = tag_for<T>;
  using V = hn::Vec<D>;
  using channels = scan_channels<T>;
  static constexpr index_t block = 16;  // tokens

  static index_t vectors(index_t n) { return (n + lanes(D()) - 1) / lanes(D()); }
  static index_t padded(index_t n) { return vectors(n) * lanes(D()); }

  /// (channels, states) as one (states, lanes) per vector, zeros after the last channel; and back.
  static void by_lanes(const A* from, index_t row, index_t n, index_t states, A* to) {
    const index_t w = lanes(D());
    for (index_t c = 0; c < padded(n); ++c)
      for (index_t s = 0; s < states; ++s)
        to[(c / w * states + s) * w + c % w] = from && c < n ? from[c * row + s] : A(0);
  }
  static void from_lanes(const A* from, index_t n, index_t states, A* to, index_t row) {
    const index_t w = lanes(D());
    for (index_t c = 0; c < n; ++c)
      for (index_t s = 0; s < states; ++s) to[c * row + s] = from[(c / w * states + s) * w + c % w];
  }
  static void row_or_zero(const A* from, index_t stride, index_t n, A* to) {
    for (index_t c = 0; c < padded(n); ++c) to[c] = from && c < n ? from[c * stride] : A(0);
  }
  /// B and C of tokens [t, t + n), widened, padded rows.
  static void pack_shared(const channels& in, index_t t, index_t n, A* B, A* C) {
    const index_t width = padded(in.states);
    pack_rows(D(), in.B + t * in.B_row, in.B_row, n, in.states, B, width, n);
    pack_rows(D(), in.C + t * in.C_row, in.C_row, n, in.states, C, width, n);
  }
  static HWY_INLINE bool carries(const channels& in, index_t t) {
    return !in.starts || in.starts[t] != t;
  }

  struct step_size {
    V value, raw;
  };
  template <class Part>
  static HWY_INLINE step_size size_of(const channels& in, Part part, index_t i, index_t t, V bias) {
    const D d;
    if (t + 8 < in.length) hwy::Prefetch(in.dt + (t + 8) * in.dt_row + i);
    if (t + 8 < in.length) hwy::Prefetch(in.x + (t + 8) * in.x_row + i);
    const auto raw = hn::Add(part.load(d, in.dt + t * in.dt_row + i), bias);
    return {in.softplus ? softplus(d, raw) : raw, raw};
  }

  // ------------------------------------------------------------ forward

  static index_t forward_scratch(index_t states, index_t n) {
    return 2 * states * padded(n) + 2 * padded(n) + 2 * block * padded(states);
  }

  /// Tokens [from, to) of one vector: state h (states, lanes) in place.
  template <class Part>
  HWY_FLATTEN static void walk(const scan_forward_task<T>& t, Part part, index_t i, index_t from,
                               index_t to, const A* rate, const A* skip, const A* bias, const A* B,
                               const A* C, A* h) {
    const D d;
    const channels& in = t.in;
    const index_t w = lanes(d), width = padded(in.states);
    const auto dt_bias = hn::LoadU(d, bias), dskip = hn::LoadU(d, skip);
    for (index_t s = from; s < to; ++s, B += width, C += width) {
      const auto dt = size_of(in, part, i, s, dt_bias).value;
      const auto x = part.load(d, in.x + s * in.x_row + i), dtx = hn::Mul(dt, x);
      auto v = hn::Mul(dskip, x);
      const bool carried = carries(in, s);
      for (index_t n = 0; n < in.states; ++n) {
        A* p = h + n * w;
        auto r = hn::Mul(dtx, hn::Set(d, B[n]));
        if (carried)
          r = hn::MulAdd(exp(d, hn::Mul(dt, hn::LoadU(d, rate + n * w))), hn::LoadU(d, p), r);
        hn::StoreU(r, d, p);
        v = hn::MulAdd(r, hn::Set(d, C[n]), v);
      }
      if (in.z) {
        const auto z = part.load(d, in.z + s * in.z_row + i);
        v = hn::Mul(v, hn::Mul(z, sigmoid(d, z)));
      }
      part.store(v, d, t.y + s * t.y_row + i);
    }
  }

  static void forward(const scan_forward_task<T>& t) {
    const D d;
    const channels& in = t.in;
    const index_t w = lanes(d), n = in.channels, states = in.states;
    bump<A> b{t.scratch};
    A *rate = b.take(states * padded(n)), *h = b.take(states * padded(n));
    A *skip = b.take(padded(n)), *bias = b.take(padded(n));
    A *B = b.take(block * padded(states)), *C = b.take(block * padded(states));
    by_lanes(in.rate, in.rate_row, n, states, rate);
    by_lanes(in.initial, in.initial_row, n, states, h);
    row_or_zero(in.D, in.D_stride, n, skip);
    row_or_zero(in.dt_bias, in.dt_bias_stride, n, bias);
    for (index_t from = 0; from < in.length; from += block) {
      const index_t to = from + block < in.length ? from + block : in.length;
      pack_shared(in, from, to - from, B, C);
      for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
        const index_t at = i / w * states * w;
        walk(t, part, i, from, to, rate + at, skip + i, bias + i, B, C, h + at);
      });
    }
    if (t.last) from_lanes(h, n, states, t.last, t.last_row);
  }

  // ------------------------------------------------------------ one token

  template <class State>
  static void step(const scan_step_task<T, State>& t) {
    const D d;
    const channels& in = t.in;
    for (index_t c = 0; c < in.channels; ++c) {
      const A raw = A(in.dt[c]) + (in.dt_bias ? in.dt_bias[c * in.dt_bias_stride] : A(0));
      const A dt = in.softplus ? hn::GetLane(softplus(d, hn::Set(d, raw))) : raw;
      const A x = A(in.x[c]);
      const auto by = hn::Set(d, dt), dtx = hn::Set(d, dt * x);
      const A* rate = in.rate + c * in.rate_row;
      State* h = t.state + c * t.state_row;
      auto sum = hn::Zero(d);
      for_each_vector(d, in.states, [&](auto part, index_t n) HWY_ATTR {
        const auto decay = exp(d, hn::Mul(by, part.load(d, rate + n)));
        const auto r = hn::MulAdd(decay, part.load(d, h + n), hn::Mul(dtx, part.load(d, in.B + n)));
        part.store(r, d, h + n);
        sum = hn::MulAdd(r, part.load(d, in.C + n), sum);
      });
      A v = sum_of_lanes(d, sum);
      if (in.D) v += in.D[c * in.D_stride] * x;
      if (in.z) {
        const auto z = hn::Set(d, A(in.z[c]));
        v *= hn::GetLane(hn::Mul(z, sigmoid(d, z)));
      }
      t.y[c] = T(v);
    }
  }
};

template <class T>
scan_entries<T> kernels_for(wanted<scan_entries<T>>) {
  return {&scan_ops<T>::forward_scratch, &scan_ops<T>::forward};
}
template <class T, class State>
scan_step_entries<T, State> kernels_for(wanted<scan_step_entries<T, State>>) {
  return {&scan_ops<T>::template step<State>};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
