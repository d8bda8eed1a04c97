// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Multimodal models as folders: connectors with their options, parts from several files.
#include <doctest/doctest.h>

#include <sstream>
#include <string>

#include "io/model_files.hpp"
#include "io/temporary.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "models/ml_mamba_case.hpp"

using namespace mlmamba;
using mlmamba::test::all_values;
using mlmamba::test::file_maker;
using mlmamba::test::message_of;
using mlmamba::test::randomise;

namespace {

using language = mamba_lm<reference_f32>;
using tiny = verify::tiny_ml_mamba<reference_f32>;

}  // namespace

TEST_SUITE("published_test") {
  TEST_CASE("a saved model is loaded as it was, metadata and tokenizer beside it") {
    test::temporary_folder folder;
    auto model = verify::make_tiny_ml_mamba<reference_f32>(2);
    randomise(model, 1);
    save_model(model, folder / "m", {{"step", "7"}}, {{"image_resize_strategy", "letterbox"}},
               "{\"tokens\": 1}");
    const checkpoint files{folder / "m"};
    const auto again = files.load<tiny>();
    CHECK(all_values(again) == all_values(model));
    CHECK(files.config().at("image_resize_strategy") == "letterbox");
    CHECK(safetensors_file::open(folder / "m/model.safetensors").metadata().at("step") == "7");
    CHECK(std::filesystem::exists(folder / "m/tokenizer.json"));
    CHECK(again.vision_backbone.first.config.registers == 4);
    CHECK(again.connector.made_with().mixer.d_state == 2);
    const auto rule = picture_rule(files.config(), "m");
    REQUIRE(rule.size() == 2);
    CHECK(rule[0].strategy == resize_strategy::letterbox);
    CHECK(rule[0].mean[0] == 0.485);
    CHECK(rule[1].size == 5);
    // and once more: what was loaded is saved alike
    save_model(again, folder / "n");
    CHECK(all_values(checkpoint{folder / "n"}.load<tiny>()) == all_values(model));
  }

  TEST_CASE("every connector and its options come back") {
    test::temporary_folder folder;
    using E = reference_f32;
    const vit<E> tower(make_vit_config(vit_kind::clip, 12, 3, 4, 2, 2));
    const language lm(verify::tiny_language());
    const auto round = [&](const auto& connector, const char* name) {
      using C = std::remove_cvref_t<decltype(connector)>;
      using M = ml_mamba<vit<E>, C, language>;
      M m(tower, connector, lm);
      randomise(m, 2);
      save_model(m, folder / name);
      CHECK(all_values(checkpoint{folder / name}.load<M>()) == all_values(m));
    };
    const connector_shape n{4, 4, 4, 4};
    round(linear_connector<E>(n), "linear");
    round(fused_mlp_connector<E>(n), "fused");
    round(ldp_connector<E>(n, {3, 2}), "ldp");
    round(average_pool_connector<E>(n, {3, 1}), "pool");
    round(pixel_shuffle_connector<E>(n, {4}), "shuffle");
    round(cross_scan_connector<E>(n), "cross");
    auto o = scan_options_for(n);
    o.swiglu = false;
    o.n_layer = 3;
    o.projector = projector_kind::ldpnet;
    o.mixer.d_model = 6;
    o.mixer.headdim = 3;
    round(scan_connector<E>(n, o), "scan");
    using M = ml_mamba<vit<E>, mlp_connector<E>, language>;
    CHECK(message_of<io_error>([&] {
            (void)checkpoint{folder / "linear"}.load<M>();
          }).find("its connector is \"linear\"; the model's is \"gelu-mlp\"") != std::string::npos);
  }

  TEST_CASE("parts from several files, and towers as OpenCLIP packs them") {
    test::temporary_folder folder;
    auto model = verify::make_tiny_ml_mamba<reference_f32>(2);
    randomise(model, 1);
    std::filesystem::create_directories(folder / "m");
    file_maker dino(model.vision_backbone.first), siglip(model.vision_backbone.second);
    file_maker language(model.llm_backbone), rest(model);
    std::erase_if(rest.arrays, [](const auto& a) {
      return a.first.starts_with("vision_backbone") || a.first.starts_with("llm_backbone");
    });
    // What a published tower has beyond what is used: the last block, norm, pooling.
    for (const char* name : {"blocks.1.norm1.weight", "norm.weight", "attn_pool.latent"})
      siglip.arrays[name] = {{1}, {0}};
    std::vector<std::string> names;
    for (const auto& [name, a] : siglip.arrays) names.push_back(name);
    for (const auto& name : names) siglip.rename(name, "visual.trunk." + name);
    dino.write(folder / "m/dino.safetensors"), siglip.write(folder / "m/siglip.safetensors");
    language.write(folder / "m/llm.safetensors"), rest.write(folder / "m/connector.safetensors");
    json config = published<tiny>::config(model);
    config["weights"] = parse_json(
        R"([{"file": "dino.safetensors", "prefix": "vision_backbone.dino_featurizer."},
            {"file": "siglip.safetensors", "prefix": "vision_backbone.siglip_featurizer."},
            {"file": "llm.safetensors", "prefix": "llm_backbone."},
            {"file": "connector.safetensors"}])",
        "test");
    write_file(folder / "m/config.json", std::string_view(config.dump()));
    CHECK(all_values(checkpoint{folder / "m"}.load<tiny>()) == all_values(model));
  }

  TEST_CASE("the original's config names its towers and language model") {
    const json config = parse_json(
        R"({"model": {"model_id": "mlmamba+3b", "vision_backbone_id": "dinosiglip-vit-so-384px",
                      "llm_backbone_id": "mamba2-2.7b", "image_resize_strategy": "resize-naive",
                      "arch_specifier": "no-align+fused-gelu-mlp"}, "seed": 7})",
        "config.json");
    const auto towers = towers_from(config, "config.json");
    REQUIRE(towers.size() == 2);
    CHECK(towers[0].name == "dino_featurizer");
    CHECK(towers[0].config.patches() == 729);
    CHECK(towers[1].config.mlp_hidden == 4304);
    const auto lm = mamba_config_from(language_config_from(config, "config.json"), "config.json");
    CHECK(lm.config.padded_vocabulary() == 50288);
    CHECK(lm.config.n_layer == 64);
    const json bad = parse_json(R"({"vision_backbone_id": "eyes"})", "c");
    CHECK_THROWS_AS(towers_from(bad, "c"), io_error);
  }

  TEST_CASE("each published backbone prepares pictures in its own way") {
    struct want {
      const char *backbone, *towers;
      int size, shorter_edge;
    };
    for (const want& w :
         {want{"clip-vit-b", "clip", 224, 248},  // which the original leaves so
          want{"clip-vit-l", "clip", 224, 0}, want{"clip-vit-l-336px", "clip", 336, 0},
          want{"siglip-vit-b16-224px", "siglip", 224, 0},
          want{"siglip-vit-b16-256px", "siglip", 256, 0},
          want{"siglip-vit-b16-384px", "siglip", 384, 0},
          want{"siglip-vit-so400m", "siglip", 224, 0},
          want{"siglip-vit-so400m-384px", "siglip", 384, 0}, want{"dinov2-vit-l", "dinov2", 224, 0},
          want{"in1k-vit-l", "in1k", 224, 0}, want{"dinoclip-vit-l-336px", "dinov2 clip", 336, 0},
          want{"dinosiglip-vit-so-384px", "dinov2 siglip", 384, 0}}) {
      CAPTURE(w.backbone);
      for (const char* strategy : {"resize-naive", "resize-crop", "letterbox"}) {
        const json config{{"vision_backbone_id", w.backbone}, {"image_resize_strategy", strategy}};
        const auto rule = picture_rule(config, "test");
        std::istringstream towers(w.towers);
        std::size_t n = 0;
        for (std::string tower; towers >> tower; ++n) {
          REQUIRE(n < rule.size());
          const auto t = image_transform::of_tower(tower, w.size, resize_strategy_of(strategy));
          CHECK(rule[n].size == t.size);
          CHECK(rule[n].shorter_edge == w.shorter_edge);
          CHECK(rule[n].strategy == t.strategy);
          CHECK(rule[n].mean == t.mean);
          CHECK(rule[n].std == t.std);
        }
        CHECK(rule.size() == n);
      }
    }
  }

  TEST_CASE("pixels that a tower wants otherwise than its kind are written so, and only these") {
    const json config = parse_json(
        R"({"vision": [{"name": "a", "kind": "siglip", "mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]},
                       {"name": "b", "kind": "clip"}]})",
        "test");
    json written = json::array();
    for (const auto& t : towers_from(config, "test")) written.push_back(to_json(t.config));
    keep_picture_rule(written, config, "test");
    const auto rule = picture_rule(config, "test"),
               again = picture_rule({{"vision", written}}, "test");
    REQUIRE(again.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(again[i].mean == rule[i].mean);
      CHECK(again[i].std == rule[i].std);
    }
    CHECK(again[0].std[2] == 4);
    CHECK(!written[1].contains("mean"));
  }

  TEST_CASE("a language model's sizes that make no sense are refused before there is a layer") {
    const auto problem = [](const char* layer, const char* key, const json& value) {
      json config{{"d_model", 8}, {"n_layer", 1}, {"vocab_size", 9}};
      config["ssm_cfg"] = {{"layer", layer}, {"headdim", 4}};
      config[key] = value;
      return message_of<io_error>([&] { (void)mamba_config_from(config, "c"); });
    };
    CHECK(problem("Mamba2", "n_layer", 4096) == "nothing was thrown");
    for (const char* layer : {"Mamba1", "Mamba2"}) {
      CHECK(problem(layer, "n_layer", 4097) == "c: n_layer must be 0 to 4096");
      CHECK(problem(layer, "n_layer", 1 << 24) == "c: n_layer must be 0 to 4096");
      CHECK(problem(layer, "norm_epsilon", -1) == "c: norm_epsilon must be 0 to 1");
      CHECK(problem(layer, "norm_epsilon", "NaN") == "c: norm_epsilon must be 0 to 1");
    }
  }
}
