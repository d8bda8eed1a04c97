// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One way to time every op: checked once against the reference, beside a copy of the same bytes.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "mlmamba/mlmamba.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace bench {

using namespace mlmamba;

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds that f takes, with what it started on a device.
template <class Context, class F>
double seconds_of(Context& ctx, F&& f) {
  auto wait = [&] {
    if constexpr (requires { ctx.synchronize(); }) ctx.synchronize();
  };
  wait();
  const double from = seconds();
  f();
  wait();
  return seconds() - from;
}

/// Copies the same number of bytes as an op moves, half of them read and half written, with the
/// threads of a context: what memory lets an op do at best.
class same_copy {
 public:
  explicit same_copy(double bytes) : from_(shape<1>{{index_t(bytes / 2) + 1}}), to_(from_.shape()) {
    std::memset(from_.data(), 1, from_.bytes());
  }
  template <class Context>
  double seconds(Context& ctx) {
    const index_t parts = 64, size = (from_.count() + parts - 1) / parts;
    return seconds_of(ctx, [&] {
      ctx.parallel_for(parts, [&](index_t i) {
        const index_t at = std::min(i * size, from_.count());
        const index_t n = std::min(size, from_.count() - at);
        std::memcpy(to_.data() + at, from_.data() + at, std::size_t(n));
      });
    });
  }

 private:
  tensor<std::uint8_t, 1> from_, to_;
};

/// Is what an op wrote to `outputs` what the reference writes? Runs both; outputs that an op adds
/// to start from what is there. Host memory only; costs what plain loops cost.
template <class Context, class Op, class... Outputs>
verify::difference against_reference(Context& ctx, const Op& op, double tolerance,
                                     Outputs&... outputs) {
  auto results = [&] {
    std::vector<verify::array> r;
    (r.push_back({"output " + std::to_string(r.size()), verify::detail::read(outputs)}), ...);
    return r;
  };
  const auto before = results();
  run(ctx, op);
  const auto got = results();
  std::size_t k = 0;
  (verify::detail::write(outputs, before[k++].values), ...);
  context<backend::reference> plain;
  run(plain, op);
  return verify::compare_arrays(got, results(), tolerance);
}

/// Rivals of an op: what each iteration also times, in turns, so that a noisy machine is noisy for
/// all. The counter `of <name>` is the rival's time over the op's: above 1, the op is faster.
template <class F>
struct rival {
  const char* name;
  F run;
};
template <class F>
rival<F> against(const char* name, F f) {
  return {name, std::move(f)};
}

/// Times an op (register with UseManualTime). `check` says whether it is right: without that there
/// is no time. Reports GB/s of op.bytes(), GFLOP/s of op.flops(), the fraction of a copy of the
/// same bytes, and rivals.
template <class Context, class Op, class... F>
void time(benchmark::State& state, Context& ctx, const Op& op, const verify::difference& check,
          rival<F>... rivals) {
  if (!check.ok) {
    state.SkipWithError(("wrong: " + check.where).c_str());
    return;
  }
  same_copy copy(op.bytes());
  double own = 0, copied = 0, others[sizeof...(F) + 1] = {};
  for (int warm = 0; warm < 2; ++warm) run(ctx, op);
  copy.seconds(ctx);
  (rivals.run(), ...);
  for (auto _ : state) {
    const double t = seconds_of(ctx, [&] { run(ctx, op); });
    state.SetIterationTime(t);
    own += t;
    copied += copy.seconds(ctx);
    std::size_t k = 0;
    ((others[k++] += seconds_of(ctx, rivals.run)), ...);
  }
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(op.bytes() * 1e-9, Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] = Counter(op.flops() * 1e-9, Counter::kIsIterationInvariantRate);
  state.counters["of copy"] = copied / own;
  std::size_t k = 0;
  ((state.counters[std::string("of ") + rivals.name] = others[k++] / own), ...);
}

/// Normal numbers, the same in each run.
template <class Tensor>
void fill_normal(Tensor& t, std::uint64_t seed) {
  random_stream r{seed, 20, 0};
  std::vector<double> v;
  for (index_t i = 0; i < std::min<index_t>(t.count(), 65521); ++i) v.push_back(r.normal());
  using T = typename Tensor::value_type;
  for (index_t i = 0; i < t.count(); ++i) t.data()[i] = T(real_t<T>(v[std::size_t(i) % v.size()]));
}

}  // namespace bench
