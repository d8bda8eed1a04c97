// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Kernels on grids of tokens: channels in vectors.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T>
struct grids {
  using A = accum_t<T>;
  using D = tag_for<T>;

  static void window(const T* x, index_t row_step, index_t rows, index_t column_step,
                     index_t columns, const A* row_weight, const A* column_weight, A divisor, T* y,
                     index_t n) {
    const D d;
    for_each_vector(d, n, [&](auto part, index_t c) HWY_ATTR {
      auto sum = hn::Zero(d);
      for (index_t i = 0; i < rows; ++i)
        for (index_t j = 0; j < columns; ++j) {
          const auto v = part.load(d, x + i * row_step + j * column_step + c);
          const A w = row_weight ? row_weight[i] * column_weight[j] : A(1);
          sum = hn::MulAdd(hn::Set(d, w), v, sum);
        }
      part.store(hn::Div(sum, hn::Set(d, divisor)), d, y + c);
    });
  }

  static void stencil(const T* const* taps, const A* weight, index_t weight_row, const A* bias,
                      T* y, index_t n) {
    const D d;
    for_each_vector(d, n, [&](auto part, index_t c) HWY_ATTR {
      auto sum = bias ? part.load(d, bias + c) : hn::Zero(d);
      for (index_t k = 0; k < 9; ++k)
        if (taps[k])
          sum =
              hn::MulAdd(part.load(d, weight + k * weight_row + c), part.load(d, taps[k] + c), sum);
      part.store(sum, d, y + c);
    });
  }

  // dweight[u,v] = sum dy[i,j] x[i+u-1, j+v-1]: three sums in registers per walk over the rows
  // that meet.
  static void stencil_gradient(const stencil_walk<T>& o, index_t n) {
    const D d;
    for_each_vector(d, n, [&](auto part, index_t c) HWY_ATTR {
      for (index_t u = 0; u < 3 && o.dweight; ++u) {
        auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d);
        for (index_t b = 0; b < o.batch; ++b)
          for (index_t i = 0; i < o.rows; ++i) {
            if (i + u < 1 || i + u > o.rows) continue;
            const T* dy = o.dy + b * o.dy_batch + i * o.columns * o.dy_token + c;
            const T* x = o.x + b * o.x_batch + (i + u - 1) * o.columns * o.x_token + c;
            for (index_t j = 0; j < o.columns; ++j, dy += o.dy_token, x += o.x_token) {
              const auto g = part.load(d, dy);
              if (j > 0) s0 = hn::MulAdd(g, part.load(d, x - o.x_token), s0);
              s1 = hn::MulAdd(g, part.load(d, x), s1);
              if (j + 1 < o.columns) s2 = hn::MulAdd(g, part.load(d, x + o.x_token), s2);
            }
          }
        A* to = o.dweight + 3 * u * o.dweight_row + c;
        part.store(s0, d, to);
        part.store(s1, d, to + o.dweight_row);
        part.store(s2, d, to + 2 * o.dweight_row);
      }
      if (!o.dbias) return;
      auto s = hn::Zero(d);
      for (index_t b = 0; b < o.batch; ++b)
        for (index_t k = 0; k < o.rows * o.columns; ++k)
          s = hn::Add(s, part.load(d, o.dy + b * o.dy_batch + k * o.dy_token + c));
      part.store(s, d, o.dbias + c);
    });
  }
};

template <class T>
grid_entries<T> kernels_for(wanted<grid_entries<T>>) {
  return {&grids<T>::window, &grids<T>::stencil};
}
template <class T>
grid_backward_entries<T> kernels_for(wanted<grid_backward_entries<T>>) {
  return {&grids<T>::stencil_gradient};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
