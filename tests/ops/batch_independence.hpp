// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Does a row of a batch come out the same, bit for bit, when it is alone?
#pragma once

#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

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

}  // namespace mlmamba::verify
