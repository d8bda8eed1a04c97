// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Causal convolution kernels.
#include <hwy/cache_control.h>

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

  static void pack(const A* weight, index_t row, index_t channels, index_t width, A* to) {
    index_t done = 0;
    if (width % tile_rows == 0) {
      done = channels / tile_rows * tile_rows;
      transpose(weight, row, done, width, to, channels);
    }
    for (index_t w = 0; w < width; ++w)
      for (index_t c = done; c < channels; ++c) to[w * channels + c] = weight[c * row + w];
  }

  // ------------------------------------------------------------ forward

  template <int known_taps>
  HWY_FLATTEN static void row(const conv_rows<T>& r, const T* const* x, const T* ahead, T* y) {
    const D d;
    for_each_vector(d, r.channels, [&](auto part, index_t i) HWY_ATTR {
      auto v = r.bias ? part.load(d, r.bias + i) : hn::Zero(d);
      if (ahead) hwy::Prefetch(ahead + i);
      for_taps<known_taps>(r.taps, [&](index_t w) HWY_ATTR {
        v = hn::MulAdd(part.load(d, r.weight[w] + i), part.load(d, x[w] + i), v);
      });
      if (r.silu) v = hn::Mul(v, sigmoid(d, v));
      part.store(v, d, y + i);
    });
  }
  /// Four tokens of four taps: each input is loaded once, not four times.
  HWY_FLATTEN static void square(const conv_rows<T>& r, const T* x, bool more, T* y) {
    const D d;
    for_each_vector(d, r.channels, [&](auto part, index_t i) HWY_ATTR {
      const auto bias = r.bias ? part.load(d, r.bias + i) : hn::Zero(d);
      V weight[4], in[7];
      HWY_UNROLL(4) for (int w = 0; w < 4; ++w) weight[w] = part.load(d, r.weight[w] + i);
      HWY_UNROLL(7) for (int k = 0; k < 7; ++k) {
        in[k] = part.load(d, x + k * r.x_row + i);
        if (k >= 3 && more) hwy::Prefetch(x + (k + 4) * r.x_row + i);
      }
      HWY_UNROLL(4) for (int t = 0; t < 4; ++t) {
        auto v = bias;
        HWY_UNROLL(4) for (int w = 0; w < 4; ++w) v = hn::MulAdd(weight[w], in[t + w], v);
        if (r.silu) v = hn::Mul(v, sigmoid(d, v));
        part.store(v, d, y + t * r.y_row + i);
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

  /// The channels of one vector. x_at[w] is the input that tap w meets at the current token, dx_at
  /// the gradient of the same so far.
  template <int known_width, class Part>
  HWY_FLATTEN static void walk(const conv_backward_task<T>& t, Part part, index_t i) {
    const D d;
    constexpr int most = known_width ? known_width : int(conv_widest);
    const index_t width = known_width ? known_width : t.width;
    const index_t old = width - 1;
    V x_at[most], dx_at[most], weight[most], dweight[most];
    auto dbias = hn::Zero(d);
    const auto bias = t.bias ? part.load(d, t.bias + i) : dbias;
    for_taps<most>(most, [&](index_t w) HWY_ATTR {
      weight[w] = dweight[w] = dx_at[w] = x_at[w] = hn::Zero(d);
    });
    for_taps<known_width>(width, [&](index_t w) HWY_ATTR {
      weight[w] = part.load(d, t.weight + w * t.pitch + i);
      if (t.before && w > 0) x_at[w] = part.load(d, t.before + (w - 1) * t.pitch + i);
    });
    const auto shift = [&](V* v, V newest) HWY_ATTR {
      for_taps<known_width ? known_width - 1 : 0>(old,
                                                  [&](index_t w) HWY_ATTR { v[w] = v[w + 1]; });
      v[old] = newest;
    };
    for (index_t s = 0; s < t.length; ++s) {
      shift(x_at, part.load(d, t.x + s * t.x_row + i));
      shift(dx_at, hn::Zero(d));
      if (s + 16 < t.length) {
        hwy::Prefetch(t.x + (s + 16) * t.x_row + i);
        hwy::Prefetch(t.dy + (s + 16) * t.dy_row + i);
      }
      const unsigned counts = t.counts ? t.counts[s] : 0xffu;
      if (counts) {
        auto v = bias;
        for_taps<known_width>(width, [&](index_t w) HWY_ATTR {
          if (counts >> w & 1u) v = hn::MulAdd(weight[w], x_at[w], v);
        });
        auto g = part.load(d, t.dy + s * t.dy_row + i);
        if (t.silu) {
          const auto one = hn::Set(d, A(1)), sig = sigmoid(d, v);
          g = hn::Mul(g, hn::Mul(sig, hn::MulAdd(v, hn::Sub(one, sig), one)));
        }
        dbias = hn::Add(dbias, g);
        for_taps<known_width>(width, [&](index_t w) HWY_ATTR {
          if (!(counts >> w & 1u)) return;
          dweight[w] = hn::MulAdd(g, x_at[w], dweight[w]);
          dx_at[w] = hn::MulAdd(g, weight[w], dx_at[w]);
        });
      }
      put(t, part, i, s, dx_at[0]);
    }
    for (index_t k = 0; k < old; ++k) {  // the last inputs
      shift(dx_at, hn::Zero(d));
      const auto last = t.dlast ? part.load(d, t.dlast + k * t.pitch + i) : hn::Zero(d);
      put(t, part, i, t.length + k, hn::Add(dx_at[0], last));
    }
    for_taps<known_width>(
        width, [&](index_t w) HWY_ATTR { part.store(dweight[w], d, t.dweight + w * t.pitch + i); });
    part.store(dbias, d, t.dbias + i);
  }
  /// The gradient of input k of (before, x).
  template <class Part>
  static HWY_INLINE void put(const conv_backward_task<T>& t, Part part, index_t i, index_t k, V g) {
    const D d;
    const index_t old = t.width - 1;
    if (k >= old) {
      part.store(g, d, t.dx + (k - old) * t.dx_row + i);
    } else if (t.dbefore) {
      part.store(g, d, t.dbefore + k * t.pitch + i);
    }
  }
  static void backward(const conv_backward_task<T>& t) {
    for_each_vector(D(), t.channels, [&](auto part, index_t i) HWY_ATTR {
      if (t.width == 4) {
        walk<4>(t, part, i);
      } else {
        walk<0>(t, part, i);
      }
    });
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
