// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sums and maxima over a row; pairs of vectors.

#include <hwy/cache_control.h>

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

/// Starts to read what the next row needs while this one is computed: otherwise a row's passes and
/// the memory take turns.
template <class T>
HWY_INLINE void fetch(const T* p) {
  hwy::Prefetch(p);
}
/// The same for what will be written: else each line of a stream of stores waits for the memory.
template <class T>
HWY_INLINE void fetch_to_write([[maybe_unused]] T* p) {
#if HWY_COMPILER_GCC || HWY_COMPILER_CLANG
  __builtin_prefetch(p, 1);
#endif
}

/// v with all lanes from n on set to `rest`; n may be outside [0, lanes].
template <class D>
HWY_INLINE hn::Vec<D> first_or(D d, hn::Vec<D> v, index_t n, hn::Vec<D> rest) {
  if (n >= lanes(d)) return v;
  if (n <= 0) return rest;
  return hn::IfThenElse(hn::FirstN(d, std::size_t(n)), v, rest);
}
/// The sum of term(part, i) over all vectors of n elements, in an order that depends on n and the
/// target only. Four sums hide the latency of the addition.
template <class D, class Term>
HWY_INLINE hn::TFromD<D> sum_of_vectors(D d, index_t n, const Term& term) {
  const index_t step = lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  index_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    s0 = hn::Add(s0, term(all_lanes{}, i));
    s1 = hn::Add(s1, term(all_lanes{}, i + step));
    s2 = hn::Add(s2, term(all_lanes{}, i + 2 * step));
    s3 = hn::Add(s3, term(all_lanes{}, i + 3 * step));
  }
  for (; i + step <= n; i += step) s0 = hn::Add(s0, term(all_lanes{}, i));
  if (i < n) s1 = hn::Add(s1, first_or(d, term(first_lanes{n - i}, i), n - i, hn::Zero(d)));
  return sum_of_lanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

// ------------------------------------------------------------ pairs

/// Two vectors of neighbours. Of bf16 they are the even and the odd elements, which takes half the
/// work of widening and rounding; of others, the first and the second half.
template <class V>
struct pair {
  V a, b;
};

template <class D>
HWY_INLINE pair<hn::Vec<D>> load_pair(D d, const hn::TFromD<D>* p) {
  return {hn::LoadU(d, p), hn::LoadU(d, p + lanes(d))};
}
template <class D>
HWY_INLINE void store_pair(const pair<hn::Vec<D>>& v, D d, hn::TFromD<D>* p) {
  hn::StoreU(v.a, d, p), hn::StoreU(v.b, d, p + lanes(d));
}
/// Two vectors of neighbours, of bf16 too.
template <class D, class T>
HWY_INLINE pair<hn::Vec<D>> load_neighbours(D d, const T* p) {
  return {load(d, p), load(d, p + lanes(d))};
}

/// v, but a NaN is one that store_pair keeps: its lower half is zero.
template <class T, class D>
HWY_INLINE hn::Vec<D> with_short_nan(D d, hn::Vec<D> v) {
  if constexpr (std::is_same_v<T, bf16>)
    return hn::IfThenElse(hn::Eq(v, v), v, hn::Set(d, std::numeric_limits<float>::quiet_NaN()));
  return v;
}
/// store_pair is for results of arithmetic on bf16 and on what with_short_nan gave: a NaN passes on
/// the lower half of another one, or has none, and rounding does not carry into its sign.
#if HWY_TARGET == HWY_SCALAR
template <class D>
HWY_INLINE pair<hn::Vec<D>> load_pair(D d, const bf16* p) {
  return {load(d, p), load(d, p + 1)};
}
template <class D>
HWY_INLINE void store_pair(const pair<hn::Vec<D>>& v, D d, bf16* p) {
  store(v.a, d, p), store(v.b, d, p + 1);
}
#else
template <class D>
HWY_INLINE pair<hn::Vec<D>> even_and_odd(D d, hn::Vec<hn::Repartition<std::uint16_t, D>> v) {
  const hn::Rebind<std::uint32_t, D> u32;
  const auto bits = hn::BitCast(u32, v);
  return {hn::BitCast(d, hn::ShiftLeft<16>(bits)),
          hn::BitCast(d, hn::And(bits, hn::Set(u32, 0xffff0000u)))};
}
template <class D>
HWY_INLINE hn::Vec<hn::Repartition<std::uint16_t, D>> round_pair(D d, const pair<hn::Vec<D>>& v) {
  const hn::Repartition<std::uint16_t, D> u16;
  const auto even = hn::BitCast(u16, hn::ShiftRight<16>(bf16_in_top(d, v.a)));
  return hn::OddEven(hn::BitCast(u16, bf16_in_top(d, v.b)), even);
}
template <class D>
HWY_INLINE pair<hn::Vec<D>> load_pair(D d, const bf16* p) {
  const hn::Repartition<std::uint16_t, D> u16;
  return even_and_odd(d, hn::LoadU(u16, reinterpret_cast<const std::uint16_t*>(p)));
}
template <class D>
HWY_INLINE void store_pair(const pair<hn::Vec<D>>& v, D d, bf16* p) {
  const hn::Repartition<std::uint16_t, D> u16;
  hn::StoreU(round_pair(d, v), u16, reinterpret_cast<std::uint16_t*>(p));
}
#endif

/// Starts to read a pair, or to get the lines to write one to.
template <class T>
HWY_INLINE void fetch_pair(const T* p) {
  fetch(p);
  if (sizeof(T) > 2) fetch(p + hn::MaxLanes(tag_for<T>()));
}
template <class T>
HWY_INLINE void fetch_pair_to_write(T* p) {
  fetch_to_write(p);
  if (sizeof(T) > 2) fetch_to_write(p + hn::MaxLanes(tag_for<T>()));
}

/// What a loop over pairs loads and stores through: both vectors, or their first n elements.
struct all_of_pair {
  template <class D, class T>
  HWY_INLINE pair<hn::Vec<D>> load(D d, const T* p) const {
    return load_pair(d, p);
  }
  template <class D, class T>
  HWY_INLINE pair<hn::Vec<D>> neighbours(D d, const T* p) const {
    return load_neighbours(d, p);
  }
  template <class D, class T>
  HWY_INLINE void store(const pair<hn::Vec<D>>& v, D d, T* p) const {
    store_pair(v, d, p);
  }
};
struct first_of_pair {
  index_t n;
  template <class D, class T>
  HWY_INLINE pair<hn::Vec<D>> load(D d, const T* p) const {
    T all[2 * hn::MaxLanes(D())] = {};
    for (index_t i = 0; i < n; ++i) all[i] = p[i];
    return load_pair(d, all);
  }
  template <class D, class T>
  HWY_INLINE pair<hn::Vec<D>> neighbours(D d, const T* p) const {
    T all[2 * hn::MaxLanes(D())] = {};
    for (index_t i = 0; i < n; ++i) all[i] = p[i];
    return load_neighbours(d, all);
  }
  template <class D, class T>
  HWY_INLINE void store(const pair<hn::Vec<D>>& v, D d, T* p) const {
    T all[2 * hn::MaxLanes(D())];
    store_pair(v, d, all);
    for (index_t i = 0; i < n; ++i) p[i] = all[i];
  }
};
/// As for_each_vector; body(part, i) has part all_of_pair or first_of_pair.
template <class D, class Body>
HWY_INLINE void for_each_pair(D d, index_t n, const Body& body) {
  const index_t step = 2 * lanes(d);
  index_t i = 0;
  for (; i + step <= n; i += step) body(all_of_pair{}, i);
  if (i < n) {
    const first_of_pair rest{n - i};  // a name: nvcc 13.0 cannot write a temporary of it
    body(rest, i);
  }
}

/// The sum of term(part, i) over all pairs, in an order that depends on n and the target only.
/// Terms of elements behind the end must be zero; what is loaded of them is.
template <class D, class Term>
HWY_INLINE hn::TFromD<D> sum_of_pairs(D d, index_t n, const Term& term) {
  auto s = pair<hn::Vec<D>>{hn::Zero(d), hn::Zero(d)};
  for_each_pair(d, n, [&](auto part, index_t i) HWY_ATTR {
    const auto v = term(part, i);
    s = {hn::Add(s.a, v.a), hn::Add(s.b, v.b)};
  });
  return sum_of_lanes(d, hn::Add(s.a, s.b));
}

/// Two vectors of neighbours, as all types but bf16 have them, in the order of a pair of T.
template <class T, class D>
HWY_INLINE pair<hn::Vec<D>> in_order_of([[maybe_unused]] D d, const pair<hn::Vec<D>>& v) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<T, bf16>)
    return {hn::ConcatEven(d, v.b, v.a), hn::ConcatOdd(d, v.b, v.a)};
#endif
  return v;
}
/// The sum over a row, in an order that depends on n, T and the target: add(v, s) is s and what a
/// vector v of the row adds to it. Each body(i) follows the loads of the pair at i.
template <class D, class T, class F, class Body>
HWY_INLINE hn::TFromD<D> sum_of_row(D d, const T* x, index_t n, const F& add, const Body& body) {
  const index_t step = lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  index_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    const auto v = load_pair(d, x + i), w = load_pair(d, x + i + 2 * step);
    body(i), body(i + 2 * step);
    s0 = add(v.a, s0), s1 = add(v.b, s1), s2 = add(w.a, s2), s3 = add(w.b, s3);
  }
  for (; i + step <= n; i += step) s0 = add(load(d, x + i), s0);
  if (i < n) s1 = first_or(d, add(load_n(d, x + i, n - i), s1), n - i, s1);
  return sum_of_lanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}
#if HWY_TARGET == HWY_SCALAR
/// The mean of a row and the mean square of the differences from it, in one walk. A vector is one
/// number here and each sum half the row: in double, which rounds them well enough for that.
template <class D, class T, class Body>
HWY_INLINE void moments_of_row(D, const T* x, index_t n, hn::TFromD<D>& mean, hn::TFromD<D>& square,
                               const Body& body) {
  using A = hn::TFromD<D>;
  const double c = n > 0 ? double(A(x[0])) : 0;
  double s[2] = {0, 0}, q[2] = {0, 0};
  for (index_t i = 0; i < n; ++i) {
    if (i % 2 == 0) body(i);
    const double v = double(A(x[i])) - c;
    s[i % 2] += v, q[i % 2] += v * v;
  }
  const double m = (s[0] + s[1]) / double(n);
  mean = A(c + m);
  square = A(std::max((q[0] + q[1]) / double(n) - m * m, 0.0));  // NaN stays NaN
}
#else
/// The mean of a row and the mean square of the differences from it, in one walk: sums of
/// differences from c, the mean of the row's first sixteenth. That one is at most 4 standard
/// deviations from the mean (n / 16 such differences alone have squares of n variances), so the
/// difference of the squares loses 4 bits at most, and none unless the row begins unlike itself.
template <class D, class T, class Body>
HWY_INLINE void moments_of_row(D d, const T* x, index_t n, hn::TFromD<D>& mean,
                               hn::TFromD<D>& square, const Body& body) {
  using A = hn::TFromD<D>;
  const index_t step = lanes(d), few = std::min(n, (n / 16 + 4 * step - 1) / (4 * step) * 4 * step);
  const auto nothing = [](index_t) {};
  const A c = few == 0
                  ? A(0)
                  : sum_of_row(
                        d, x, few, [](auto v, auto s) HWY_ATTR { return hn::Add(s, v); }, nothing) /
                        A(few);
  const auto from = hn::Set(d, c);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, q0 = s0, q1 = s0, q2 = s0, q3 = s0;
  const auto add = [&](auto v, auto& s, auto& q) HWY_ATTR {
    v = hn::Sub(v, from);
    s = hn::Add(s, v), q = hn::MulAdd(v, v, q);
  };
  index_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    const auto v = load_pair(d, x + i), w = load_pair(d, x + i + 2 * step);
    body(i), body(i + 2 * step);
    add(v.a, s0, q0), add(v.b, s1, q1), add(w.a, s2, q2), add(w.b, s3, q3);
  }
  for (; i + step <= n; i += step) add(load(d, x + i), s0, q0);
  if (i < n) add(first_or(d, load_n(d, x + i, n - i), n - i, from), s1, q1);
  const A s = sum_of_lanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))) / A(n);
  const A q = sum_of_lanes(d, hn::Add(hn::Add(q0, q1), hn::Add(q2, q3))) / A(n);
  mean = c + s;
  square = std::max(q - s * s, A(0));  // NaN stays NaN
}
#endif

/// n numbers, whole pairs, to where load_pair finds those that belong to a pair of elements T, and
/// as store_pair wants them.
template <class T, class A>
void in_order_of_lanes([[maybe_unused]] A* x, [[maybe_unused]] index_t n) {
  const hn::ScalableTag<A> d;
  if (!std::is_same_v<T, bf16>) return;
  for (index_t i = 0; i < n; i += 2 * lanes(d)) {
    const auto v = in_order_of<T>(d, load_pair(d, x + i));
    store_pair({with_short_nan<T>(d, v.a), with_short_nan<T>(d, v.b)}, d, x + i);
  }
}
/// And back: the first n of x.
template <class T, class A>
void in_order_of_channels(const A* x, index_t n, A* to) {
  const hn::ScalableTag<A> d;
  const index_t half = lanes(d);
  if (!std::is_same_v<T, bf16> || half == 1) {
    std::copy_n(x, n, to);
    return;
  }
  index_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; i + 2 * half <= n; i += 2 * half)
    hn::StoreInterleaved2(hn::LoadU(d, x + i), hn::LoadU(d, x + i + half), d, to + i);
#endif
  for (index_t k = 0; i + k < n; ++k) to[i + k] = x[i + k % 2 * half + k / 2];
}

template <class D>
HWY_INLINE hn::TFromD<D> max_of_lanes(D d, hn::Vec<D> v) {
  return hn::GetLane(hn::MaxOfLanes(d, v));
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
