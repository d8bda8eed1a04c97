// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A backend of one's own: inherit one, replace an op, or wrap them all.
#include <mlmamba/mlmamba.hpp>

#include <chrono>
#include <cstdio>
#include <map>
#include <string>

namespace lab {
using namespace mlmamba;

/// All of the CPU backend, minus what is replaced below.
struct mine : backend::extends<backend::cpu> {};

/// One op of one's own: argument-dependent lookup finds it by the tag, and an exact match wins.
template <class E>
void execute(context<mine>& ctx, const ops::gated<E>& op) {
  ctx.parallel_for(op.y.size[0], [&](index_t t) {
    for (index_t d = 0; d < op.y.size[1]; ++d)
      op.y(t, d) = apply_activation(op.activation, op.gate(t, d)) * op.up(t, d);
  });
  std::printf("my gated: %s\n", to_string(op.y).c_str());
}

/// Every op, timed: a profiler in ten lines.
struct traced : backend::extends<backend::cpu> {};
inline std::map<std::string, double> seconds;

template <class Op>
void execute(context<traced>& ctx, const Op& op) {
  const auto start = std::chrono::steady_clock::now();
  execute(static_cast<context<backend::cpu>&>(ctx), op);
  seconds[Op::name] +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
}  // namespace lab

using namespace mlmamba;

/// Two ops, on any engine: nothing here knows a backend.
template <engine E>
float work(context_of<E>& ctx) {
  tensor_of<E, 2> x({200, 300}), w({100, 300}), y({200, 100}), z({200, 100});
  random_stream r{1};
  for (index_t i = 0; i < x.count(); ++i) x.data()[i] = float(r.normal());
  for (index_t i = 0; i < w.count(); ++i) w.data()[i] = float(r.normal());
  run(ctx, ops::gemm<E>{.x = x, .w = w, .y = y});
  run(ctx, ops::gated<E>{.gate = y, .up = y, .y = z});
  return z(3, 5);
}

int main() {
  context<backend::cpu> plain;
  context<lab::mine> mine;
  context<lab::traced> traced;
  const float want = work<cpu_f32>(plain);
  const float got = work<on<lab::mine, float>>(mine);
  const float same = work<on<lab::traced, float>>(traced);
  for (const auto& [name, s] : lab::seconds) std::printf("%-8s %8.1f us\n", name.c_str(), s * 1e6);
  std::printf("cpu %g, mine %g, traced %g\n", want, got, same);
  return same == want && std::abs(got - want) < 1e-4f * std::abs(want) ? 0 : 1;
}
