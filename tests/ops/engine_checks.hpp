// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What every backend is asked: equal to the reference in double? The same bits with any number of
// threads, and for a row of a batch that is alone?
#pragma once

#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

/// Compares Case<E> with Case<exact> over all options, on fresh memory each.
template <template <class> class Case, engine E, class Options>
void check_all(const std::vector<Options>& all) {
  context_of<E> ctx;
  for (std::size_t k = 0; k < all.size(); ++k) {
    const difference d = compare<Case, E>(ctx, 100 + k, all[k]);
    CHECK_MESSAGE(d.ok, "options ", k, ", seed ", 100 + k, ": ", d.where, "; off by ", d.relative,
                  ", allowed is ", d.tolerance);
  }
}

/// The first `count` results of a case that was done in parts are those of the whole.
template <class Case>
void check_parts(Case& parts, Case& whole, std::size_t count, const std::string& how) {
  auto got = results(parts), want = results(whole);
  got.resize(count), want.resize(count);
  const difference d =
      compare_arrays(got, want, tolerance<typename Case::engine_type>(whole.terms()));
  CHECK_MESSAGE(d.ok, how, ": ", d.where, "; off by ", d.relative, ", allowed is ", d.tolerance);
}

#if !defined(__CUDACC__)
/// Equal bits with 1, 2 and 3 threads.
template <template <class> class Case, engine E, class Options>
void check_threads(const std::vector<Options>& all) {
  context_of<E> one{cpu_options{.threads = 1}}, two{cpu_options{.threads = 2}},
      three{cpu_options{.threads = 3}};
  for (std::size_t k = 0; k < all.size(); ++k) {
    CHECK_MESSAGE((same_bits<Case, E>(one, two, k, all[k])), "2 threads, options ", k);
    CHECK_MESSAGE((same_bits<Case, E>(one, three, k, all[k])), "3 threads, options ", k);
  }
}
/// f(level) with the kernels of each level that the machine has, then those of before are back.
template <class F>
void for_each_cpu_level(const F& f) {
  using namespace backend::simd;
  struct kept {
    cpu_level level = current_cpu_level();
    ~kept() { limit_cpu_level(level); }
  } before;
  for (int l = 0; l < cpu_levels; ++l) {
    limit_cpu_level(cpu_level(l));
    if (current_cpu_level() == cpu_level(l)) f(cpu_level(l));
  }
}
/// What the machine's best instructions make equal to the reference, lesser ones do too.
template <template <class> class Case, engine E, class Options>
void check_levels(const std::vector<Options>& all) {
  for_each_cpu_level([&](backend::simd::cpu_level) { check_all<Case, E>(all); });
}
#endif

/// Runs Case<E>(whole) and, for each `b` below `batch`, Case<E>(one(b)) on element b of every input
/// and output gradient that is larger in `whole` (arrays of equal size are shared). True if those
/// of the results that are larger in `whole` have equal bits in both.
template <template <class> class Case, engine E, class Options, class One>
bool alone_is_the_same(context_of<E>& ctx, std::uint64_t seed, index_t batch, const Options& whole,
                       const One& one) {
  Case<E> many(whole), same(whole);
  randomise(many, same, seed);
  run_case(many, ctx);
  std::vector<std::vector<double>> given, got;
  Case<E>::inputs(many, [&](const char*, auto& t, auto& dt, range = range::normal) {
    given.push_back(detail::read(t));
    if (has_backward<Case<E>>) got.push_back(detail::read(dt));
  });
  Case<E>::outputs(many, [&](const char*, auto& t, auto& dt) {
    given.push_back(detail::read(dt));
    got.push_back(detail::read(t));
  });
  auto part = [&](const std::vector<double>& v, std::size_t n, index_t b) {
    return v.size() == n ? v
                         : std::vector<double>(v.begin() + std::ptrdiff_t(n * std::size_t(b)),
                                               v.begin() + std::ptrdiff_t(n * std::size_t(b + 1)));
  };
  for (index_t b = 0; b < batch; ++b) {
    Case<E> single(one(b));
    std::size_t k = 0;
    auto give = [&](auto& t) {
      if (t) detail::write(t, part(given[k], std::size_t(t.count()), b));
      ++k;
    };
    Case<E>::inputs(single, [&](const char*, auto& t, auto&, range = range::normal) { give(t); });
    Case<E>::outputs(single, [&](const char*, auto&, auto& dt) { give(dt); });
    run_case(single, ctx);
    bool equal = true;
    k = 0;
    auto look = [&](auto& t) {
      const std::vector<double> v = detail::read(t);
      if (v.size() != got[k].size()) equal = equal && v == part(got[k], v.size(), b);
      ++k;
    };
    Case<E>::inputs(single, [&](const char*, auto&, auto& dt, range = range::normal) {
      if (has_backward<Case<E>>) look(dt);
    });
    Case<E>::outputs(single, [&](const char*, auto& t, auto&) { look(t); });
    if (!equal) return false;
  }
  return true;
}

/// The same for each element of the batch. `size` is the member of the options that counts them; a
/// member `first`, if there is one, tells a case which of them it is.
template <template <class> class Case, engine E, class Options>
bool elements_are_the_same_alone(context_of<E>& ctx, std::uint64_t seed, const Options& o,
                                 index_t Options::*size) {
  return alone_is_the_same<Case, E>(ctx, seed, o.*size, o, [&](index_t b) {
    Options one = o;
    one.*size = 1;
    if constexpr (requires { one.first; }) one.first = b;
    return one;
  });
}
/// The bits of every element of the batch are those that it has alone.
template <template <class> class Case, engine E, class Options>
void check_alone(const std::vector<Options>& all, index_t Options::*size) {
  context_of<E> ctx;
  for (std::size_t k = 0; k < all.size(); ++k)
    CHECK_MESSAGE((elements_are_the_same_alone<Case, E>(ctx, 200 + k, all[k], size)), "options ",
                  k);
}

/// A scan and its step on an engine that stores states in bf16.
template <template <class> class Whole, template <class> class Step, engine E, class Options>
void check_narrow_states(const std::vector<Options>& all) {
  check_all<Whole, E>(all);
  check_all<Step, E>(all);
  check_alone<Whole, E>(all, &Options::batch);
  check_alone<Step, E>(all, &Options::batch);
#if !defined(__CUDACC__)
  check_threads<Whole, E>(all);
  check_threads<Step, E>(all);
  check_levels<Step, E>(all);
#endif
}

}  // namespace mlmamba::verify
