// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fixtures of whole models: vision towers, the scan connector, language models, ml_mamba.
#pragma once

#include "check_fixture/fixture.hpp"
#include "check_fixture/train_step.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "mlmamba/nn/mamba1.hpp"
#include "mlmamba/ops/reduce.hpp"
#include "mlmamba/train/stage.hpp"

namespace mlmamba::check_fixture {

/// The weight.* arrays without that prefix.
inline std::vector<safetensors_entry> weights_of(fixture& f,
                                                 const std::string& prefix = "weight.") {
  f.ask_prefix(prefix);
  std::vector<safetensors_entry> out;
  for (const safetensors_entry& e : f.file().entries()) {
    if (!e.name.starts_with(prefix)) continue;
    f.check_type<float>(e);
    out.push_back(e);
    out.back().name = e.name.substr(prefix.size());
  }
  return out;
}

/// (B, L) ids of any integer type, checked against the vocabulary.
template <engine E>
tensor<std::int32_t, 2, typename E::memory> ids_of(fixture& f, index_t vocabulary) {
  const auto host = f.needed<std::int32_t, 2>("in.input_ids");
  for (index_t i = 0; i < host.count(); ++i)
    if (host.data()[i] < 0 || host.data()[i] >= vocabulary)
      fail<io_error>(f.path(), ": in.input_ids has ", host.data()[i], "; 0 to ", vocabulary - 1,
                     " is wanted");
  return f.needed<std::int32_t, 2, typename E::memory>("in.input_ids");
}

template <class V>
result result_of(const V& v, bool gradient = false) {
  return {std::vector<std::int64_t>(v.size, v.size + V::rank), numbers(v), gradient};
}

/// Tokens after a prefilled state, the likeliest each time: as many as out.greedy has.
template <engine E, class Model>
void greedy(fixture& f, context_of<E>& ctx, const Model& model, in<E, 3> embedded, results& out) {
  const auto wanted = f.shape_of("out.greedy");
  if (wanted.empty()) return;
  const index_t n = wanted.back();
  auto frame = ctx.scratch.make_frame();
  auto state = model.make_state(1);
  tensor<std::int32_t, 1, typename E::memory> token({1});
  result r{{1, n}, {}, false, true};
  in_accum<E, 2> logits = model.prefill(ctx, embedded, state);
  for (index_t i = 0; i < n; ++i) {
    run(ctx, ops::argmax<E, typename E::accum>{.x = logits, .index = token});
    r.values.push_back(double(to_host(token.view()).data()[0]));
    logits = model.step(ctx, in_index<E, 1>(token.view()), state);
  }
  out["greedy"] = r;
}

template <engine E>
results vit_results(fixture& f, context_of<E>& ctx) {
  const auto c = vit_config_from(f.object("config"), f.path() + ": config", f.option("kind", ""));
  vit<E> tower(c);
  load_parameters(tower, published<vit<E>>::arrays(weights_of(f), c, f.path()));
  const auto pixels = f.needed<typename E::value, 4, typename E::memory>("in.pixels");
  f.refuse_unknown();
  auto frame = ctx.scratch.make_frame();
  results out;
  out["penultimate_patches"] = result_of(tower.encode(ctx, in<E, 4>(pixels)));
  return out;
}

template <engine E, class Connector>
results connector_results_of(fixture& f, context_of<E>& ctx) {
  const index_t grid = f.integer("grid", 1);
  const connector_shape n{f.integer("vision_dim", 0), f.integer("llm_dim", 0), grid, grid};
  const std::string who = f.path() + ": ssm_cfg";
  scan_options o;
  if (f.has_option("ssm_cfg")) detail::read_ssm_cfg(f.object("ssm_cfg"), o.mixer, who);
  o.mixer.d_model = n.d_model;
  o.n_layer = f.integer("n_layer", 2);
  o.projector = projector_kind_of(f.option("arch_specifier", "no-align+fused-gelu-mlp"));
  Connector connector(n, o);
  named_arrays named{f.path(), {}};
  for (const auto& e : weights_of(f)) named.add(e.name, e);
  load_parameters(connector, named);
  const auto x = f.needed<typename E::value, 3, typename E::memory>("in.patches");
  f.refuse_unknown();
  auto frame = ctx.scratch.make_frame();
  typename Connector::saved s;
  results out;
  out["tokens"] = result_of(connector.forward(ctx, x, s));
  out["mlp"] = result_of(s.stem);
  out["bidirectional_mamba"] = result_of(s.scanned);
  return out;
}
template <engine E>
results connector_results(fixture& f, context_of<E>& ctx) {
  const auto order = f.option("scan", "bsm");
  if (order == "csm") return connector_results_of<E, cross_scan_connector<E>>(f, ctx);
  if (order != "bsm") fail<io_error>(f.path(), ": scan \"", order, "\"; bsm or csm is wanted");
  return connector_results_of<E, scan_connector<E>>(f, ctx);
}

template <engine E, template <class> class Mixer>
results language_results_of(fixture& f, context_of<E>& ctx, const json& config) {
  using model_type = mamba_lm<E, Mixer>;
  const std::string who = f.path() + ": config";
  auto model = published<model_type>::make(config, who);
  const auto named = published<model_type>::arrays(weights_of(f), config, f.path());
  load_parameters(model, named);
  const auto ids = ids_of<E>(f, model.vocabulary());
  f.find("in.labels");
  f.refuse_unknown();
  results out;
  {
    auto frame = ctx.scratch.make_frame();
    typename model_type::saved s;
    out["logits"] = result_of(model.forward(ctx, model.embed(ctx, ids, s), s));
    if (ids.count() > 0)  // else there is nothing to go on from
      greedy<E>(f, ctx, model, model.embed(ctx, in_index<E, 2>(ids).slice(0, 0, 1)), out);
  }
  if (f.find("in.labels") != nullptr) train_step<E>(f, ctx, model, {}, ids, named, out);
  return out;
}

template <engine E>
results language_results(fixture& f, context_of<E>& ctx) {
  json config = f.object("config");
  const std::string form = f.option("format", "");
  if (!form.empty() && form != "huggingface" && form != "state-spaces")
    fail<io_error>(f.path(), ": format \"", form, "\"; huggingface or state-spaces is wanted");
  // The op says which mixer it is, where a config does not.
  if (json_has(config, "hidden_size") && !json_has(config, "model_type"))
    config["model_type"] = f.op() == "mamba2_lm" ? "mamba2" : "mamba";
  if (json_has(config, "d_model") &&
      !(json_has(config, "ssm_cfg") && json_has(config.at("ssm_cfg"), "layer")))
    config["ssm_cfg"]["layer"] = f.op() == "mamba2_lm" ? "Mamba2" : "Mamba1";
  if (f.op() == "mamba2_lm") return language_results_of<E, nn::mamba2>(f, ctx, config);
  return language_results_of<E, nn::mamba1>(f, ctx, config);
}

template <engine E, class Vision, template <class> class Mixer>
results ml_mamba_results_of(fixture& f, context_of<E>& ctx, const json& config) {
  using model_type = ml_mamba<Vision, scan_connector<E>, mamba_lm<E, Mixer>>;
  auto model = published<model_type>::make(config, f.path() + ": config");
  auto entries = weights_of(f);
  const auto named = published<model_type>::arrays(std::move(entries), config, f.path());
  load_parameters(model, named);
  std::vector<tensor_of<E, 4>> held;
  for (const auto& t : towers_from(config, f.path())) {
    std::string name = t.name.substr(0, t.name.find("_featurizer"));
    if (f.find("in.pixels." + name) == nullptr && Vision::towers == 1) name = "";
    held.push_back(f.needed<typename E::value, 4, typename E::memory>(
        name.empty() ? "in.pixels" : "in.pixels." + name));
  }
  const std::vector<in<E, 4>> x(held.begin(), held.end());
  const auto ids = ids_of<E>(f, model.llm_backbone.vocabulary());
  const bool trained = f.find("in.labels") != nullptr;
  if (trained && f.has_option("stage"))
    train::set_stage(model, train::stage_of(f.option("stage", "")));
  f.refuse_unknown();
  results out;
  if (trained) train_step<E>(f, ctx, model, x, ids, named, out);
  auto frame = ctx.scratch.make_frame();
  const auto features = model.features(ctx, x);
  out["features"] = result_of(features);
  out["tokens"] = result_of(model.tokens(ctx, features));
  typename model_type::saved s;
  out["logits"] = result_of(model.forward(ctx, x, ids, s));
  if (ids.size(0) == 1) greedy<E>(f, ctx, model, model.embed(ctx, x, in_index<E, 2>(ids)), out);
  return out;
}

template <engine E>
results ml_mamba_results(fixture& f, context_of<E>& ctx) {
  json config = f.object("config");
  // The op is about the scan connector and Mamba-2, whatever a file calls them.
  if (json_has(config, "connector") && config.at("connector").is_object())
    config["connector"].erase("type");
  if (json_has(config, "connector") && config.at("connector").is_string())
    config.erase("connector");
  if (json_has(config, "llm") && config.at("llm").is_object() &&
      json_has(config.at("llm"), "d_model") &&
      !(json_has(config.at("llm"), "ssm_cfg") && json_has(config.at("llm").at("ssm_cfg"), "layer")))
    config["llm"]["ssm_cfg"]["layer"] = "Mamba2";
  const auto towers = towers_from(config, f.path() + ": config").size();
  if (mamba_config_from(language_config_from(config, f.path()), f.path()).layer != "Mamba2")
    fail<io_error>(f.path(), ": its language model is a Mamba-1; a Mamba-2 is wanted");
  if (towers == 1) return ml_mamba_results_of<E, vit<E>, nn::mamba2>(f, ctx, config);
  if (towers == 2) return ml_mamba_results_of<E, fused<vit<E>, vit<E>>, nn::mamba2>(f, ctx, config);
  fail<io_error>(f.path(), ": ", towers, " towers; 1 or 2 are wanted");
}

}  // namespace mlmamba::check_fixture
