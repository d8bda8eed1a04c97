// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tokens, work and time of connectors for one picture.
#pragma once

#include <algorithm>
#include <chrono>
#include <span>
#include <vector>

#include "connector_lab_report.hpp"
#include "mlmamba/backend/traced.hpp"
#include "mlmamba/io/image_transform.hpp"
#include "mlmamba/models/ml_mamba.hpp"

namespace lab {

using mlmamba::context_of, mlmamba::in;

inline double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  const std::size_t n = v.size();
  return n == 0 ? 0 : n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/// Tokens, work and time for one picture. Connectors take turns, so that a disturbance of the
/// machine hits all of them; the first turn warms up.
template <class Model, class Connector>
void measure(context_of<typename Model::engine_type>& ctx, Model& model,
             const std::vector<Connector>& made, std::span<const mlmamba::image_transform> rule,
             int turns, std::vector<result>& results) {
  using E = typename Model::engine_type;
  using clock = std::chrono::steady_clock;
  std::vector<mlmamba::tensor_of<E, 4>> grey;
  for (const auto& t : rule) grey.emplace_back(mlmamba::shape<4>{{1, 3, t.size, t.size}});
  const auto now = [&] {  // when all work is done, where ops are enqueued
    if constexpr (requires { ctx.synchronize(); }) ctx.synchronize();
    return clock::now();
  };
  std::vector<in<E, 4>> pixels;
  for (const auto& g : grey) pixels.push_back(g.view());
  const auto ms = [](clock::time_point a, clock::time_point b) {
    return 1e3 * std::chrono::duration<double>(b - a).count();
  };
  const auto work = [&] {
    double sum = 0;
    for (const auto& [name, total] : ctx.totals) sum += total.flops;
    return sum;
  };
  const auto frame = ctx.scratch.make_frame();
  const in<E, 3> features = model.features(ctx, pixels);
  std::vector<std::vector<double>> alone(made.size()), whole(made.size());
  for (int turn = 0; turn <= turns; ++turn)
    for (std::size_t i = 0; i < made.size(); ++i) {
      const auto inner = ctx.scratch.make_frame();
      typename Connector::saved s, again;
      ctx.tracing = turn == 0;
      ctx.clear_totals();
      const auto begin = now();
      const in<E, 3> tokens = made[i].forward(ctx, features, s);
      const auto end = now();
      if (turn == 0) results[i].connector_flops = work(), results[i].tokens = tokens.size[1];
      ctx.clear_totals();
      auto state = model.make_state(1);
      const auto whole_begin = now();
      model.prefill(ctx, made[i].forward(ctx, model.features(ctx, pixels), again), state);
      const auto whole_end = now();
      if (turn == 0) {
        results[i].picture_flops = work();
      } else {
        alone[i].push_back(ms(begin, end)), whole[i].push_back(ms(whole_begin, whole_end));
      }
    }
  for (std::size_t i = 0; i < made.size(); ++i)
    results[i].connector_ms = median(alone[i]), results[i].picture_ms = median(whole[i]);
}

}  // namespace lab
