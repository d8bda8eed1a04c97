// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Model folders: what is saved is loaded, published names are understood, and nothing bad gets in.
#include <doctest/doctest.h>

#include "io/model_files.hpp"
#include "io/temporary.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/published/mamba_lm.hpp"
#include "mlmamba/models/published/vit.hpp"
#include "models/tiny_language.hpp"

using namespace mlmamba;
using mlmamba::test::all_values;
using mlmamba::test::file_maker;
using mlmamba::test::message_of;
using mlmamba::test::randomise;

namespace {

using language = mamba_lm<reference_f32>;

json tiny_llm_config() {
  return parse_json(R"({"d_model": 8, "n_layer": 2, "vocab_size": 9, "pad_vocab_size_multiple": 4,
                        "ssm_cfg": {"layer": "Mamba2", "headdim": 4, "d_state": 3}})",
                    "test");
}

}  // namespace

TEST_SUITE("checkpoint_test") {
  TEST_CASE("missing, unexpected and misshapen arrays are named, and nothing changes") {
    test::temporary_folder folder;
    auto config = verify::tiny_language(4, 2);
    language model(config), other(config);
    randomise(model, 1), randomise(other, 2);
    const auto before = all_values(other);
    const auto attempt = [&](const file_maker& f, const load_options& o = {}) {
      f.write(folder / "a.safetensors");
      const auto set = safetensors_set::open(folder / "a.safetensors");
      named_arrays named{"a.safetensors", {}};
      for (const auto& [name, e] : set.entries()) named.add(name, *e);
      load_parameters(other, named, o);
    };
    file_maker missing_one(model);
    missing_one.arrays.erase("backbone.layers.1.mixer.dt_bias");
    auto text = message_of<io_error>([&] { attempt(missing_one); });
    CHECK(text.find("1 of the 20 arrays that the model wants are missing: "
                    "\"backbone.layers.1.mixer.dt_bias\"") != std::string::npos);
    file_maker extra(model);
    extra.arrays["lm_head.weight"] = {{2}, {1, 2}};
    text = message_of<io_error>([&] { attempt(extra); });
    CHECK(text.find("1 arrays are none of the model's: \"lm_head.weight\"") != std::string::npos);
    file_maker wrong(model);
    wrong.arrays["backbone.layers.1.norm.weight"] = {{3}, {1, 2, 3}};
    text = message_of<io_error>([&] { attempt(wrong); });
    CHECK(text.find("\"backbone.layers.1.norm.weight\" is (3), the model wants (4)") !=
          std::string::npos);
    CHECK(all_values(other) == before);  // whatever came first

    attempt(extra, {.ignore_unexpected = true});
    CHECK(all_values(other) == all_values(model));
    randomise(other, 3);
    auto want = all_values(model);
    want.at("backbone.layers.1.mixer.dt_bias") =
        all_values(other).at("backbone.layers.1.mixer.dt_bias");
    attempt(missing_one, {.missing = missing::keep});
    CHECK(all_values(other) == want);
  }

  TEST_CASE("values are converted, or stay in the file; training changes no file") {
    test::temporary_folder folder;
    language model(verify::tiny_language(4, 1));
    randomise(model, 1);
    save_model(model, folder / "m");
    const checkpoint files{folder / "m"};
    auto first = files.load<language>(), second = files.load<language>();
    float* p = first.backbone.embedding.weight.value.data();
    p[0] += 1000;
    CHECK(second.backbone.embedding.weight.value.data()[0] ==
          model.backbone.embedding.weight.value.data()[0]);
    CHECK(all_values(files.load<language>()) == all_values(model));
    const auto narrow = files.load<mamba_lm<on<backend::reference, bf16>>>();
    CHECK(float(narrow.backbone.embedding.weight.value.data()[3]) ==
          float(bf16(model.backbone.embedding.weight.value.data()[3])));
    CHECK(narrow.backbone.layers[0].norm.weight.value.data()[1] ==
          model.backbone.layers[0].norm.weight.value.data()[1]);  // vectors stay wide
    const auto half = files.load<mamba_lm<reference_f16>>();
    CHECK(float(half.backbone.embedding.weight.value.data()[3]) ==
          float(f16(model.backbone.embedding.weight.value.data()[3])));
    save_model(half, folder / "half");
    const checkpoint half_files{folder / "half"};
    CHECK(safetensors_set::open(folder / "half").at("backbone.embedding.weight").type ==
          dtype::f16);
    CHECK(all_values(half_files.load<mamba_lm<reference_f16>>()) == all_values(half));
    const auto wide = files.load<mamba_lm<exact>>();
    CHECK(wide.backbone.norm_f.weight.value.data()[1] ==
          double(model.backbone.norm_f.weight.value.data()[1]));
  }

  TEST_CASE("names of Hugging Face, state-spaces and Cobra") {
    test::temporary_folder folder;
    language model(verify::tiny_language(8, 1));
    randomise(model, 1);
    std::filesystem::create_directories(folder / "m");
    const auto load = [&](const file_maker& f, const std::string& config) {
      f.write(folder / "m/model.safetensors");
      write_file(folder / "m/config.json", std::string_view(config));
      return all_values(checkpoint{folder / "m"}.load<language>());
    };
    file_maker hf(model);
    hf.rename("backbone.embedding.weight", "backbone.embeddings.weight");
    CHECK(load(hf, R"({"model_type": "mamba2", "hidden_size": 8, "num_hidden_layers": 1,
                       "num_heads": 4, "head_dim": 4, "state_size": 3, "n_groups": 1, "expand": 2,
                       "conv_kernel": 4, "chunk_size": 4, "vocab_size": 8,
                       "time_step_limit": [0.0, Infinity], "tie_word_embeddings": true})") ==
          all_values(model));
    file_maker cobra(model);
    cobra.arrays["lm_head.weight"] = cobra.arrays["backbone.embedding.weight"];
    std::vector<std::string> names;
    for (const auto& [name, a] : cobra.arrays) names.push_back(name);
    for (const auto& name : names) cobra.rename(name, "llm." + name);
    CHECK(load(cobra, R"({"d_model": 8, "n_layer": 1, "vocab_size": 7,
                          "pad_vocab_size_multiple": 4,
                          "ssm_cfg": {"layer": "Mamba2", "headdim": 4, "d_state": 3}})") ==
          all_values(model));
  }

  TEST_CASE("towers as OpenAI names them, and positions of another grid") {
    using E = reference_f32;
    const auto c = make_vit_config(vit_kind::clip, 4, 2, 4, 2, 2);
    vit<E> tower(c), other(c);
    randomise(tower, 1);
    file_maker f(tower);
    f.rename("cls_token", "visual.class_embedding");
    f.rename("pos_embed", "visual.positional_embedding");
    f.rename("patch_embed.proj.weight", "visual.conv1.weight");
    f.rename("norm_pre.weight", "visual.ln_pre.weight");
    f.rename("norm_pre.bias", "visual.ln_pre.bias");
    const std::string at = "visual.transformer.resblocks.0.";
    for (const char* e : {"weight", "bias"}) {
      const std::string end = e, b = "blocks.0.";
      f.rename(b + "norm1." + end, at + "ln_1." + end);
      f.rename(b + "norm2." + end, at + "ln_2." + end);
      f.rename(b + "attn.qkv." + end, at + "attn.in_proj_" + end);
      f.rename(b + "attn.proj." + end, at + "attn.out_proj." + end);
      f.rename(b + "mlp.fc1." + end, at + "mlp.c_fc." + end);
      f.rename(b + "mlp.fc2." + end, at + "mlp.c_proj." + end);
    }
    f.arrays["visual.proj"] = {{4, 4}, std::vector<float>(16)};
    f.arrays["visual.ln_post.weight"] = {{4}, std::vector<float>(4)};
    for (const char* text : {"transformer.resblocks.0.ln_1.weight", "positional_embedding"})
      f.arrays[text] = {{2}, std::vector<float>(2)};  // of the text tower
    f.arrays["visual.class_embedding"].first = {4};
    f.arrays["visual.positional_embedding"].first = {5, 4};
    std::vector<safetensors_entry> entries;
    for (const auto& [name, a] : f.arrays)
      entries.push_back(entry_of<float>(name, a.first, a.second));
    load_parameters(other, published<vit<E>>::arrays(entries, c, "clip"));
    CHECK(all_values(other) == all_values(tower));

    auto larger = c;
    larger.image_size = 6;
    vit<E> big(larger);
    load_parameters(big, published<vit<E>>::arrays(entries, larger, "clip"));
    CHECK(big.pos_embed.value.size(1) == 10);
    for (index_t d = 0; d < 4; ++d)
      CHECK(big.pos_embed.value(0, 0, d) == tower.pos_embed.value(0, 0, d));
    f.arrays["visual.positional_embedding"] = {{4, 4}, std::vector<float>(16)};  // 3 are no square
    entries.clear();
    for (const auto& [name, a] : f.arrays)
      entries.push_back(entry_of<float>(name, a.first, a.second));
    CHECK_THROWS_AS(load_parameters(big, published<vit<E>>::arrays(entries, larger, "clip")),
                    io_error);
  }

  TEST_CASE("DINOv2 as its authors store it: the class position goes to the class token") {
    using E = reference_f32;
    const auto c = make_vit_config(vit_kind::dinov2_reg4, 6, 2, 4, 2, 2);  // 3 x 3 patches
    vit<E> tower(c), other(c);
    randomise(tower, 1);
    file_maker f(tower);
    f.rename("reg_token", "register_tokens");
    f.arrays["mask_token"] = {{1, 4}, std::vector<float>(4)};
    auto& token = f.arrays.at("cls_token").second;
    auto& positions = f.arrays.at("pos_embed");
    positions.first = {1, 10, 4};
    positions.second.insert(positions.second.begin(), {1, 2, 3, 4});
    for (std::size_t d = 0; d < 4; ++d) token[d] -= float(d + 1);
    std::vector<safetensors_entry> entries;
    for (const auto& [name, a] : f.arrays)
      entries.push_back(entry_of<float>(name, a.first, a.second));
    load_parameters(other, published<vit<E>>::arrays(entries, c, "dinov2"));
    for (index_t d = 0; d < 4; ++d)
      CHECK(other.cls_token.value(0, 0, d) ==
            doctest::Approx(tower.cls_token.value(0, 0, d)).epsilon(1e-5));
    const auto want = all_values(tower), got = all_values(other);
    CHECK(got.at("pos_embed") == want.at("pos_embed"));
    CHECK(got.at("reg_token") == want.at("reg_token"));
  }

  TEST_CASE("configs that can't be built are refused with the reason") {
    const auto refusal = [](const char* text) {
      return message_of<io_error>([&] { (void)mamba_config_from(parse_json(text, "c"), "c"); });
    };
    CHECK(refusal(R"({"d_model": 8, "attn_layer_idx": [3]})").find("attention") !=
          std::string::npos);
    CHECK(refusal(R"({"d_model": 8, "rms_norm": false})").find("rms_norm") != std::string::npos);
    CHECK(refusal(R"({"d_model": 8, "ssm_cfg": {"layer": "Mamba3"}})").find("Mamba3") !=
          std::string::npos);
    CHECK(refusal(R"({"d_model": -1})").find("d_model") != std::string::npos);
    CHECK(refusal(R"({"hidden_size": 8, "model_type": "llama"})").find("llama") !=
          std::string::npos);
    CHECK(refusal(R"({"hidden_size": 8, "model_type": "mamba2", "num_heads": 3, "head_dim": 4,
                      "vocab_size": 9})")
              .find("3 heads of 4") != std::string::npos);
    CHECK(refusal(R"({})").find("d_model") != std::string::npos);
    const auto tower = [](const char* text) {
      return message_of<io_error>([&] { (void)vit_config_from(parse_json(text, "c"), "c"); });
    };
    CHECK(tower(R"({"kind": "vgg"})").find("vgg") != std::string::npos);
    CHECK(tower(R"({"kind": "clip", "num_heads": 7})").find("heads") != std::string::npos);
    CHECK(tower(R"({"kind": "clip", "qk_norm": true})").find("qk_norm") != std::string::npos);
    CHECK(tower(R"({"kind": "clip", "img_size": [224, 192]})").find("square") != std::string::npos);
    CHECK(tower(R"({"kind": "clip", "mlp_ratio": -4})").find("mlp_ratio") != std::string::npos);
    CHECK(tower(R"({"kind": "clip", "act_layer": "elu"})").find("elu") != std::string::npos);
  }

  TEST_CASE("folders that hold no model") {
    test::temporary_folder folder;
    CHECK_THROWS_AS(checkpoint{folder / "absent"}, io_error);
    write_file(folder / "config.json", std::string_view("[]"));
    CHECK_THROWS_AS(checkpoint{folder / "."}, io_error);
    write_file(folder / "config.json", std::string_view(tiny_llm_config().dump()));
    CHECK_THROWS_AS((void)checkpoint{folder / "."}.load<language>(), io_error);
  }
}
