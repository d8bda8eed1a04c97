// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What every recurrent mixer is asked: exact gradients, prompts cut anywhere, decoding, states as
// values.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/verify/gradcheck.hpp"

namespace mlmamba::verify {

template <class Module, class... Args>
void check_gradients(shape<3> n, const Args&... args) {
  const gradcheck_result r = gradcheck<Module>(n, args...);
  CHECK(r.checked > 0);
  CHECK_MESSAGE(r.worst < 1e-12, r.where, " is off by ", r.worst);
}

/// Numbers with a seed.
template <engine E, int R>
tensor_of<E, R> random_tensor(shape<R> n, std::uint64_t seed) {
  tensor_of<E, R> t(n);
  random_stream r{seed, 7, 0};
  tensor<typename E::value, R> host(n);
  for (index_t i = 0; i < host.count(); ++i)
    host.data()[i] = typename E::value(real_t<typename E::value>(r.normal()));
  from_host(t.view(), std::as_const(host).view());
  return t;
}
template <class V>
std::vector<double> values(const V& v) {
  std::vector<double> all;
  const auto host = to_host(v);
  for (index_t i = 0; i < host.count(); ++i) all.push_back(double(host.data()[i]));
  return all;
}

/// Every cut of a sequence: prefill of the first tokens, prefill of one more part, then steps, give
/// what forward gives on the whole, within `roundings` times the error of one sum of `terms`.
template <class Mixer>
void check_cuts(const typename Mixer::config_type& c, double terms, index_t batch = 2,
                index_t length = 7, double roundings = 1) {
  using E = typename Mixer::engine_type;
  context_of<E> ctx;
  Mixer m(c);
  nn::initialise(m, {3, 0, 0});
  const auto u = random_tensor<E, 3>({{batch, length, c.d_model}}, 9);
  auto frame = ctx.scratch.make_frame();
  typename Mixer::saved s;
  const array whole{"y", values(m.forward(ctx, u, s))};
  for (index_t first = 0; first <= length; ++first) {
    for (index_t second : {index_t{0}, index_t{1}, (length - first) / 2}) {
      if (first + second > length) continue;
      auto state = m.make_state(batch);
      tensor_of<E, 3> y({batch, length, c.d_model});
      auto part = [&](index_t from, index_t n) {
        return nn::to<typename E::value>(ctx, in<E, 3>(u.view()).slice(1, from, n));
      };
      auto keep = [&](index_t from, in<E, 3> v) {
        nn::assign(ctx, y.view().slice(1, from, v.size[1]), v);
      };
      keep(0, m.prefill(ctx, part(0, first), state));
      keep(first, m.prefill(ctx, part(first, second), state));
      for (index_t t = first + second; t < length; ++t) keep(t, m.step(ctx, part(t, 1), state));
      const difference d =
          compare_arrays({{"y", values(y.view())}}, {whole}, roundings * tolerance<E>(terms));
      CHECK_MESSAGE(d.ok, "cut at ", first, " and ", first + second, ": ", d.where, "; off by ",
                    d.relative, ", allowed is ", d.tolerance);
    }
  }
}

/// A state goes on as its copy does; a row is what it is alone.
template <class Mixer>
void check_state_is_a_value(const typename Mixer::config_type& c) {
  using E = typename Mixer::engine_type;
  context_of<E> ctx;
  Mixer m(c);
  nn::initialise(m, {3, 0, 0});
  const auto u = random_tensor<E, 3>({{2, 5, c.d_model}}, 1);
  const auto next = random_tensor<E, 3>({{2, 1, c.d_model}}, 2);
  auto frame = ctx.scratch.make_frame();
  auto state = m.make_state(2);
  m.prefill(ctx, u, state);
  auto fork = state;
  const auto there = values(m.step(ctx, next, state));
  CHECK(values(m.step(ctx, next, state)) != there);  // the state has moved on
  CHECK(values(m.step(ctx, next, fork)) == there);   // its copy has not
  auto single = m.make_state(1);
  const in<E, 3> row = in<E, 3>(u.view()).slice(0, 1, 1), after = in<E, 3>(next.view());
  m.prefill(ctx, row, single);
  const auto alone = values(m.step(ctx, after.slice(0, 1, 1), single));
  CHECK(std::equal(alone.begin(), alone.end(), there.begin() + c.d_model));
}

}  // namespace mlmamba::verify
