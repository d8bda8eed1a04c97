// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Training from parts: which weights a model begins with, and the recipes of models with an id.
#include "mlmamba/train/parts.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <map>

#include "io/model_files.hpp"
#include "io/temporary.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/io/weight_convert.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/train/preset_recipe.hpp"
#include "mlmamba/train/stage_recipe.hpp"

using namespace mlmamba;
using namespace mlmamba::train;
using mlmamba::test::all_values;
using mlmamba::test::message_of;

namespace {

using E = reference_f32;
using model_type = ml_mamba<fused<vit<E>, vit<E>>, scan_connector<E>, mamba_lm<E>>;

/// A tiny model in the original's layout: its checkpoint, and timm's files of its towers.
const std::filesystem::path golden = test::test_data("golden/published/ml_mamba");
const std::filesystem::path checkpoint_pt = golden / "checkpoints/latest-checkpoint.pt";
const std::filesystem::path timm = golden / "timm";

json config() { return read_json(golden / "config.json"); }

using values = std::map<std::string, std::vector<float>>;
/// As training begins with these parts.
values begun(const model_parts& p, std::uint64_t seed = 7) {
  auto model = published<model_type>::make(config(), "test");
  load_parts(model, p, config(), seed, "test");
  return all_values(model);
}
std::string part_of_path(const std::string& path) {
  return path.starts_with("vision_backbone.") ? "vision"
         : path.starts_with("llm_backbone.")  ? "language"
                                              : "connector";
}
/// Which parts are the same in all their arrays, and which in none.
std::map<std::string, std::string> compared(const values& a, const values& b) {
  std::map<std::string, std::string> out;
  REQUIRE(a.size() == b.size());
  for (const auto& [path, v] : a) {
    // what training from scratch begins with as ones or zeros may be equal by chance
    const bool constant =
        std::all_of(v.begin(), v.end(), [first = v[0]](float x) { return x == first; });
    const std::string now = v == b.at(path) ? "same" : "other";
    std::string& said = out[part_of_path(path)];
    if (now == "same" && constant) continue;
    if (said.empty()) said = now;
    if (said != now) said = "mixed: " + path;
  }
  return out;
}

/// The arrays of one part of the golden's checkpoint, as a file of their own.
void write_part(const std::string& prefix, const std::filesystem::path& to, bool keep_prefix) {
  std::vector<safetensors_entry> some;
  for (safetensors_entry e : read_model_weights(checkpoint_pt)) {
    if (!e.name.starts_with(prefix)) continue;
    if (!keep_prefix) e.name.erase(0, prefix.size());
    some.push_back(std::move(e));
  }
  REQUIRE(!some.empty());
  write_safetensors(to, some);
}

}  // namespace

TEST_SUITE("parts_test") {
  TEST_CASE("a whole checkpoint gives every part, in every stage") {
    const values want = all_values(checkpoint(golden).load<model_type>());
    CHECK(begun({.from = golden}) == want);
    CHECK(begun({.from = checkpoint_pt}) == want);
  }

  TEST_CASE("towers and language model are taken where they are published, the connector is new") {
    test::temporary_folder folder;
    const values want = all_values(checkpoint(golden).load<model_type>());
    write_part("llm_backbone.", folder / "model.safetensors", false);
    const auto at = [&](const model_parts& p) { return compared(begun(p), want); };
    using which = std::map<std::string, std::string>;
    CHECK(at({}) == which{{"vision", "other"}, {"language", "other"}, {"connector", "other"}});
    CHECK(at({.language = folder / "model.safetensors", .vision = {timm}}) ==
          which{{"vision", "same"}, {"language", "same"}, {"connector", "other"}});
    CHECK(at({.vision = {timm}}) ==
          which{{"vision", "same"}, {"language", "other"}, {"connector", "other"}});
    // a new connector is the same for the same seed, and another for another
    CHECK(begun({.vision = {timm}}) == begun({.vision = {timm}}));
    CHECK(begun({.vision = {timm}}) != begun({.vision = {timm}}, 8));
  }

  TEST_CASE("an aligned connector is stem, scan module and projector") {
    test::temporary_folder folder;
    const values want = all_values(checkpoint(golden).load<model_type>());
    write_part("llm_backbone.", folder / "language.safetensors", false);
    write_part("", folder / "whole.safetensors", true);  // of which the language model is left
    const auto all = begun({.language = folder / "language.safetensors",
                            .vision = {timm},
                            .connector = folder / "whole.safetensors"});
    CHECK(all == want);
    write_part("projector.", folder / "projector.safetensors", true);
    write_part("llm_backbone.", folder / "layer.safetensors", true);
    CHECK(message_of<error>([&] {
            begun({.connector = folder / "projector.safetensors"});
          }).find("arrays are missing in what is given") != std::string::npos);
    CHECK(message_of<error>([&] {
            begun({.connector = folder / "layer.safetensors"});
          }).find("it has no connector") != std::string::npos);
  }

  TEST_CASE("a part that is not whole is refused") {
    test::temporary_folder folder;
    write_part("llm_backbone.backbone.layers.0.", folder / "layer.safetensors", false);
    CHECK(message_of<error>([&] {
            begun({.language = folder / "layer.safetensors"});
          }).find("arrays are missing in what is given") != std::string::npos);
    std::filesystem::create_directory(folder / "dino");
    std::filesystem::copy(timm / "vit_large_patch14_reg4_dinov2.lvd142m.safetensors",
                          folder / "dino");
    CHECK(message_of<error>([&] {
            begun({.vision = {folder / "dino"}});
          }).find("vision tower \"siglip") != std::string::npos);
    CHECK(message_of<error>([&] { begun({.from = folder / "none"}); }).find("none") !=
          std::string::npos);
    CHECK(message_of<error>([] {
            parts_from(json{{"from", "a"}, {"language", "b"}}, "recipe");
          }).find("one too many") != std::string::npos);
    CHECK(message_of<error>([] {
            parts_from(json{{"lm", "a"}}, "recipe");
          }).find("\"lm\"") != std::string::npos);
  }

  TEST_CASE("training does not write into the files of its parts") {
    test::temporary_folder folder;
    write_part("llm_backbone.", folder / "model.safetensors", false);
    auto model = published<model_type>::make(config(), "test");
    load_parts(model, {.language = folder / "model.safetensors"}, config(), 7, "test");
    std::filesystem::resize_file(folder / "model.safetensors", 0);  // a mapping would raise SIGBUS
    double sum = 0;
    for (const auto& [path, v] : all_values(model)) sum += v[0];
    CHECK(std::isfinite(sum));
  }

  TEST_CASE("fine-tuning finds the one aligned run beside it") {
    test::temporary_folder folder;
    const auto run = folder / "data+m+stage-finetune+x7";
    const auto find = [&] { return aligned_connector(run, "m", 7); };
    CHECK(message_of<error>(find).find("no aligned connector") != std::string::npos);
    for (const char* other : {"m+stage-align+x8", "n+stage-align+x7", "m+stage-finetune+x7",
                              "xm+stage-align+x7", "m+stage-align+x77"})
      std::filesystem::create_directories(folder / other / "checkpoints/step-000001");
    CHECK(message_of<error>(find).find("no aligned connector") != std::string::npos);
    std::filesystem::create_directories(folder / "llava-lrv+m+stage-align+x7");  // five fields
    CHECK(message_of<error>(find).find("no checkpoint yet") != std::string::npos);
    const auto checkpoints = folder / "llava-lrv+m+stage-align+x7/checkpoints";
    for (const char* step : {"step-000002-epoch-00-loss=1.5000", "step-000010-epoch-00-loss=1.0000",
                             "step-000011-epoch-00-loss=1.0000.tmp"})
      std::filesystem::create_directories(checkpoints / step);
    CHECK(find() == checkpoints / "step-000010-epoch-00-loss=1.0000/model.safetensors");
    CHECK(aligned_connector(run / "", "m", 7) == find());
    std::filesystem::create_directories(folder / "m+stage-align+x7/checkpoints/step-000001");
    CHECK(message_of<error>(find).find("2 aligned connectors") != std::string::npos);
  }

  TEST_CASE("the arch_specifier says whether fine-tuning wants an aligned connector") {
    const auto wants = [](const char* text) {
      return wants_alignment(parse_json(text, "test"), "test");
    };
    CHECK_FALSE(wants(R"({})"));
    CHECK_FALSE(wants(R"({"arch_specifier": "no-align+fused-gelu-mlp"})"));
    CHECK(wants(R"({"arch_specifier": "fused-gelu-mlp"})"));
    CHECK(wants(R"({"connector": {"type": "scan", "arch_specifier": "gelu-mlp"}})"));
    CHECK_FALSE(wants(R"({"connector": {"type": "linear"}})"));
    CHECK(wants(R"({"model": {"arch_specifier": "linear"}})"));
  }

  TEST_CASE("every model with an id has the original's recipe") {
    const auto numbers = [](std::string_view id, stage s) {
      const stage_plan p = plan_from(recipe_of(preset::model_of(id), s), s, "test");
      return std::vector<double>{double(p.epochs), double(p.batch),    double(p.micro_batch),
                                 p.learning_rate,  p.weight_decay,     p.clip,
                                 p.warmup_ratio,   double(p.max_steps)};
    };
    for (const model_preset& m : preset::models) {
      CAPTURE(m.id);
      const double epochs = m.id == "mlmamba-one-epoch+3b" ? 1 : 2;
      CHECK(numbers(m.id, stage::align) == std::vector<double>{1, 256, 16, 1e-3, 0, 1, 0.03, 0});
      for (const stage s : {stage::finetune, stage::full_finetune})
        CHECK(numbers(m.id, s) == std::vector<double>{epochs, 128, 16, 2e-5, 0.1, 1, 0.03, 0});
      const json r = recipe_of(m, stage::finetune);
      CHECK(towers_from(r.at("model"), "test").size() == m.vision().towers());
      CHECK_FALSE(wants_alignment(r.at("model"), "test"));
      CHECK(r.at("recompute") == true);
      CHECK(r.at("data").at("max_length") == 2048);
      CHECK(r.at("chat") == "zephyr");
    }
  }

  TEST_CASE("fields of a preset take other values, in the original's names") {
    const preset_fields fields{
        {"finetune_epochs", "3"},          {"finetune_max_steps", "50"},
        {"align_learning_rate", "0.002"},  {"vision_backbone_id", "siglip-vit-so400m-384px"},
        {"arch_specifier", "gelu-mlp"},    {"image_resize_strategy", "letterbox"},
        {"llm_backbone_id", "mamba2-130m"}};
    const auto m = with_fields(preset::model_of("mlmamba+3b"), fields);
    const json r = recipe_of(m, stage::finetune, 4);
    const stage_plan p = plan_from(r, stage::finetune, "test");
    CHECK(p.epochs == 3);
    CHECK(p.max_steps == 50);
    CHECK(p.ranks == 4);
    CHECK(plan_from(recipe_of(m, stage::align), stage::align, "test").learning_rate == 0.002);
    CHECK(towers_from(r.at("model"), "test").size() == 1);
    CHECK(picture_rule(r.at("model"), "test")[0].strategy == resize_strategy::letterbox);
    CHECK(r.at("model").at("llm").at("d_model") == 768);
    CHECK(wants_alignment(r.at("model"), "test"));
    const auto refused = [](const char* name, const char* value) {
      return message_of<error>([&] {
        with_fields(preset::model_of("mlmamba+3b"), {{name, value}});
      });
    };
    for (const std::string& name : preset_field_names())
      CHECK(refused(name.c_str(), "?").find("\"?\"") != std::string::npos);
    CHECK(refused("finetune_epoch", "1").find("is no field") != std::string::npos);
    CHECK(refused("finetune_epochs", "1.5").find("a number") != std::string::npos);
    CHECK(refused("llm_backbone_id", "mamba2-2.7").find("mean mamba2-2.7b?") != std::string::npos);
  }

  TEST_CASE("a recipe may name the published decay and the ranks") {
    json r{{"training", {{"batch", 8}, {"micro_batch", 2}, {"ranks", 2}}}};
    r["model"] = json::object(), r["data"] = json::object();
    stage_plan p = plan_from(r, stage::finetune, "test");
    CHECK(p.ranks == 2);
    CHECK(p.accumulated() == 2);
    CHECK(recipe_of(r, p, 100, "test").at("training").at("weight_decay") == 0.1);
    r["training"]["published_decay"] = true;
    p = plan_from(r, stage::finetune, "test");
    const json whole = recipe_of(r, p, 100, "test");
    CHECK(whole.at("training").at("weight_decay") == 0);
    const recipe read = recipe_from(whole, "test");
    CHECK(read.ranks == 2);
    CHECK(read.training.optimizer.weight_decay == 0);
    r["training"]["ranks"] = 3;
    CHECK(message_of<error>([&] { plan_from(r, stage::finetune, "test"); }).find("on 3 ranks") !=
          std::string::npos);
  }
}
