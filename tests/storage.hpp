// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How far a whole module may be from the exact answer: measured, not guessed.
#pragma once

#include <cmath>

#include "mlmamba/verify/op_case.hpp"

// Whole modules on few engines: each instantiates them three times.
#if defined(__CUDACC__)
#define MLMAMBA_MODULE_ENGINES mlmamba::cuda_f32, mlmamba::cuda_bf16
#else
#define MLMAMBA_MODULE_ENGINES mlmamba::cpu_f32, mlmamba::cpu_bf16
#endif

namespace mlmamba::verify {

/// Runs a case on E, on plain loops with the same storage types as E, and exactly. Each array of E
/// may be four times as far from the exact one as that of the plain loops, and one rounding more:
/// what storing activations in E's types costs a chain of many ops is theirs alike, and depends on
/// the chain in ways that no formula here would know.
template <template <class> class Case, engine E, class... Args>
difference compare_storage(context_of<E>& ctx, std::uint64_t seed, const Args&... args) {
  using plain = on<backend::reference, typename E::value, typename E::accum, typename E::weight>;
  Case<E> c(args...);
  Case<plain> p(args...);
  Case<exact> x(args...);
  randomise(c, x, seed);
  randomise(c, p, seed);
  context<backend::reference> loops;
  run_case(c, ctx);
  run_case(p, loops);
  run_case(x, loops);
  const auto got = results(c), same = results(p), want = results(x);
  difference d;
  for (std::size_t k = 0; k < got.size(); ++k) {
    double error = 0, theirs = 0, norm = 0;
    const auto &g = got[k].values, &s = same[k].values, &w = want[k].values;
    for (std::size_t i = 0; i < w.size(); ++i) {
      error += (g[i] - w[i]) * (g[i] - w[i]);
      theirs += (s[i] - w[i]) * (s[i] - w[i]);
      norm += w[i] * w[i];
    }
    if (w.empty()) continue;
    const double scale = norm > 0 ? norm : 1;
    const double relative = std::sqrt(error / scale);
    const double allowed = 4 * std::sqrt(theirs / scale) + tolerance<E>(x.terms());
    const bool ok = relative <= allowed;  // NaN never is
    if (!ok || relative / allowed > d.relative / std::max(d.tolerance, 1e-300)) {
      if (d.ok) d.where = want[k].name, d.relative = relative, d.tolerance = allowed;
    }
    d.ok = d.ok && ok;
  }
  return d;
}

}  // namespace mlmamba::verify
