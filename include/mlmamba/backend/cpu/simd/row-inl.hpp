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

/// The same for two sums of one walk: term(part, i, a, b) gives their terms.
template <class D, class Term>
HWY_INLINE void sums_of_vectors(D d, index_t n, const Term& term, hn::TFromD<D>& sum_a,
                                hn::TFromD<D>& sum_b) {
  const index_t step = lanes(d);
  auto a0 = hn::Zero(d), a1 = hn::Zero(d), b0 = hn::Zero(d), b1 = hn::Zero(d), a = a0, b = b0;
  index_t i = 0;
  for (; i + 2 * step <= n; i += 2 * step) {
    term(all_lanes{}, i, a, b);
    a0 = hn::Add(a0, a), b0 = hn::Add(b0, b);
    term(all_lanes{}, i + step, a, b);
    a1 = hn::Add(a1, a), b1 = hn::Add(b1, b);
  }
  for (; i + step <= n; i += step) {
    term(all_lanes{}, i, a, b);
    a0 = hn::Add(a0, a), b0 = hn::Add(b0, b);
  }
  if (i < n) {
    term(first_lanes{n - i}, i, a, b);
    a1 = hn::Add(a1, first_or(d, a, n - i, hn::Zero(d)));
    b1 = hn::Add(b1, first_or(d, b, n - i, hn::Zero(d)));
  }
  sum_a = sum_of_lanes(d, hn::Add(a0, a1));
  sum_b = sum_of_lanes(d, hn::Add(b0, b1));
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
/// store_pair is for results of arithmetic, see bf16_in_top.
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
  const hn::Rebind<std::uint32_t, D> u32;
  const auto even = hn::ShiftRight<16>(bf16_in_top<true>(d, v.a));
  const auto odd = hn::And(bf16_in_top<true>(d, v.b), hn::Set(u32, 0xffff0000u));
  return hn::BitCast(u16, hn::Or(even, odd));
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
HWY_INLINE pair<hn::Vec<D>> in_order_of(D d, const pair<hn::Vec<D>>& v) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<T, bf16>)
    return {hn::ConcatEven(d, v.b, v.a), hn::ConcatOdd(d, v.b, v.a)};
#endif
  return v;
}
/// The sum over a row, in an order that depends on n, T and the target: add(v, s) is s and what a
/// vector v of the row adds to it.
template <class D, class T, class F>
HWY_INLINE hn::TFromD<D> sum_of_row(D d, const T* x, index_t n, const F& add) {
  const index_t step = lanes(d);
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  index_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    const auto v = load_pair(d, x + i), w = load_pair(d, x + i + 2 * step);
    s0 = add(v.a, s0), s1 = add(v.b, s1), s2 = add(w.a, s2), s3 = add(w.b, s3);
  }
  for (; i + step <= n; i += step) s0 = add(load(d, x + i), s0);
  if (i < n) s1 = first_or(d, add(load_n(d, x + i, n - i), s1), n - i, s1);
  return sum_of_lanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

/// n numbers, whole pairs, to where load_pair finds those that belong to a pair of elements T.
template <class T, class A>
void in_order_of_lanes([[maybe_unused]] A* x, [[maybe_unused]] index_t n) {
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<A> d;
  if (!std::is_same_v<T, bf16>) return;
  for (index_t i = 0; i < n; i += 2 * lanes(d)) {
    store_pair(in_order_of<T>(d, load_pair(d, x + i)), d, x + i);
  }
#endif
}
/// And back: the first n of x.
template <class T, class A>
void in_order_of_channels(const A* x, index_t n, A* to) {
  const index_t half = lanes(hn::ScalableTag<A>());
  for (index_t i = 0; i < n; ++i) {
    const index_t k = i % (2 * half);
    to[i] = std::is_same_v<T, bf16> ? x[i - k + k % 2 * half + k / 2] : x[i];
  }
}

template <class D>
HWY_INLINE hn::TFromD<D> max_of_lanes(D d, hn::Vec<D> v) {
  return hn::GetLane(hn::MaxOfLanes(d, v));
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
