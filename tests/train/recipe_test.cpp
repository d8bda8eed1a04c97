// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Recipes are read whole, mistakes are named; exported models load again.
#include "mlmamba/train/recipe.hpp"

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/models/published/mamba_lm.hpp"
#include "mlmamba/train/export.hpp"
#include "mlmamba/train/stage_recipe.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

namespace {
json smallest() {
  return parse_json(R"({"model": {"llm": {}}, "data": {"source": "garment"},
                        "training": {"steps": 100}})",
                    "test");
}
}  // namespace

TEST_SUITE("recipe_test") {
  TEST_CASE("defaults, and what is written") {
    const recipe d = recipe_from(smallest(), "r");
    CHECK(d.training.rate.steps == 100);
    CHECK(d.training.rate.warmup == 3);
    CHECK(d.chat == chat_format::zephyr);
    CHECK(d.data.sampling == "in-order");
    CHECK(d.data.garment_folder() == garment::default_folder);
    CHECK(d.micro_batch == d.batch);

    json j = smallest();
    j["chat"] = "plain";
    j["recompute"] = true;
    j["data"] = {{"source", "garment:/x"}, {"garment", {{"turns", 5}, {"weights", {{"list", 9}}}}}};
    j["training"] = {{"steps", 10},
                     {"warmup", 2},
                     {"learning_rate", 0.5},
                     {"clip", 3},
                     {"beta2", 0.9},
                     {"batch", 8},
                     {"micro_batch", 4},
                     {"decay", "constant"},
                     {"freeze", {"vision_backbone"}},
                     {"rate_factors", {{"llm_backbone", 0.1}}},
                     {"normalisation", "mean-of-means"}};
    j["run"] = {{"keep", 5}};
    const recipe r = recipe_from(j, "r");
    CHECK(r.chat == chat_format::plain);
    CHECK(r.recompute);
    CHECK(r.data.garment_folder() == "/x");
    CHECK(r.data.garment.turns == 5);
    CHECK(r.data.garment.weights[7] == 9);
    CHECK(r.training.rate(5) == 0.5);
    CHECK(r.training.optimizer.clip == 3);
    CHECK(r.training.optimizer.beta2 == 0.9);
    CHECK(r.training.optimizer.rate_factors[0].second == 0.1);
    CHECK(r.training.normalisation == normalisation::mean_of_means);
    CHECK(r.micro_batch == 4);
    CHECK(r.training.keep == 5);
    CHECK(r.freeze == std::vector<std::string>{"vision_backbone"});
    // How often a run is saved does not make it another run; its data does.
    json saved_often = j;
    saved_often["run"]["keep"] = 1;
    CHECK(recipe_from(saved_often, "r").training.config == r.training.config);
    saved_often["data"]["seed"] = 2;
    CHECK(recipe_from(saved_often, "r").training.config != r.training.config);
  }
  TEST_CASE("mistakes are named") {
    const auto with = [](const char* part, const char* key, const json& value) {
      json j = smallest();
      j[part][key] = value;
      return recipe_from(j, "r");
    };
    CHECK_THROWS_WITH_AS(with("training", "step", 1), doctest::Contains("\"step\" is not known"),
                         io_error);
    CHECK_THROWS_AS(with("training", "steps", "many"), io_error);
    CHECK_THROWS_AS(with("training", "decay", "stairs"), error);
    CHECK_THROWS_AS(with("training", "warmup", 101), error);
    CHECK_THROWS_AS(with("data", "labels", "all"), io_error);
    CHECK_THROWS_AS(with("data", "garment", {{"turns", 65}}), error);
    CHECK_THROWS_AS(with("data", "garment", {{"weights", {{"colour", 1}}}}), io_error);
    CHECK_THROWS_AS(with("run", "keep", 1.5), io_error);
    CHECK_THROWS_AS(recipe_from(parse_json("{}", "r"), "r"), io_error);
    CHECK_THROWS_AS(recipe_from(parse_json("[]", "r"), "r"), io_error);
  }
  TEST_CASE("a run of another length keeps the share of its warm-up") {
    json j{{"training", {{"steps", 200}, {"warmup", 50}}}};
    set_steps(j, 20, "r");
    CHECK(j == json{{"training", {{"steps", 20}, {"warmup_ratio", 0.25}}}});
    set_steps(j, 10, "r");
    CHECK(j == json{{"training", {{"steps", 10}, {"warmup_ratio", 0.25}}}});
    json without = json::object();
    set_steps(without, 3, "r");
    CHECK(without == json{{"training", {{"steps", 3}}}});
    json wrong{{"training", {{"steps", "many"}, {"warmup", 50}}}};
    CHECK_THROWS_AS(set_steps(wrong, 3, "r"), error);
    for (json no_object : {json(1), json::array(), json{{"training", "x"}}})
      CHECK_THROWS_AS(set_steps(no_object, 3, "r"), io_error);
  }

  TEST_CASE("a vocabulary of the data's own texts") {
    const test::temporary_folder folder;
    test::spill(folder / "chat.json", R"([{"conversations":
        [{"from": "human", "value": "bag bag bag"}, {"from": "gpt", "value": "bag"}]}])");
    json j = smallest();
    j["data"] = {{"source", (folder / "chat.json").string()}};
    j["tokenizer"] = {{"vocabulary", 300}};
    const recipe r = recipe_from(j, "r");
    CHECK(r.data.sampling == "grouped");
    const auto words = tokenizer::parse(vocabulary_of(r, source_of(r)), "t");
    CHECK(words.encode("bag").size() == 1);
    CHECK(words.find("<|user|>"));
    CHECK(words.eos() == 0);
  }
  TEST_CASE("an exported model loads again; bf16 rounds matrices only") {
    using E = reference_f32;
    mamba_config c;
    c.mixer.d_model = 8;
    c.mixer.headdim = 4;
    c.mixer.d_state = 3;
    c.n_layer = 1;
    c.vocab_size = 16;
    mamba_lm<E> m(c);
    nn::initialise(m, {1, 0, 0});
    const test::temporary_folder folder;
    for (const stored how : {stored::f32, stored::bf16}) {
      const auto place = folder / (how == stored::f32 ? "f32" : "bf16");
      export_model(m, place, how, {{"chat_format", "plain"}}, "{}");
      const auto back = checkpoint(place).load<mamba_lm<E>>();
      CHECK(checkpoint(place).config().at("chat_format") == "plain");
      std::vector<float> all;
      nn::for_each_parameter(back, [&](const std::string&, const auto& p) {
        all.insert(all.end(), p.value.data(), p.value.data() + p.value.count());
      });
      std::size_t at = 0;
      nn::for_each_parameter(m, [&](const std::string& path, const auto& p) {
        const bool narrow = how == stored::bf16 && path.ends_with(".weight") &&
                            path.find("norm") == std::string::npos &&
                            path.find("conv") == std::string::npos;
        for (index_t i = 0; i < p.value.count(); ++i) {
          const float x = p.value.data()[i];
          CHECK(all[at++] == (narrow ? float(bf16(x)) : x));
        }
      });
      auto rounded = m;  // before it is written: measured as it will be read
      round_as_stored(rounded, how);
      at = 0;
      nn::for_each_parameter(rounded, [&](const std::string&, const auto& p) {
        for (index_t i = 0; i < p.value.count(); ++i) CHECK(all[at++] == p.value.data()[i]);
      });
    }
  }
  TEST_CASE("a stage fills in what a recipe leaves open") {
    const json open{{"model", json::object()}, {"data", {{"source", "chat.json"}}}};
    const auto staged = [&](const json& training, stage which, std::uint64_t examples) {
      json j = open;
      if (!training.is_null()) j["training"] = training;
      return recipe_from(recipe_of(j, plan_from(j, which, "test"), examples, "test"), "test");
    };
    for (const json& wrong : {json(1), json{{"data", 2}}, json{{"training", 3}}, json{{"run", 4}}})
      CHECK_THROWS_AS(recipe_of(wrong, stage_plan::of(stage::align), 9, "test"), io_error);
    const recipe a = staged(nullptr, stage::align, 558128);
    CHECK(a.training.rate.steps == 2181);
    CHECK(a.training.rate.warmup == 65);
    CHECK(a.training.rate.first_update_zero);
    CHECK(a.training.normalisation == normalisation::mean_of_means);
    CHECK(a.batch == 256);
    CHECK(a.micro_batch == 16);
    CHECK(a.data.labels == labelling::caption);
    CHECK(a.data.sampling == "distributed");
    CHECK(a.freeze == std::vector<std::string>{"vision_backbone", "llm_backbone"});
    CHECK(a.training.checkpoint_every == 0);
    const recipe f = staged({{"epochs", 1}, {"batch", 8}, {"learning_rate", 0.5}, {"seed", 3}},
                            stage::finetune, 81);
    CHECK(f.training.rate.steps == 11);
    CHECK(f.training.rate.peak == 0.5);
    CHECK(f.micro_batch == 8);
    CHECK(f.seed == 3);
    CHECK(f.data.labels == labelling::answers);
    CHECK(f.data.sampling == "split-modality");
    CHECK(f.freeze == std::vector<std::string>{"vision_backbone"});
    CHECK(staged(nullptr, stage::full_finetune, 128).freeze.empty());
    CHECK_THROWS_AS(staged({{"batch", 9}, {"micro_batch", 2}}, stage::align, 9), error);
    CHECK_THROWS_AS(staged({{"epoch", 1}}, stage::align, 9), io_error);
  }
}
