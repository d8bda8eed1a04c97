// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What has an id: sizes and counts as published, look-ups, aliases, words for what is not known.
#include "mlmamba/models/registry.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "io/temporary.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "mlmamba/models/published/preset_config.hpp"
#include "mlmamba/models/vit.hpp"
#include "mlmamba/nn/mamba1.hpp"

using namespace mlmamba;
using mlmamba::test::contains;
using mlmamba::test::message_of;
using E = reference_f32;

TEST_SUITE("registry_test") {
  TEST_CASE("the flagship's parts have the published numbers of parameters") {
    const auto parts = parameter_parts(preset::model_of("mlmamba+3b"));
    std::map<std::string, std::int64_t> n;
    for (const auto& p : parts) n[p.name] = p.published;
    REQUIRE(parts.size() == 6);
    CHECK(parts[0].name == "vision_backbone.dino_featurizer");
    CHECK(n.at("vision_backbone.dino_featurizer") == 304'370'688);
    CHECK(n.at("vision_backbone.siglip_featurizer") == 412'987'248);
    CHECK(n.at("mlp") == 5'573'120);
    CHECK(n.at("bidirectional_mamba") == 119'834'560);
    CHECK(n.at("projector") == 58'997'760);
    CHECK(n.at("llm_backbone") == 2'702'599'680);
    std::int64_t trained = 0;
    for (const auto& p : parts)
      if (!p.name.starts_with("vision_backbone")) trained += p.built;
    CHECK(trained == 2'887'005'120);
    // the last block and the norm of each tower are not built
    CHECK(parts[0].built ==
          304'370'688 - (37 * 37 - 729) * 1024 - 2 * 1024 -
              (4 * 1024 + 3 * 1024 * 1025 + 1024 * 1025 + 4096 * 1025 + 1024 * 4097 + 2 * 1024));
  }

  TEST_CASE("language models have the published sizes") {
    struct row {
      const char* id;
      index_t d, layers, inner, heads, in_proj, conv, vocabulary;
      std::int64_t parameters;
    };
    for (const row& r :
         {row{"mamba2-130m", 768, 24, 1536, 24, 3352, 1792, 50288, 128'989'632},
          row{"mamba2-370m", 1024, 48, 2048, 32, 4384, 2304, 50288, 368'346'624},
          row{"mamba2-780m", 1536, 48, 3072, 48, 6448, 3328, 50288, 780'161'280},
          row{"mamba2-1.3b", 2048, 48, 4096, 64, 8512, 4352, 50288, 1'343'757'312},
          row{"mamba2-2.7b", 2560, 64, 5120, 80, 10576, 5376, 50288, 2'702'599'680}}) {
      const language_preset& l = preset::language_model_of(r.id);
      const nn::mixer_config& m = l.config.mixer;
      INFO(r.id);
      CHECK(m.d_model == r.d);
      CHECK(l.config.n_layer == r.layers);
      CHECK(m.d_inner() == r.inner);
      CHECK(m.nheads() == r.heads);
      CHECK(m.d_in_proj() == r.in_proj);
      CHECK(m.conv_dim() == r.conv);
      CHECK(l.config.padded_vocabulary() == r.vocabulary);
      CHECK(parameter_count(l.config, l.layer) == r.parameters);
      CHECK(l.family() == "mamba2");
      CHECK(l.repository == "state-spaces/" + std::string(r.id));
    }
    for (const char* id : {"mamba-2.8b", "mamba-2.8b-slimpj", "mamba-2.8b-zephyr"}) {
      const language_preset& l = preset::language_model_of(id);
      CHECK(l.layer == "Mamba1");
      CHECK(l.config.padded_vocabulary() == 50280);
      CHECK(l.config.mixer.rank() == 160);
      CHECK(parameter_count(l.config, l.layer) == 2'768'345'600);
    }
    CHECK(preset::language_model_of("mamba-1.4b").config.mixer.d_model == 2048);
    CHECK(preset::language_model_of("mamba-2.8b-zephyr").repository == "xiuyul/mamba-2.8b-zephyr");
  }

  TEST_CASE("vision backbones have the published sizes") {
    struct row {
      const char* id;
      index_t image, patch, tokens, d_vision, depth, feature, prefix;
    };
    const row rows[] = {{"clip-vit-b", 224, 16, 196, 768, 12, 10, 1},
                        {"clip-vit-l", 224, 14, 256, 1024, 24, 22, 1},
                        {"clip-vit-l-336px", 336, 14, 576, 1024, 24, 22, 1},
                        {"siglip-vit-b16-224px", 224, 16, 196, 768, 12, 10, 0},
                        {"siglip-vit-b16-256px", 256, 16, 256, 768, 12, 10, 0},
                        {"siglip-vit-b16-384px", 384, 16, 576, 768, 12, 10, 0},
                        {"siglip-vit-so400m", 224, 14, 256, 1152, 27, 25, 0},
                        {"siglip-vit-so400m-384px", 384, 14, 729, 1152, 27, 25, 0},
                        {"dinov2-vit-l", 224, 14, 256, 1024, 24, 22, 5},
                        {"in1k-vit-l", 224, 16, 196, 1024, 24, 22, 1},
                        {"dinoclip-vit-l-336px", 336, 14, 576, 2048, 24, 22, 5},
                        {"dinosiglip-vit-so-384px", 384, 14, 729, 2176, 24, 22, 5}};
    CHECK(std::size(rows) == preset::vision_backbones.size());
    for (const row& r : rows) {
      INFO(r.id);
      const vision_backbone& v = preset::vision_backbone_of(r.id);
      const vit_config& c = v.tower[0].config;
      CHECK(c.image_size == r.image);
      CHECK(c.patch_size == r.patch);
      CHECK(v.patches() == r.tokens);
      CHECK(v.d_vision() == r.d_vision);
      CHECK(c.depth == r.depth);
      CHECK(c.blocks() - 1 == r.feature);
      CHECK(c.prefix() == r.prefix);
      for (std::size_t i = 0; i < v.towers(); ++i) {
        CHECK(v.tower[i].config.patches() == r.tokens);
        CHECK(v.tower[i].repository.starts_with("timm/"));
        CHECK(problem_with(v.tower[i].config) == nullptr);
      }
    }
    const auto& both = preset::vision_backbone_of("dinosiglip-vit-so-384px");
    CHECK(both.tower[1].config.blocks() - 1 == 25);
    CHECK(both.tower[1].config.prefix() == 0);
    // the original's slip is kept inside dinoclip only
    CHECK(preset::vision_backbone_of("dinoclip-vit-l-336px").tower[1].config.activation ==
          activation::gelu);
    CHECK(preset::vision_backbone_of("clip-vit-l-336px").tower[0].config.activation ==
          activation::quick_gelu);
  }

  TEST_CASE("pictures are prepared as published") {
    const auto rule = [](const char* id, std::size_t i = 0) {
      return transform_of(preset::vision_backbone_of(id).tower[i].config, resize_strategy::crop);
    };
    CHECK(rule("dinosiglip-vit-so-384px").mean == std::array{0.485, 0.456, 0.406});
    CHECK(rule("dinosiglip-vit-so-384px").std == std::array{0.229, 0.224, 0.225});
    CHECK(rule("dinosiglip-vit-so-384px", 1).mean == std::array{0.5, 0.5, 0.5});
    CHECK(rule("clip-vit-l").std == std::array{0.26862954, 0.26130258, 0.27577711});
    CHECK(rule("clip-vit-b").shorter_edge == 248);
    CHECK(rule("siglip-vit-b16-224px").shorter_edge == 0);
    CHECK(rule("in1k-vit-l").shorter_edge == 0);
    CHECK(rule("in1k-vit-l").size == 224);
    CHECK(rule("clip-vit-l-336px").strategy == resize_strategy::crop);
  }

  TEST_CASE("counts from sizes are those of the modules") {
    for (auto kind : {vit_kind::dinov2_reg4, vit_kind::siglip, vit_kind::clip, vit_kind::in1k}) {
      const vit_config c = make_vit_config(kind, 8, 3, 6, 3, 2, 1.9);
      CHECK(nn::parameter_count(vit<E>(c)) == parameter_count(c));
    }
    for (int options = 0; options < 16; ++options) {
      mamba_config c;
      c.n_layer = 3, c.vocab_size = 21, c.mixer.d_model = 8, c.mixer.d_state = 3;
      c.mixer.headdim = 4, c.mixer.d_conv = 3;
      c.tie_embeddings = (options & 1) != 0;
      c.mixer.bias = (options & 2) != 0;
      c.mixer.conv_bias = (options & 4) != 0;
      INFO("options ", options);
      CHECK(nn::parameter_count(mamba_lm<E, nn::mamba1>(c)) == parameter_count(c, "Mamba1"));
      if ((options & 8) != 0) {
        c.mixer.ngroups = 2, c.mixer.D_has_hdim = true, c.d_intermediate = 100;
        c.mixer.rmsnorm = (options & 1) != 0;
      }
      CHECK(nn::parameter_count(mamba_lm<E>(c)) == parameter_count(c, "Mamba2"));
    }
    const connector_shape n{6, 8, 3, 3};
    for (bool swiglu : {true, false})
      for (auto kind :
           {projector_kind::linear, projector_kind::gelu_mlp, projector_kind::fused_gelu_mlp,
            projector_kind::ldpnet, projector_kind::fused_ldpnet}) {
        auto o = scan_options_for(n);
        o.swiglu = swiglu, o.projector = kind;
        const scan_connector<E> c(n, o);
        const auto count = parameter_count(n, o);
        CHECK(nn::parameter_count(c.mlp) == count.mlp);
        CHECK(nn::parameter_count(c.bidirectional_mamba) == count.bidirectional_mamba);
        CHECK(nn::parameter_count(c.projector) == count.projector);
        const auto four = parameter_count(n, o, 4);
        CHECK(nn::parameter_count(cross_scan_connector<E>(n, o).bidirectional_mamba) ==
              four.bidirectional_mamba);
      }
  }

  TEST_CASE("models are found by id and alias") {
    CHECK(available_models() == std::vector<std::string>{"mlmamba+3b", "cobra+3b"});
    std::set<std::string> names;
    for (const auto& [name, description] : available_model_names()) {
      names.insert(name);
      CHECK(description == describe(name));
    }
    CHECK(names == std::set<std::string>{"mlmamba+3b", "MLMamba-DINOSigLIP 3B", "cobra+3b",
                                         "Cobra-DINOSigLIP 3B"});
    CHECK(preset::model_of("MLMamba-DINOSigLIP 3B").id == "mlmamba+3b");
    CHECK_THROWS_AS(preset::model_of(""), error);
    CHECK(describe("mlmamba+3b").dump(2) ==
          R"({
  "name": "MLMamba 3B",
  "optimization_procedure": "single-stage",
  "visual_representation": "DINOv2 ViT-L/14 + SigLIP ViT-SO/14 @ 384px",
  "image_processing": "Naive Resize",
  "language_model": "Mamba-2 2.7B",
  "datasets": [
    "LLaVa v1.5 Instruct",
    "LVIS-Instruct-4V",
    "LRV-Instruct"
  ],
  "train_epochs": 2
})");
  }

  TEST_CASE("the training configurations differ where they should") {
    CHECK(preset::model_of("mlmamba-one-epoch+3b").finetune.epochs == 1);
    CHECK(preset::model_of("mlmamba-base+3b").language().layer == "Mamba1");
    CHECK(preset::model_of("mlmamba-siglip+3b").vision().towers() == 1);
    CHECK(preset::model_of("mlmamba-siglip+3b").arch_specifier == "no-align+gelu-mlp");
    CHECK(preset::model_of("mlmamba-ldpnet+3b").arch_specifier == "no-align+fused-ldpnet");
    CHECK(!preset::model_of("mlmamba-ldpnet+3b").published());
    CHECK(preset::model_of("cobra+3b").llm_backbone_id == "mamba-2.8b-zephyr");
    const ordered_json j = original_config(preset::model_of("mlmamba+3b"));
    CHECK(j.at("align_epochs") == 1);
    CHECK(j.at("finetune_epochs") == 2);
    CHECK(j.at("align_global_batch_size") == 256);
    CHECK(j.at("finetune_global_batch_size") == 128);
    CHECK(j.at("finetune_per_device_batch_size") == 16);
    CHECK(j.at("align_learning_rate") == 1e-3);
    CHECK(j.at("finetune_learning_rate") == 2e-5);
    CHECK(j.at("align_weight_decay") == 0.0);
    CHECK(j.at("finetune_weight_decay") == 0.1);
    CHECK(j.at("finetune_max_steps").is_null());
    CHECK(j.at("align_train_strategy") == "fsdp-shard-grad-op");
    CHECK(j.at("finetune_train_strategy") == "fsdp-full-shard");
    CHECK(j.at("finetune_warmup_ratio") == 0.03);
    CHECK(j.at("llm_max_length") == 2048);
    CHECK(j.size() == 10 + 20);
  }

  TEST_CASE("every id can be described, and everything it refers to exists") {
    for (std::string_view id : known_ids()) {
      INFO(id);
      CHECK(describe(id).is_object());
    }
    for (const model_preset& m : preset::models) {
      INFO(m.id);
      CHECK(m.vision().towers() >= 1);
      CHECK(parameter_parts(m).back().published > 1'000'000'000);
    }
    const auto ids = known_ids();
    CHECK(std::set<std::string_view>(ids.begin(), ids.end()).size() == ids.size());
    CHECK(preset::data_set_of("llava-lrv").finetune.annotations ==
          "download/llava-v1.5-instruct/llava_v1_5_lrv_mix1008k.json");
    CHECK(data_set::path(preset::data_set_of("llava-v15").align.annotations) ==
          "data/download/llava-laion-cc-sbu-558k/chat.json");
  }

  TEST_CASE("what is not known is named, with what is") {
    const auto said = [](auto&& f) { return message_of<error>(f); };
    CHECK(contains(said([] { preset::vision_backbone_of("eyes"); }),
                   "vision backbone \"eyes\" is not known; known are: clip-vit-b, clip-vit-l, "));
    CHECK(contains(said([] { preset::language_model_of("mamba2-2.7"); }),
                   "\"mamba2-2.7\" is not known; did you mean mamba2-2.7b? Known are: "));
    CHECK(contains(said([] { describe("MLMamba+3B "); }), "did you mean mlmamba+3b?"));
    CHECK(contains(said([] { describe("dinosiglip-vit-so-384"); }),
                   "did you mean dinosiglip-vit-so-384px?"));
    CHECK(contains(said([] { preset::data_set_of("llava"); }), "llava-v15"));
    CHECK(said([] { describe(std::string(100'000, 'x')); }).size() < 2000);
    CHECK(registry::spelling_distance("kitten", "sitting") == 3);
    CHECK(registry::spelling_distance("", "abc") == 3);
  }

  TEST_CASE("the config of a preset is read back as the preset") {
    for (const model_preset& m : preset::models) {
      INFO(m.id);
      const json config = config_of(m);
      const auto towers = towers_from(config, "c");
      REQUIRE(towers.size() == m.vision().towers());
      for (std::size_t i = 0; i < towers.size(); ++i) {
        CHECK(towers[i].name == m.vision().tower[i].name);
        CHECK(to_json(towers[i].config) == to_json(m.vision().tower[i].config));
        CHECK(towers[i].transform.strategy == resize_strategy::naive);
      }
      const auto l = mamba_config_from(language_config_from(config, "c"), "c");
      CHECK(l.layer == m.language().layer);
      CHECK(parameter_count(l.config, l.layer) ==
            parameter_count(m.language().config, m.language().layer));
      scan_options o;
      const connector_shape n{m.vision().d_vision(), l.config.mixer.d_model, m.vision().grid(),
                              m.vision().grid()};
      detail::read_options(detail::connector_part(config), config, config.at("llm"), o, n, "c");
      if (!m.connector.empty())
        CHECK(parameter_count(n, o).projector == parameter_count(n, scan_options_of(m)).projector);
      if (!m.connector.empty())
        CHECK(parameter_count(n, o).bidirectional_mamba ==
              parameter_count(n, scan_options_of(m)).bidirectional_mamba);
    }
    // ids in the original's own config
    const json named{{"model", json(original_config(preset::model_of("mlmamba-base+3b")))}};
    CHECK(mamba_config_from(language_config_from(named, "c"), "c").layer == "Mamba1");
    CHECK(towers_from(named, "c").size() == 2);
    const json wrong{{"llm_backbone_id", "mamba2-2.7"}};
    CHECK(contains(message_of<io_error>([&] { language_config_from(wrong, "file.json"); }),
                   "file.json: language model \"mamba2-2.7\" is not known; did you mean "));
  }
}
