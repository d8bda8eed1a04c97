// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sums and maxima over a row.

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

template <class D>
HWY_INLINE hn::TFromD<D> max_of_lanes(D d, hn::Vec<D> v) {
  return hn::GetLane(hn::MaxOfLanes(d, v));
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
