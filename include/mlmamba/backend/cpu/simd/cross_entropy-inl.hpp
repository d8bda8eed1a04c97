// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Kernels of the softmax over a row of logits.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T>
struct softmax_rows {
  using A = accum_t<T>;
  using D = tag_for<T>;

  static A largest(const T* x, index_t n) {
    const D d;
    const auto lowest = hn::Set(d, -std::numeric_limits<A>::infinity());
    auto m0 = lowest, m1 = lowest;
    const index_t step = lanes(d);
    index_t i = 0;
    for (; i + 2 * step <= n; i += 2 * step) {
      m0 = hn::Max(m0, load(d, x + i));
      m1 = hn::Max(m1, load(d, x + i + step));
    }
    for (; i + step <= n; i += step) m0 = hn::Max(m0, load(d, x + i));
    if (i < n) m1 = hn::Max(m1, first_or(d, load_n(d, x + i, n - i), n - i, lowest));
    return max_of_lanes(d, hn::Max(m0, m1));
  }
  static A sum_exp(const T* x, A top, index_t n) {
    const D d;
    const auto t = hn::Set(d, top);
    return sum_of_vectors(d, n, [&](auto part, index_t i) HWY_ATTR {
      return exp(d, hn::Sub(part.load(d, x + i), t));
    });
  }
  static void scaled_exp(const T* x, A top, A factor, T* y, index_t n) {
    const D d;
    const auto t = hn::Set(d, top), f = hn::Set(d, factor);
    for_each_vector(d, n, [&](auto part, index_t i) HWY_ATTR {
      part.store(hn::Mul(exp(d, hn::Sub(part.load(d, x + i), t)), f), d, y + i);
    });
  }
};

template <class T>
cross_entropy_entries<T> kernels_for(wanted<cross_entropy_entries<T>>) {
  return {&softmax_rows<T>::largest, &softmax_rows<T>::sum_exp, &softmax_rows<T>::scaled_exp};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
