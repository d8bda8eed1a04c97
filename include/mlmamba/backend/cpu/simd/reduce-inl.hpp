// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Reduction kernels.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

template <class T>
struct reduce {
  using A = accum_t<T>;
  using D = tag_for<T>;

  static void sum_rows(const T* x, index_t stride, index_t rows, A* y, index_t n) {
    const D d;
    const index_t step = lanes(d);
    index_t j = 0;
    for (; j + 4 * step <= n; j += 4 * step) {  // four vectors: whole cache lines of bf16 too
      auto s0 = hn::LoadU(d, y + j), s1 = hn::LoadU(d, y + j + step);
      auto s2 = hn::LoadU(d, y + j + 2 * step), s3 = hn::LoadU(d, y + j + 3 * step);
      for (index_t t = 0; t < rows; ++t) {
        const T* row = x + t * stride + j;
        s0 = hn::Add(s0, load(d, row));
        s1 = hn::Add(s1, load(d, row + step));
        s2 = hn::Add(s2, load(d, row + 2 * step));
        s3 = hn::Add(s3, load(d, row + 3 * step));
      }
      hn::StoreU(s0, d, y + j);
      hn::StoreU(s1, d, y + j + step);
      hn::StoreU(s2, d, y + j + 2 * step);
      hn::StoreU(s3, d, y + j + 3 * step);
    }
    for_each_vector(d, n - j, [&](auto part, index_t i) HWY_ATTR {
      auto s = part.load(d, y + j + i);
      for (index_t t = 0; t < rows; ++t) s = hn::Add(s, part.load(d, x + t * stride + j + i));
      part.store(s, d, y + j + i);
    });
  }

  static index_t argmax(const T* x, index_t n) {
    const D d;
    const index_t step = lanes(d);
    auto most = hn::Set(d, -std::numeric_limits<A>::infinity());
    index_t i = 0;
    for (; i + step <= n; i += step) {  // not Max: what it makes of NaN depends on the target
      const auto v = load(d, x + i);
      most = hn::IfThenElse(hn::Lt(most, v), v, most);
    }
    // Not MaxOfLanes: in Highway 1.0.3's emulated vectors it is above -infinity (clang's baseline).
    HWY_ALIGN A each[hn::MaxLanes(D())];
    hn::Store(most, d, each);
    A largest = each[0];
    for (index_t l = 1; l < step; ++l) largest = each[l] > largest ? each[l] : largest;
    for (; i < n; ++i)
      if (A(x[i]) > largest) largest = A(x[i]);
    const auto wanted = hn::Set(d, largest);
    for (i = 0; i + step <= n; i += step)
      if (!hn::AllFalse(d, hn::Eq(load(d, x + i), wanted))) break;
    for (; i < n; ++i)
      if (A(x[i]) == largest) return i;
    return 0;  // all are NaN
  }
};

/// In double, lane by lane, then the lanes.
template <class A>
double sum_squares(const A* x, index_t n) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<A, decltype(d)> narrow;
  const index_t step = lanes(d);
  auto wide = [&](const A* p) HWY_ATTR {
    if constexpr (std::is_same_v<A, float>) {
      return hn::PromoteTo(d, hn::LoadU(narrow, p));
    } else {
      return hn::LoadU(d, p);
    }
  };
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  index_t i = 0;
  for (; i + 2 * step <= n; i += 2 * step) {
    const auto a = wide(x + i), b = wide(x + i + step);
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
  }
  double s = sum_of_lanes(d, hn::Add(s0, s1));
  for (; i < n; ++i) s += double(x[i]) * double(x[i]);
  return s;
}

template <class T>
sum_rows_entries<T> kernels_for(wanted<sum_rows_entries<T>>) {
  return {&reduce<T>::sum_rows};
}
template <class T>
argmax_entries<T> kernels_for(wanted<argmax_entries<T>>) {
  return {&reduce<T>::argmax};
}
template <class A>
sum_squares_entries<A> kernels_for(wanted<sum_squares_entries<A>>) {
  return {&sum_squares<A>};
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
