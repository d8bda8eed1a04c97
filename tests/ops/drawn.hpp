// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Cases whose options are drawn at random: the combinations that nobody thought of. A usual run has
// the same few each time; others, and more, by hand, from draw FIRST on:
//
//   MLMAMBA_DRAWS=FIRST:COUNT build/tests/ops_ssd_test --test-case='*drawn*'
#pragma once

#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#include "ops/engine_checks.hpp"

namespace mlmamba::verify {

/// Where options are drawn from.
struct draw {
  random_stream s;

  index_t below(index_t n) { return index_t(s.below(std::uint64_t(n))); }
  bool coin() { return below(2) == 1; }
  template <class T>
  T one_of(std::initializer_list<T> all) {
    return all.begin()[below(index_t(all.size()))];
  }
  /// 1 to `most`, small ones more often; half of them at or next to a multiple of 8, where vectors
  /// and tiles end.
  index_t size(index_t most) {
    index_t n = 1 + below(1 + below(most));
    if (coin()) n = (n + 7) / 8 * 8 + below(3) - 1;
    return std::clamp<index_t>(n, 1, most);
  }
};

/// Draws [first, first + count), `usual` of them unless the environment says otherwise.
struct drawn_range {
  std::uint64_t first = 0, count;
  explicit drawn_range(std::uint64_t usual) : count(usual) {
    const char* wanted = std::getenv("MLMAMBA_DRAWS");
    unsigned long long f = 0, n = 0;
    if (!wanted) return;
    const bool given = std::sscanf(wanted, "%llu:%llu", &f, &n) == 2 && n > 0;
    REQUIRE_MESSAGE(given, "MLMAMBA_DRAWS is \"", wanted, "\"; wanted is FIRST:COUNT");
    first = f, count = n;
  }
};

#if !defined(__CUDACC__)
/// For options(draw) of each draw, with one of the machine's levels: Case<E> is equal to the
/// reference, has equal bits with 2 or 3 threads, and, if `size` is the member that counts the
/// elements of the batch, for each of them alone.
template <template <class> class Case, engine E, class F,
          class Options = std::invoke_result_t<F, draw&>>
void check_drawn(std::uint64_t usual, const F& options, index_t Options::*size = nullptr) {
  using namespace backend::simd;
  std::vector<cpu_level> levels;
  for_each_cpu_level([&](cpu_level l) { levels.push_back(l); });
  context_of<E> one{cpu_options{.threads = 1}}, two{cpu_options{.threads = 2}},
      three{cpu_options{.threads = 3}};
  struct kept {
    cpu_level level = current_cpu_level();
    ~kept() { limit_cpu_level(level); }
  } before;
  const drawn_range range(usual);
  for (std::uint64_t k = range.first; k < range.first + range.count; ++k) {
    draw d{{k, 3, 0}};
    const Options o = options(d);
    const cpu_level level = levels[std::size_t(d.below(index_t(levels.size())))];
    limit_cpu_level(level);
    INFO("draw ", k, ", level ", std::string(to_string(level)));
    // Some of these sums have few terms of which little is left: no measure of a norm.
    const difference off = compare<Case, E, true>(one, k, o);
    CHECK_MESSAGE(off.ok, off.where, "; off by ", off.relative, ", allowed is ", off.tolerance);
    CHECK((same_bits<Case, E>(one, d.coin() ? two : three, k, o)));
    if (size) CHECK((elements_are_the_same_alone<Case, E>(one, k, o, size)));
  }
}
#endif

}  // namespace mlmamba::verify
