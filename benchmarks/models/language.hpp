// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The language model that decode and prefill are measured on, and where its time goes, op by op.
#pragma once

#include <cmath>
#include <memory>

#include "harness.hpp"
#include "mlmamba/backend/traced.hpp"
#include "mlmamba/models/preset.hpp"

namespace bench {

/// The CPU with a stopwatch at every op, which is off while a benchmark is timed.
template <class V>
using traced_cpu = on<backend::traced<backend::cpu>, V>;
/// The same with prepared weights, in a format chosen when the program runs.
template <class V>
using traced_packed = on<backend::traced<backend::cpu>, V, float, packed>;

/// A model of these sizes with seeded random weights, the same in each layer (but in memory of its
/// own). The last one is kept: a benchmark function is called for every repetition.
template <class M>
const M& model_of(const mamba_config& c, weight_format format = {}) {
  using E = typename M::engine_type;
  static std::unique_ptr<M> model;
  if (!model || model->config.n_layer != c.n_layer || model->d_model() != c.mixer.d_model ||
      !(model->head_format() == format)) {
    model.reset();
    mamba_config one = c;
    one.n_layer = 1;
    model = std::make_unique<M>(one);
    nn::choose_formats(*model, {format, {}});
    if constexpr (packs_weights<E>) model->head.format = format;
    nn::initialise(*model, {7, 0, 0});
    model->config.n_layer = c.n_layer;
    auto& layers = model->backbone.layers;
    layers.reserve(std::size_t(c.n_layer));
    while (index_t(layers.size()) < c.n_layer) layers.push_back(layers.front());
  }
  return *model;
}

/// Registers f<model type>(state, config, scheme) as `<model>_<what>/<engine>`, for engines with
/// weights as they are, and prepared ones in each format (`packed_int8`; with activations in bf16
/// `packed_bf16_int8`), and published sizes of Mamba-2; and a Mamba-1 with prepared weights.
template <template <class> class F, class Apply>
void register_models(const std::string& what, Apply apply) {
  auto add = [&](const std::string& model, const mamba_config& c, const std::string& engine, auto f,
                 weight_scheme s) {
    apply(benchmark::RegisterBenchmark((model + '_' + what + '/' + engine).c_str(), f, c, s)
              ->Unit(benchmark::kMillisecond)
              ->UseManualTime(),
          model);
  };
  constexpr weight_scheme schemes[] = {weight_scheme::f32, weight_scheme::bf16, weight_scheme::int8,
                                       weight_scheme::int4};
  const auto name = [](const char* engine, weight_scheme s) {
    return std::string(engine) + to_string(s);
  };
  const std::pair<const char*, mamba_config> models[] = {{"mamba2_130m", preset::mamba2_130m},
                                                         {"mamba2_370m", preset::mamba2_370m},
                                                         {"mamba2_2.7b", preset::mamba2_2_7b}};
  for (const auto& [model, c] : models) {
    add(model, c, "cpu_f32", F<mamba_lm<traced_cpu<float>>>{}, weight_scheme::f32);
    add(model, c, "cpu_bf16", F<mamba_lm<traced_cpu<bf16>>>{}, weight_scheme::bf16);
    for (auto s : schemes)
      add(model, c, name("packed_", s), F<mamba_lm<traced_packed<float>>>{}, s);
    for (auto s : schemes)
      if (s != weight_scheme::f32)  // no tiles of float
        add(model, c, name("packed_bf16_", s), F<mamba_lm<traced_packed<bf16>>>{}, s);
  }
  for (auto s : schemes)
    add("mamba_130m", preset::mamba_130m, name("packed_", s),
        F<mamba_lm<traced_packed<float>, nn::mamba1>>{}, s);
}

/// What a step reads of the parameters. A head that is tied to the embedding is a packed copy of it
/// on engines with packed weights, and the table itself is not read.
template <class M>
double weight_bytes(const M& m) {
  double n = 0;
  nn::for_each_parameter(m,
                         [&](const std::string&, const auto& p) { n += double(p.value.bytes()); });
  if constexpr (packs_weights<typename M::engine_type>)
    n += double(m.head.value.bytes()) - double(m.backbone.embedding.weight.value.bytes());
  return n;
}
template <class S>
double state_bytes(S& s) {
  double n = 0;
  nn::for_each_leaf(s, [&](const std::string&, const auto& t) { n += double(t.bytes()); });
  return n;
}

/// Token ids (B, L), other ones in each row.
inline tensor<std::int32_t, 2> some_tokens(index_t batch, index_t length, index_t vocabulary) {
  tensor<std::int32_t, 2> ids({batch, length});
  random_stream r{11, 0, 0};
  for (index_t i = 0; i < ids.count(); ++i)
    ids.data()[i] = std::int32_t(r.uniform(0, double(vocabulary)));
  return ids;
}
inline tensor<std::int32_t, 2> columns(const tensor<std::int32_t, 2>& ids, index_t from,
                                       index_t n) {
  tensor<std::int32_t, 2> part({ids.size(0), n});
  for (index_t b = 0; b < ids.size(0); ++b)
    for (index_t t = 0; t < n; ++t) part(b, t) = ids(b, from + t);
  return part;
}

/// Are the logits after a prefill of all tokens those after a prefill of two parts and `steps`
/// steps? The chain of L layers may differ by the square root of L of what one op's roundings do;
/// and if x is rounded to 8 bits, where a last bit may move a number by a step and that the next
/// ones, by as much as all that rounding does: a tenth.
template <class M, engine E = typename M::engine_type>
verify::difference prefill_equals_steps(context_of<E>& ctx, const M& m,
                                        const tensor<std::int32_t, 2>& ids, index_t steps) {
  const index_t read = ids.size(1) - steps, half = read / 2;
  auto values = [](const auto& logits) {
    std::vector<double> v;
    for (index_t b = 0; b < logits.size[0]; ++b)
      for (index_t i = 0; i < logits.size[1]; ++i) v.push_back(double(logits(b, i)));
    return v;
  };
  std::vector<double> want, got;
  {
    auto frame = ctx.scratch.make_frame();
    auto state = m.make_state(ids.size(0));
    want = values(m.prefill(ctx, m.embed(ctx, ids.view()), state));
  }
  auto state = m.make_state(ids.size(0));
  const auto first = columns(ids, 0, half), second = columns(ids, half, read - half);
  for (const auto* part : {&first, &second}) {
    auto frame = ctx.scratch.make_frame();
    m.prefill(ctx, m.embed(ctx, part->view()), state);
  }
  for (index_t t = read; t < ids.size(1); ++t) {
    auto frame = ctx.scratch.make_frame();
    const auto next = columns(ids, t, 1);
    got = values(m.step(ctx, in_index<E, 1>(next.view().flat()), state));
  }
  const double rounding =
      verify::tolerance<E>(double(m.d_model())) * std::sqrt(double(m.config.n_layer));
  return verify::compare_arrays({{"logits", got}}, {{"logits", want}},
                                m.head_format().quantised() ? 0.1 : rounding);
}

/// Shares of `seconds` by family of ops, as counters `% gemm`, `% ssd` and so on: forward and step
/// are one family, all norms are one. `% between` is what no op took.
template <class Context>
void report_shares(benchmark::State& state, const Context& ctx, double seconds) {
  if (std::getenv("MLMAMBA_TRACE")) std::fputs(ctx.table(seconds).c_str(), stderr);
  std::map<std::string, double> share;
  for (const char* family : {"gemm", "ssd", "selective_scan", "causal_conv1d", "norm", "other"})
    share[family] = 0;
  double all = 0;
  for (const auto& [name, total] : ctx.totals) {
    const char* family = "other";
    for (const char* f : {"gemm", "ssd", "selective_scan", "causal_conv1d", "norm"})
      if (name.find(f) != std::string::npos) family = f;
    share[family] += total.seconds;
    all += total.seconds;
  }
  share["between"] = seconds - all;
  for (const auto& [family, s] : share) state.counters["% " + family] = 100 * s / seconds;
}

}  // namespace bench
