// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One way to time every op: checked once against the reference, beside a copy of the same bytes.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "mlmamba/mlmamba.hpp"
#include "mlmamba/verify/op_case.hpp"
#include "probes.hpp"

namespace bench {

/// Times of one thing; the median is what neighbours disturb least.
class times {
 public:
  void add(double s) { all_.push_back(s); }
  double median() const {
    std::vector<double> s = all_;
    std::sort(s.begin(), s.end());
    return s.empty() ? 0 : (s[(s.size() - 1) / 2] + s[s.size() / 2]) / 2;
  }

 private:
  std::vector<double> all_;
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

/// What a check says is kept per set of `axes` arguments (and what else `key` has, where one
/// function measures several things): a benchmark function is called for every repetition, and the
/// reference may take seconds.
template <class F>
verify::difference once(const benchmark::State& state, int axes, F check,
                        std::vector<std::int64_t> key = {}) {
  static std::map<std::vector<std::int64_t>, verify::difference> done;
  for (int i = 0; i < axes; ++i) key.push_back(state.range(std::size_t(i)));
  const auto at = done.find(key);
  return at != done.end() ? at->second : done.emplace(key, check()).first->second;
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

/// Where operands are when an op begins: `warm`, where the iteration before left them (a copy and
/// the rivals ran since then), or `cold`, in memory.
enum class cache : bool { warm, cold };

/// Times an op (register with UseManualTime). `check` says whether it is right: without that there
/// is no time. Medians of all iterations: GB/s of op.bytes(), GFLOP/s of op.flops(), the fraction
/// of a copy of the same bytes, and rivals.
template <class Context, class Op, class... F>
void time(benchmark::State& state, Context& ctx, const Op& op, const verify::difference& check,
          cache operands, rival<F>... rivals) {
  if (!check.ok) {
    state.SkipWithError(("wrong: " + check.where).c_str());
    return;
  }
  same_copy copy(op.bytes());
  times own, copied, others[sizeof...(F) + 1];
  auto begin = [&] {
    if (operands == cache::cold) evict(ctx);
  };
  for (int warm = 0; warm < 2; ++warm) run(ctx, op);
  copy.seconds(ctx);
  (rivals.run(), ...);
  for (auto _ : state) {
    begin();
    const double t = seconds_of(ctx, [&] { run(ctx, op); });
    state.SetIterationTime(t);
    own.add(t);
    begin();
    copied.add(copy.seconds(ctx));
    std::size_t k = 0;
    ((begin(), others[k++].add(seconds_of(ctx, rivals.run))), ...);
  }
  const double t = std::max(own.median(), 1e-12);
  state.counters["GB/s"] = op.bytes() * 1e-9 / t;
  state.counters["GFLOP/s"] = op.flops() * 1e-9 / t;
  state.counters["MB"] = op.bytes() * 1e-6;
  state.counters["of copy"] = copied.median() / t;
  std::size_t k = 0;
  ((state.counters[std::string("of ") + rivals.name] = others[k++].median() / t), ...);
}
template <class Context, class Op, class... F>
void time(benchmark::State& state, Context& ctx, const Op& op, const verify::difference& check,
          rival<F>... rivals) {
  time(state, ctx, op, check, cache::warm, std::move(rivals)...);
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
