// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A backend that is another one with a stopwatch: where the time of a program goes, op by op.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/context.hpp"

namespace mlmamba {
namespace backend {

/// All ops of `Parent`, timed while `context::tracing` is on. Modules on `on<traced<cpu>, float>`
/// run the same kernels and give the same bits as on `on<cpu, float>`.
template <class Parent>
struct traced : extends<Parent> {};

}  // namespace backend

/// Calls, seconds and work of one kind of op, or of one size of it.
struct op_total {
  long long calls = 0;
  double seconds = 0, flops = 0, bytes = 0;

  void add(double s, double f, double b) {
    ++calls;
    seconds += s;
    flops += f;
    bytes += b;
  }
};

template <class Parent>
struct context<backend::traced<Parent>> : context<Parent> {
  using context<Parent>::context;

  bool tracing = false;
  std::map<std::string, op_total, std::less<>> totals;

  void clear_totals() { totals.clear(); }

  /// While tracing every op is called.
  template <class F>
  bool replay(typename context<Parent>::recording& r, F&& work) {
    if (!tracing) return context<Parent>::replay(r, work);
    work();
    return true;
  }

  /// A table, the slowest first: share of `seconds` (0: of all ops), calls, mean time, rates.
  std::string table(double seconds = 0, std::size_t rows = 40) const {
    std::vector<std::pair<std::string, op_total>> all(totals.begin(), totals.end());
    std::sort(all.begin(), all.end(),
              [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
    op_total sum;
    for (const auto& [name, t] : all) {
      sum.calls += t.calls;
      sum.seconds += t.seconds;
      sum.flops += t.flops;
      sum.bytes += t.bytes;
    }
    std::string out;
    char line[160];
    std::snprintf(line, sizeof line, "%-44s %7s %9s %10s %9s %8s\n", "op", "share", "calls",
                  "mean us", "GFLOP/s", "GB/s");
    out += line;
    const double whole = seconds > 0 ? seconds : sum.seconds;
    const auto row = [&](const std::string& name, const op_total& t) {
      const double s = std::max(t.seconds, 1e-12);
      std::snprintf(line, sizeof line, "%-44s %6.2f%% %9lld %10.1f %9.2f %8.2f\n", name.c_str(),
                    100 * t.seconds / std::max(whole, 1e-12), t.calls,
                    1e6 * t.seconds / double(std::max(1LL, t.calls)), 1e-9 * t.flops / s,
                    1e-9 * t.bytes / s);
      out += line;
    };
    for (std::size_t i = 0; i < all.size() && i < rows; ++i) row(all[i].first, all[i].second);
    row("all ops", sum);
    return out;
  }
};

namespace detail {
/// The name of an op, and for products their size: "gemm 512x768x96".
template <class Op>
std::string trace_name(const Op& op) {
  if constexpr (requires { op.x.size[1], op.w.size[0], op.accumulate; }) {
    return std::string(Op::name) + ' ' + std::to_string(op.x.size[0]) + 'x' +
           std::to_string(op.x.size[1]) + 'x' + std::to_string(op.w.size[0]);
  } else if constexpr (requires { op.x.size[1], op.rows(); }) {
    return std::string(Op::name) + ' ' + std::to_string(op.x.size[0]) + 'x' +
           std::to_string(op.x.size[1]) + 'x' + std::to_string(op.rows());
  } else {
    return Op::name;
  }
}
}  // namespace detail

namespace backend {
template <class Parent, class Op>
requires implements<Parent, Op>
void execute(context<traced<Parent>>& ctx, const Op& op) {
  context<Parent>& inner = ctx;
  if (!ctx.tracing) return execute(inner, op);
  const auto wait = [&] {  // where ops are enqueued and return at once
    if constexpr (requires { inner.synchronize(); }) inner.synchronize();
  };
  wait();
  const auto begin = std::chrono::steady_clock::now();
  execute(inner, op);
  wait();
  const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  ctx.totals[mlmamba::detail::trace_name(op)].add(s, op.flops(), op.bytes());
}
}  // namespace backend

}  // namespace mlmamba
