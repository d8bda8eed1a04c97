// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What has an id: models, vision backbones, language models, data sets; how large they are.
//
//   models                          all ids
//   models --describe mlmamba+3b    one of them, as JSON; of a model also the size of its parts
//   models --fetch mamba2-130m      downloads it, and says in which folder it is
#include <CLI/CLI.hpp>

#include <cstdio>
#include <iostream>
#include <string>

#include "mlmamba/models/published/resolve.hpp"
#include "mlmamba/models/registry.hpp"
#include "program.hpp"

using namespace mlmamba;

namespace {

void list() {
  const auto row = [](std::string_view id, std::string_view what) {
    std::printf("  %-26.*s %.*s\n", int(id.size()), id.data(), int(what.size()), what.data());
  };
  std::puts("Models with published weights:");
  for (const model_preset& m : preset::models)
    if (m.published()) row(m.id, "\"" + std::string(m.alias) + "\"");
  std::puts("Models to train:");
  for (const model_preset& m : preset::models)
    if (!m.published()) row(m.id, m.title);
  std::puts("Vision backbones:");
  for (const vision_backbone& v : preset::vision_backbones) row(v.id, v.title);
  std::puts("Language models:");
  for (const language_preset& l : preset::language_models) row(l.id, l.repository);
  std::puts("Data sets:");
  for (const data_set& d : preset::data_sets) row(d.id, d.finetune.annotations);
}

/// One row for each part: parameters as published, as built here, and the bytes of the latter.
void sizes(const std::vector<parameter_part>& parts) {
  std::printf("%-36s %15s %15s %10s %10s\n", "part", "published", "built here", "f32", "bf16");
  parameter_part all{"all", 0, 0};
  const auto row = [](const parameter_part& p) {
    std::printf("%-36s %15lld %15lld %7.2f GB %7.2f GB\n", p.name.c_str(),
                static_cast<long long>(p.published), static_cast<long long>(p.built),
                4e-9 * double(p.built), 2e-9 * double(p.built));
  };
  for (const parameter_part& p : parts) {
    row(p);
    all.published += p.published, all.built += p.built;
  }
  if (parts.size() > 1) row(all);
}

void describe_one(const std::string& id) {
  std::cout << describe(id).dump(2) << std::endl;
  for (const model_preset& m : preset::models)
    if (m.id == id || (!m.alias.empty() && m.alias == id)) return sizes(parameter_parts(m));
  if (const auto* v = registry::find(preset::vision_backbones, id)) {
    std::vector<parameter_part> parts;
    for (std::size_t i = 0; i < v->towers(); ++i)
      parts.push_back({std::string(v->tower[i].name),
                       published_parameter_count(v->tower[i].config, v->tower[i].stored_image_size),
                       parameter_count(v->tower[i].config)});
    sizes(parts);
  }
  if (const auto* l = registry::find(preset::language_models, id)) {
    const auto n = parameter_count(l->config, l->layer);
    sizes({{"backbone", n, n}});
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string id, fetch, token;
  bool untrained = false;
  CLI::App app{
      "Lists what has an id: models, vision backbones, language models, data sets.\n"
      "Exit code: 0 done, 2 bad option, unknown id or failed download.\n"
      "Downloads use HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_HUB_OFFLINE and HF_TOKEN as Hugging\n"
      "Face's programs do; models are put together in MLMAMBA_CACHE (~/.cache/mlmamba/models)."};
  app.add_option("--describe", id, "Says what an id or alias stands for, and how large it is");
  app.add_option("--fetch", fetch,
                 "Downloads a model, language model or vision backbone by id or alias, or any\n"
                 "repository of the hub, and writes its folder to standard output")
      ->excludes("--describe");
  app.add_flag("--untrained", untrained,
               "With --fetch: what a model is made of before its training, without a connector")
      ->needs("--fetch");
  app.add_option("--hf_token", token,
                 "File with the hub's token, or variable; else HF_TOKEN, .hf_token, the login's")
      ->needs("--fetch");
  if (const auto code = examples::parse(app, argc, argv)) return *code;
  try {
    if (app.count("--fetch") > 0) {
      hub files(hub_options::from_environment(token));
      std::cout << (untrained ? resolve_untrained(fetch, files) : resolve(fetch, files)).string()
                << std::endl;
    } else if (app.count("--describe") == 0) {
      list();
    } else {
      describe_one(id);
    }
    return examples::written();
  } catch (const std::exception& e) {
    std::cerr << "models: " << e.what() << '\n';
    return 2;
  }
}
