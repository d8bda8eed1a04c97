// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How tasks are cut and where they keep what they compute with.
#pragma once

#include <algorithm>
#include <atomic>

#include "mlmamba/core/context.hpp"

namespace mlmamba::backend::detail {

/// Starts to read so many bytes into a cache.
inline void fetch([[maybe_unused]] const void* from, [[maybe_unused]] index_t bytes) {
#if defined(__GNUC__)
  for (index_t i = 0; i < bytes; i += 64)
    __builtin_prefetch(static_cast<const char*>(from) + i, 0, 2);
  asm volatile("");  // GCC drops calls of functions that do nothing but fetch
#endif
}

/// [0, n) in runs that shrink: a round gives each thread an equal part of half of what is left, the
/// last one of all. Threads that are not equally fast end together, and yet few runs are short.
struct shrinking_runs {
  index_t n = 0, threads = 1, rounds = 0;
  shrinking_runs() = default;
  /// The last runs have about `smallest`.
  shrinking_runs(index_t n_, index_t threads_, index_t smallest)
      : n(n_), threads(std::clamp<index_t>(n_ / smallest, 1, threads_)), rounds(1) {
    while (threads > 1 && (n >> rounds) >= smallest * threads) ++rounds;
  }
  index_t count() const { return threads * rounds; }
  index_t from(index_t run) const {
    const index_t round = run / threads, left = n >> round;
    if (round >= rounds) return n;
    return n - left + run % threads * left / (round + 1 < rounds ? 2 * threads : threads);
  }
};

/// f(from, to) over [0, n) in runs of at least `smallest`, each once.
template <class F>
void for_each_run(context<cpu>& ctx, index_t n, index_t smallest, const F& f) {
  // Four runs a thread even out neighbours that slow one core down.
  const index_t most = 4 * ctx.threads.size();
  const index_t size = std::max<index_t>({smallest, (n + most - 1) / most, 1});
  ctx.parallel_for((n + size - 1) / size,
                   [&](index_t k) { f(k * size, std::min(n, (k + 1) * size)); });
}

/// f(i, scratch) for i in [0, n), scratch being `size` numbers that no other running task has.
template <class A, class F>
void for_each_with_scratch(context<cpu>& ctx, index_t n, index_t size, const F& f) {
  const index_t workers = std::min<index_t>(n, ctx.threads.size());
  if (workers <= 0) return;
  auto frame = ctx.scratch.make_frame();
  const auto scratch = ctx.scratch.template make<A, 2>({{workers, size}});
  std::atomic<index_t> next{0};
  ctx.parallel_for(workers, [&](index_t w) {
    for (index_t i = next++; i < n; i = next++) f(i, scratch.data + w * size);
  });
}

}  // namespace mlmamba::backend::detail
