// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// From a name to a folder with the model: ids are put together from a hub, and then need none.
#include "mlmamba/models/published/resolve.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "io/hub_server.hpp"
#include "io/model_files.hpp"
#include "io/temporary.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "models/ml_mamba_case.hpp"

using namespace mlmamba;
using namespace mlmamba::test;
namespace fs = std::filesystem;
using E = reference_f32;

namespace {

std::string bytes_of(const file_maker& maker) {
  const temporary_folder folder;
  maker.write(folder / "x");
  return slurp(folder / "x");
}

/// A hub, a cache for it and one for models.
struct fixture {
  temporary_folder folder;
  http_server server;
  hub_options options;
  explicit fixture(fake_hub h) : server(std::move(h)) {
    options.endpoint = server.address();
    options.cache = folder / "hub";
    options.retries = 0;
  }
  fs::path models() const { return folder / "models"; }
  fs::path resolved(const std::string& what) {
    hub files(options);
    return resolve(what, files, models());
  }
};
std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& e : fs::directory_iterator(folder)) {
    CHECK(fs::is_regular_file(e.path()));  // no link leads nowhere
    names.insert(e.path().filename().string());
  }
  return names;
}

}  // namespace

TEST_SUITE("resolve_test") {
  TEST_CASE("a folder is itself, and asks nobody") {
    const temporary_folder folder;
    const std::string here = (folder / "").string();
    CHECK(resolve(here) == here);
    CHECK(contains(message_of<error>([&] { resolve(here + "none"); }),
                   "none\": there is no such folder"));
  }

  TEST_CASE("a language model by id is loaded, afterwards without a network") {
    using language = mamba_lm<E>;
    language lm(verify::tiny_language());
    randomise(lm, 3);
    for (const char* weights : {"model.safetensors", "pytorch_model.bin"}) {
      fixture f(
          {.files = {
               {"state-spaces/mamba2-130m/config.json", published<language>::config(lm).dump()},
               {"state-spaces/mamba2-130m/" + std::string(weights), bytes_of(file_maker(lm))},
               {"EleutherAI/gpt-neox-20b/tokenizer.json", "{}"}}});
      const fs::path at = f.resolved("mamba2-130m");
      CHECK(at == f.models() / "mamba2-130m");
      CHECK(names_in(at) ==
            std::set<std::string>{"config.json", "tokenizer.json",
                                  "model" + fs::path(weights).extension().string()});
      if (fs::path(weights).extension() == ".safetensors")
        CHECK(all_values(checkpoint{at}.load<language>()) == all_values(lm));
      const auto asked = f.server.requests().size();
      f.options.offline = true;
      CHECK(f.resolved("mamba2-130m") == at);
      CHECK(f.server.requests().size() == asked);
    }
  }

  TEST_CASE("towers and language model of a model to train, with the names they have in it") {
    auto model = verify::make_tiny_ml_mamba<E>(2);
    randomise(model, 1);
    const auto& m = preset::model_of("mlmamba-one-epoch+3b");
    const file_maker dino(model.vision_backbone.first), siglip(model.vision_backbone.second);
    fixture f(
        {.files = {
             {std::string(m.vision().tower[0].repository) + "/model.safetensors", bytes_of(dino)},
             {std::string(m.vision().tower[1].repository) + "/open_clip_model.safetensors",
              bytes_of(siglip)},
             {"state-spaces/mamba2-2.7b/model.safetensors",
              bytes_of(file_maker(model.llm_backbone))},
             {"EleutherAI/gpt-neox-20b/tokenizer.json", "{}"}}});
    hub files(f.options);
    const fs::path at = resolve_untrained("mlmamba-one-epoch+3b", files, f.models());
    const json config = read_json(at / "config.json");
    CHECK(config.at("vision") == config_of(m.vision()));
    CHECK(config.at("llm").at("n_layer") == 64);
    CHECK(config.at("chat_format") == "zephyr");
    // the tiny model of these weights, through the same list of parts
    json tiny = published<verify::tiny_ml_mamba<E>>::config(model);
    tiny["weights"] = config.at("weights");
    write_file(at / "config.json", std::string_view(tiny.dump()));
    const auto loaded = checkpoint{at}.load<verify::tiny_ml_mamba<E>>({.missing = missing::keep});
    const auto want = all_values(model), got = all_values(loaded);
    std::size_t same = 0;
    for (const auto& array : want)
      if (array.first.starts_with("vision_backbone") || array.first.starts_with("llm_backbone")) {
        INFO(array.first);
        CHECK(got.at(array.first) == array.second);
        ++same;
      }
    CHECK(same > 20);
  }

  TEST_CASE("the flagship's folder has all parts; its config says which model it is") {
    const auto& m = preset::model_of("mlmamba+3b");
    fixture f({.files = {{"huangwenjun1994/ML-Mamba/latest-checkpoint.pt", "checkpoint"},
                         {std::string(m.vision().tower[0].repository) + "/model.safetensors", "d"},
                         {std::string(m.vision().tower[1].repository) + "/model.safetensors", "s"},
                         {"EleutherAI/gpt-neox-20b/tokenizer.json", "{}"}}});
    const fs::path at = f.resolved("MLMamba-DINOSigLIP 3B");
    CHECK(at == f.resolved("mlmamba+3b"));
    CHECK(names_in(at) ==
          std::set<std::string>{"config.json", "tokenizer.json", "latest-checkpoint.pt",
                                "dino_featurizer.safetensors", "siglip_featurizer.safetensors"});
    CHECK(slurp(at / "siglip_featurizer.safetensors") == "s");
    json config = read_json(at / "config.json");
    CHECK(config.at("weights") == json::parse(R"([{"file": "latest-checkpoint.pt"},
            {"file": "dino_featurizer.safetensors", "prefix": "vision_backbone.dino_featurizer."},
            {"file": "siglip_featurizer.safetensors",
             "prefix": "vision_backbone.siglip_featurizer."}])"));
    config.erase("weights");
    CHECK(config == config_of(m));
  }

  TEST_CASE("vision backbones: one tower as a folder of its own, two as parts") {
    const vit<E> tower(make_vit_config(vit_kind::siglip, 12, 3, 4, 2, 2));
    const auto& both = preset::vision_backbone_of("dinosiglip-vit-so-384px");
    fake_hub h;
    for (const auto& t : both.tower)
      h.files[std::string(t.repository) + "/model.safetensors"] = bytes_of(file_maker(tower));
    fixture f(h);
    const fs::path one = f.resolved("siglip-vit-so400m-384px");
    CHECK(vit_config_from(read_json(one / "config.json"), "c").image_size == 384);
    json config = published<vit<E>>::config(tower);
    config["weights"] = read_json(one / "config.json").at("weights");
    write_file(one / "config.json", std::string_view(config.dump()));
    CHECK(all_values(checkpoint{one}.load<vit<E>>()).size() == all_values(tower).size());
    const fs::path two = f.resolved("dinosiglip-vit-so-384px");
    CHECK(towers_from(read_json(two / "config.json"), "c").size() == 2);
    CHECK(names_in(two).size() == 3);
  }

  TEST_CASE("any repository: in one file, in several, with and without a tokenizer") {
    using language = mamba_lm<E>;
    language lm(verify::tiny_language());
    randomise(lm, 4);
    file_maker all(lm), first(lm), second(lm);
    json map = json::object();
    bool odd = false;
    for (const auto& [name, a] : all.arrays) {
      (odd ? first : second).arrays.erase(name);
      map[name] = odd ? "two.safetensors" : "one.safetensors";
      odd = !odd;
    }
    const std::string config = published<language>::config(lm).dump();
    fixture f(
        {.files = {
             {"me/whole/config.json", config},
             {"me/whole/model.safetensors", bytes_of(all)},
             {"me/whole/tokenizer.json", "{}"},
             {"me/parts/config.json", config},
             {"me/parts/model.safetensors.index.json", json{{"weight_map", map}}.dump()},
             {"me/parts/one.safetensors", bytes_of(first)},
             {"me/parts/two.safetensors", bytes_of(second)},
             {"me/bad/config.json", config},
             {"me/bad/model.safetensors.index.json", R"({"weight_map": {"a": "../../../x"}})"}}});
    const fs::path whole = f.resolved("me/whole");
    CHECK(names_in(whole).contains("tokenizer.json"));
    CHECK(all_values(checkpoint{whole}.load<language>()) == all_values(lm));
    const fs::path parts = f.resolved("me/parts");
    CHECK(all_values(checkpoint{parts}.load<language>()) == all_values(lm));
    f.options.offline = true;
    CHECK(f.resolved("me/whole") == whole);
    CHECK(f.resolved("me/parts") == parts);
    f.options.offline = false;
    CHECK(contains(message_of<io_error>([&] { f.resolved("me/bad"); }), "a path without .."));
    CHECK(contains(message_of<io_error>([&] { f.resolved("me/none"); }),
                   "model \"me/none\": there is no such folder, and as a repository: "));
  }

  TEST_CASE("what is not known, and what can't be had") {
    fixture f({});
    const auto said = [&](const std::string& what) {
      return message_of<error>([&] { f.resolved(what); });
    };
    CHECK(contains(said("mamba2-2.7"), "did you mean mamba2-2.7b?"));
    CHECK(contains(said("/no/such/folder"), "\"/no/such/folder\": there is no such folder"));
    CHECK(contains(said("../no/such"), "there is no such folder"));
    CHECK(contains(said("llava-v15"), "a data set; a model is wanted"));
    CHECK(contains(said("mlmamba-ldpnet+3b"), "no published weights, only a recipe"));
    CHECK(f.server.requests().empty());
    CHECK(contains(said("mlmamba+3b"), "huangwenjun1994/ML-Mamba/latest-checkpoint.pt: "));
    CHECK(!fs::exists(f.models()));  // a failed start leaves no folder
  }

  TEST_CASE("the folders are in the user's cache") {
    ::setenv("MLMAMBA_CACHE", "/somewhere", 1);
    CHECK(default_model_cache() == "/somewhere");
    ::unsetenv("MLMAMBA_CACHE");
    CHECK(default_model_cache().parent_path().filename() == "mlmamba");
  }
}
