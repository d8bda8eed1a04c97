// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Causal convolution kernels: channels in lanes, a pair of vectors at a time.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

/// f(w) for w in [0, width), unrolled if the width is known.
template <int known, class F>
HWY_INLINE void for_taps(index_t width, const F& f) {
  if constexpr (known > 0) {
    HWY_UNROLL(8) for (index_t w = 0; w < known; ++w) f(w);
  } else {
    for (index_t w = 0; w < width; ++w) f(w);
  }
}

template <class T>
struct conv_ops {
  using A = accum_t<T>;
  using D = tag_for<T>;
  using V = hn::Vec<D>;
  using P = pair<V>;

  static void pack(const conv_pack<A>& p) {
    static_assert(conv_unit % (2 * hn::MaxLanes(D())) == 0);
    index_t done = 0;
    if (p.width % tile_rows == 0 && p.weight_stride[1] == 1) {
      done = p.channels / tile_rows * tile_rows;
      transpose(p.weight, p.weight_stride[0], done, p.width, p.to, p.pitch);
    }
    for (index_t w = 0; w <= p.width; ++w) {
      A* row = p.to + w * p.pitch;
      if (w < p.width) {
        for (index_t c = done; c < p.channels; ++c)
          row[c] = p.weight[c * p.weight_stride[0] + w * p.weight_stride[1]];
      } else if (!p.bias) {
        std::fill_n(row, p.channels, A(0));
      } else if (p.bias_stride == 1) {
        std::copy_n(p.bias, p.channels, row);
      } else {
        for (index_t c = 0; c < p.channels; ++c) row[c] = p.bias[c * p.bias_stride];
      }
      std::fill(row + p.channels, row + p.pitch, A(0));
      in_order_of_lanes<T>(row, p.pitch);
    }
  }

  // ------------------------------------------------------------ forward

  static HWY_INLINE P times_add(const P& w, const P& x, const P& v) {
    return {hn::MulAdd(w.a, x.a, v.a), hn::MulAdd(w.b, x.b, v.b)};
  }
  static HWY_INLINE P activated(const P& v, bool with_silu) {
    const D d;
    return with_silu ? P{silu_as<T>(d, v.a), silu_as<T>(d, v.b)} : v;
  }
  template <int known_taps>
  HWY_FLATTEN static void row(const conv_rows<T>& r, const T* const* x, const T* ahead, T* y) {
    const D d;
    for_each_pair(d, r.channels, [&](auto part, index_t i) HWY_ATTR {
      auto v = load_pair(d, r.bias + i);
      if (ahead) fetch(ahead + i);
      for_taps<known_taps>(r.taps, [&](index_t w) HWY_ATTR {
        v = times_add(load_pair(d, r.weight[w] + i), part.load(d, x[w] + i), v);
      });
      part.store(activated(v, r.silu), d, y + i);
    });
  }
  /// Four tokens of four taps: each input is loaded once, not four times.
  HWY_FLATTEN static void square(const conv_rows<T>& r, const T* x, bool more, T* y) {
    const D d;
    for_each_pair(d, r.channels, [&](auto part, index_t i) HWY_ATTR {
      const auto bias = load_pair(d, r.bias + i);
      P weight[4], in[7];
      HWY_UNROLL(4) for (int w = 0; w < 4; ++w) weight[w] = load_pair(d, r.weight[w] + i);
      HWY_UNROLL(7) for (int k = 0; k < 7; ++k) {
        in[k] = part.load(d, x + k * r.x_row + i);
        if (k >= 3 && more) fetch_pair(x + (k + 4) * r.x_row + i);
      }
      P v[4];
      HWY_UNROLL(4) for (int t = 0; t < 4; ++t) {
        v[t] = bias;
        HWY_UNROLL(4) for (int w = 0; w < 4; ++w) v[t] = times_add(weight[w], in[t + w], v[t]);
      }
      if (r.silu) {  // all of these chains at once
        HWY_UNROLL(4) for (int t = 0; t < 4; ++t) v[t] = activated(v[t], true);
      }
      HWY_UNROLL(4) for (int t = 0; t < 4; ++t) {
        part.store(v[t], d, y + t * r.y_row + i);
        if (more) fetch_pair_to_write(y + (t + 4) * r.y_row + i);
      }
    });
  }
  static void forward(const conv_rows<T>& r) {
    const T* x[conv_widest];
    for (index_t w = 0; w < r.taps; ++w) x[w] = r.x[w];
    T* y = r.y;
    const bool in_order = r.taps == 4 && r.tokens >= 4 && x[1] == x[0] + r.x_row &&
                          x[3] == x[2] + r.x_row && x[2] == x[1] + r.x_row;
    for (index_t t = 0; t < r.tokens;) {
      const index_t n = in_order && t + 4 <= r.tokens ? 4 : 1;
      const T* ahead = t + 2 < r.tokens ? x[r.taps - 1] + 2 * r.x_row : nullptr;
      if (n == 4) {
        square(r, x[0], t + 8 <= r.tokens, y);
      } else if (r.taps == 4) {
        row<4>(r, x, ahead, y);
      } else {
        row<0>(r, x, ahead, y);
      }
      for (index_t w = 0; w < r.taps; ++w) x[w] += n * r.x_row;
      y += n * r.y_row;
      t += n;
    }
  }

  // ------------------------------------------------------------ backward

  static constexpr index_t tokens = 8;  // of a step through time: their rows fit the first cache
  static constexpr index_t most = tokens + conv_widest - 1;
  static constexpr index_t step = 2 * index_t(hn::MaxLanes(D()));
  static constexpr index_t fetched = 4 * step;  // what is fetched is needed after so many pairs

  /// What a task keeps from step to step, in the order of the lanes.
  struct sums {
    HWY_ALIGN A g[conv_widest - 1][conv_block];  // of the last tokens
    HWY_ALIGN A dweight[conv_widest][conv_block];
    HWY_ALIGN A dbias[conv_block];
  };

  static HWY_INLINE bool counted(const conv_backward_task<T>& t, index_t s, index_t w) {
    return !t.counts || (t.counts[s] >> w & 1);
  }
  /// Input k of (before, x).
  template <class Part>
  static HWY_INLINE P input(const conv_backward_task<T>& t, Part part, index_t i, index_t k) {
    const D d;
    const index_t old = t.width - 1;
    if (k >= old) return part.load(d, t.x + (k - old) * t.x_row + i);
    if (t.before) return part.load(d, t.before + k * t.pitch + i);
    return {hn::Zero(d), hn::Zero(d)};
  }

  /// Tokens [from, to) of the channels of one pair, and dx of those that no later token meets.
  template <int known_width, class Part>
  HWY_FLATTEN static void walk(const conv_backward_task<T>& t, sums& kept, Part part, index_t i,
                               index_t from, index_t to) {
    const D d;
    const index_t width = known_width ? known_width : t.width, old = width - 1, n = to - from;
    HWY_ALIGN A x[most][step];  // x[k]: input from + k of (before, x)
    HWY_ALIGN A g[most][step];  // g[k]: token from + k - old
    P weight[conv_widest];
    for_taps<known_width>(width, [&](index_t w) HWY_ATTR {
      weight[w] = load_pair(d, t.weight + w * t.packed_pitch + i);
      if (w < old) store_pair(load_pair(d, kept.g[w] + i), d, g[w]);
      if (w < old) store_pair(input(t, part, i, from + w), d, x[w]);
    });
    const auto bias = load_pair(d, t.weight + width * t.packed_pitch + i);
    auto dbias = load_pair(d, kept.dbias + i);
    // What is fetched: the same rows further on, then the next ones. Whole rows ahead would not
    // stay in the first cache until they are needed.
    const bool inside = i + fetched < t.channels;
    const index_t later = inside ? 0 : tokens, at = inside ? i + fetched : i + fetched - t.channels;
    const bool more = from >= old && to + later <= t.length;
    for (index_t k = 0; k < n; ++k) {
      const index_t s = from + k;
      store_pair(part.load(d, t.x + s * t.x_row + i), d, x[k + old]);
      if (more) fetch_pair(t.x + (s + later) * t.x_row + at);
      auto v = bias;
      for_taps<known_width>(width, [&](index_t w) HWY_ATTR {
        if (known_width || counted(t, s, w)) v = times_add(weight[w], load_pair(d, x[k + w]), v);
      });
      store_pair(v, d, g[k + old]);
    }
    // A loop of its own: more of these long chains are then under way at once, and what is asked of
    // the memory comes at an even pace.
    for (index_t k = 0; k < n; ++k) {
      const index_t s = from + k;
      auto slope = P{hn::Zero(d), hn::Zero(d)};
      if (known_width || !t.counts || t.counts[s]) {
        slope = part.load(d, t.dy + s * t.dy_row + i);
        if (t.silu) {
          const auto v = load_pair(d, g[k + old]);
          slope.a = hn::Mul(slope.a, silu_derivative_as<T>(d, v.a));
          slope.b = hn::Mul(slope.b, silu_derivative_as<T>(d, v.b));
        }
      }
      if (more) {
        fetch_pair(t.dy + (s + later) * t.dy_row + at);
        fetch_pair_to_write(t.dx + (s + later - old) * t.dx_row + at);
      }
      store_pair(slope, d, g[k + old]);
      dbias = {hn::Add(dbias.a, slope.a), hn::Add(dbias.b, slope.b)};
    }
    store_pair(dbias, d, kept.dbias + i);
    P sum[conv_widest];
    for_taps<known_width>(width, [&](index_t w) HWY_ATTR {
      sum[w] = load_pair(d, kept.dweight[w] + i);
      if (w < old) store_pair(load_pair(d, g[n + w]), d, kept.g[w] + i);
    });
    for (index_t k = 0; k < n; ++k) {
      const auto now = load_pair(d, g[k + old]);
      for_taps<known_width>(width, [&](index_t w) HWY_ATTR {
        if (known_width || counted(t, from + k, w))
          sum[w] = times_add(now, load_pair(d, x[k + w]), sum[w]);
      });
    }
    for_taps<known_width>(width,
                          [&](index_t w) HWY_ATTR { store_pair(sum[w], d, kept.dweight[w] + i); });
    // Tokens k, k + 1, ... of g meet input k of x by the last tap, the one before it, ...
    const index_t last = to == t.length ? n + old : n;
    for (index_t k = 0; k < last; ++k) {
      const index_t input = from + k;
      P dx{hn::Zero(d), hn::Zero(d)};
      if (known_width && input >= old && k < n) {
        for_taps<known_width>(width, [&](index_t w) HWY_ATTR {
          dx = times_add(load_pair(d, g[k + w]), weight[old - w], dx);
        });
      } else {
        for (index_t w = 0; w < width; ++w) {
          const index_t s = input - old + w;
          if (s >= 0 && s < t.length && counted(t, s, old - w))
            dx = times_add(load_pair(d, g[k + w]), weight[old - w], dx);
        }
      }
      if (t.dlast && input >= t.length) {
        const auto v = part.load(d, t.dlast + (input - t.length) * t.pitch + i);
        dx = {hn::Add(dx.a, v.a), hn::Add(dx.b, v.b)};
      }
      if (input >= old) {
        part.store(dx, d, t.dx + (input - old) * t.dx_row + i);
      } else if (t.dbefore) {
        part.store(dx, d, t.dbefore + input * t.pitch + i);
      }
    }
  }
  static void backward(const conv_backward_task<T>& t) {
    sums kept;
    const index_t padded = (t.channels + step - 1) / step * step;
    for (index_t w = 0; w < t.width; ++w) {
      std::fill_n(kept.dweight[w], padded, A(0));
      std::fill_n(w < t.width - 1 ? kept.g[w] : kept.dbias, padded, A(0));
    }
    for (index_t from = 0; from == 0 || from < t.length; from += tokens) {
      const index_t to = std::min(t.length, from + tokens);
      for_each_pair(D(), t.channels, [&](auto part, index_t i) HWY_ATTR {
        if (t.width == 4 && !t.counts) {
          walk<4>(t, kept, part, i, from, to);
        } else {
          walk<0>(t, kept, part, i, from, to);
        }
      });
    }
    for (index_t w = 0; w < t.width; ++w)
      in_order_of_channels<T>(kept.dweight[w], t.channels, t.dweight + w * t.pitch);
    in_order_of_channels<T>(kept.dbias, t.channels, t.dbias);
  }
};

template <class T>
conv_entries<T> kernels_for(wanted<conv_entries<T>>) {
  return {&conv_ops<T>::pack, &conv_ops<T>::forward};
}
template <class T>
conv_backward_entries<T> kernels_for(wanted<conv_backward_entries<T>>) {
  return {&conv_ops<T>::backward};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
