// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Runs every algorithm of a kind at one shape, dtype and number of threads, in turns.
#pragma once

#include <ctime>

#include <algorithm>
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include "mlmamba/io/json.hpp"
#include "probes.hpp"
#include "scan_lab/counters.hpp"
#include "scan_lab/layer.hpp"
#include "scan_lab/problem.hpp"

namespace lab {

struct options {
  std::regex only{"."};
  int rounds = 5;
  double seconds = 0.05;  // of one measurement: short runs are repeated until they take so long
};

/// Seconds that f takes: with one thread those that the thread ran, so that neighbours don't count;
/// else those that passed.
template <class Context, class F>
double seconds_of(Context& ctx, const F& f) {
#if defined(__linux__)
  if (ctx.threads.size() == 1) {
    const auto now = [] {
      timespec t{};
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
      return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
    };
    const double from = now();
    f();
    return now() - from;
  }
#endif
  return bench::seconds_of(ctx, f);
}

inline double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : (v[(v.size() - 1) / 2] + v[v.size() / 2]) / 2;
}

/// Appends one row per algorithm and cache state. In each round all algorithms, a copy of the same
/// bytes, multiply-adds and the rest of the layer take turns, so that what disturbs the machine
/// disturbs all of them; rows have medians of the rounds, and the best of the multiply-adds.
template <class Kind, class E>
void measure(const sizes& s, int threads, const options& o, json& rows) {
  const std::string shape = shape_name<Kind>(s), name = family<Kind>::name;
  const char* const dtype = std::is_same_v<E, cpu_bf16> ? "bf16" : "f32";
  struct entry {
    const algorithm<Kind>* what = nullptr;
    double error = 0;
    std::vector<double> warm, cold;
    counters::values events{};
    long runs = 0;  // that `events` are of
  };
  std::vector<entry> entries;
  for (const auto& a : algorithms<Kind>())
    if (a.template in<E>() && std::regex_search(name + '/' + a.name, o.only))
      entries.emplace_back().what = &a;
  if (entries.empty()) return;
  counters events;  // before the threads, which it then counts too
  context_of<E> ctx(cpu_options{threads});
  problem<Kind, E> p(s);
  bench::same_copy copy(p.op().bytes());
  std::unique_ptr<rest_of_layer<E>> rest;
  if (!family<Kind>::backward) rest = std::make_unique<rest_of_layer<E>>(s, family<Kind>::mamba1);
  for (entry& e : entries) {
    p.clear();
    e.what->template in<E>()(ctx, p.op());
    e.error = p.error();
  }
  std::vector<double> copied, copied_cold, rest_time, fma;
  for (int round = 0; round < o.rounds; ++round) {
    fma.push_back(bench::compute_probe<typename E::value>(ctx));
    for (entry& e : entries) {
      const auto once = [&] { e.what->template in<E>()(ctx, p.op()); };
      const double first = seconds_of(ctx, once);
      const long n = std::clamp(long(o.seconds / std::max(first, 1e-9)), 1L, 10000L);
      const auto before = events.read();
      e.warm.push_back(seconds_of(ctx,
                                  [&] {
                                    for (long i = 0; i < n; ++i) once();
                                  }) /
                       double(n));
      const auto after = events.read();
      for (std::size_t i = 0; i < before.size(); ++i) e.events[i] += after[i] - before[i];
      e.runs += n;
      bench::evict(ctx);
      e.cold.push_back(seconds_of(ctx, once));
    }
    copy.seconds(ctx);
    copied.push_back(seconds_of(ctx, [&] { copy.seconds(ctx); }));
    bench::evict(ctx);
    copied_cold.push_back(seconds_of(ctx, [&] { copy.seconds(ctx); }));
    if (rest) rest_time.push_back(((*rest)(ctx), seconds_of(ctx, [&] { (*rest)(ctx); })));
  }
  const double flops = p.op().flops(), bytes = p.op().bytes();
  const double rate = *std::max_element(fma.begin(), fma.end());  // a roof: the best round
  for (const entry& e : entries)
    for (const bool cold : {false, true}) {
      const auto& t = cold ? e.cold : e.warm;
      const double seconds = median(t);
      json r;
      r["kind"] = name, r["name"] = e.what->name, r["shape"] = shape, r["dtype"] = dtype;
      r["tokens"] = s.batch * s.length, r["length"] = s.length, r["threads"] = threads;
      r["cache"] = cold ? "cold" : "warm";
      r["seconds"] = seconds;
      r["error"] = std::isfinite(e.error) ? json(e.error) : json("NaN");  // JSON has no NaN
      r["seconds_min"] = *std::min_element(t.begin(), t.end());
      r["seconds_max"] = *std::max_element(t.begin(), t.end());
      r["flops"] = flops, r["bytes"] = bytes;
      r["roof_flops"] = rate, r["roof_bytes"] = bytes / median(cold ? copied_cold : copied);
      r["of_fma"] = rate > 0 ? flops / seconds / rate : 0.0;
      r["of_copy"] = median(cold ? copied_cold : copied) / seconds;
      if (rest) {
        const double others = median(rest_time);
        r["of_layer"] = seconds / (seconds + others);
        r["layer_speedup_if_free"] = (seconds + others) / others;
      }
      if (!cold && events.why.empty())
        for (std::size_t i = 0; i < e.events.size(); ++i)
          r["counters"][counters::names[i]] = e.events[i] / double(e.runs);
      rows.push_back(std::move(r));
    }
}

}  // namespace lab
