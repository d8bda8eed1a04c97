// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Models in the layouts in which they are published, as PyTorch wrote them: the same tokens, logits
// and answers as there. The files are made by tests/golden/published_cases.py.
#include <doctest/doctest.h>

#include <cmath>

#include "io/model_files.hpp"
#include "io/temporary.hpp"
#include "mlmamba/backend/cpu.hpp"
#include "mlmamba/io/torch_write.hpp"
#include "mlmamba/models/connectors/any.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "mlmamba/nn/mamba1.hpp"
#include "mlmamba/ops/reduce.hpp"

using namespace mlmamba;
using mlmamba::test::message_of;
using mlmamba::test::slurp;
using mlmamba::test::spill;
using mlmamba::test::temporary_folder;
using mlmamba::test::test_data;

namespace {

using E = cpu_f32;
using towers = fused<vit<E>, vit<E>>;
using language = mamba_lm<E>;
using language1 = mamba_lm<E, nn::mamba1>;
using seeing = ml_mamba<towers, any_connector<E>, language>;
using seeing1 = ml_mamba<towers, any_connector<E>, language1>;

std::filesystem::path golden(const std::string& name) {
  return test_data("golden/published/" + name);
}

/// The largest difference, as a part of the largest value.
template <class V>
double difference(const V& got, const safetensors_entry& want) {
  const auto values = read_values<float>(want);
  REQUIRE(std::size_t(got.count()) == values.size());
  double most = 0, size = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    most = std::fmax(most, std::fabs(double(got.data[i]) - double(values[i])));
    size = std::fmax(size, std::fabs(double(values[i])));
  }
  return most / size;
}

template <int R>
tensor<float, R> pixels_or_ids(const safetensors_entry& e) {
  shape<R> n{};
  for (int i = 0; i < R; ++i) n.n[i] = e.shape[std::size_t(i)];
  tensor<float, R> t(n);
  read_values(e, std::span<float>(t.data(), std::size_t(t.count())));
  return t;
}

/// Logits of all positions, and the tokens that follow greedily, against a file's.
template <class Model>
void check_answers(const Model& model, const safetensors_file& answers) {
  context<backend::cpu> ctx;
  auto frame = ctx.scratch.make_frame();
  tensor<std::int32_t, 2> ids({1, answers.at("in.input_ids").shape[1]});
  read_values(answers.at("in.input_ids"),
              std::span<std::int32_t>(ids.data(), std::size_t(ids.count())));
  std::vector<tensor<float, 4>> held;
  for (const char* name : {"in.pixels.dino", "in.pixels.siglip"})
    if (const auto* e = answers.find(name)) held.push_back(pixels_or_ids<4>(*e));
  const std::vector<in<E, 4>> x(held.begin(), held.end());
  typename Model::saved s;
  auto state = model.make_state(1);
  in_accum<E, 2> next;
  if constexpr (requires { model.vision_backbone; }) {
    CHECK(difference(model.tokens(ctx, model.features(ctx, x)), answers.at("out.tokens")) < 1e-5);
    CHECK(difference(model.forward(ctx, x, ids, s), answers.at("out.logits")) < 1e-4);
    next = model.prefill(ctx, x, ids, state);
  } else {
    CHECK(difference(model.forward(ctx, model.embed(ctx, ids, s), s), answers.at("out.logits")) <
          1e-4);
    next = model.prefill(ctx, model.embed(ctx, ids), state);
  }
  const auto want = read_values<std::int32_t>(answers.at("out.greedy"));
  REQUIRE(want.size() == 32);
  std::vector<std::int32_t> got;
  tensor<std::int32_t, 1> token({1});
  for (std::size_t i = 0; i < want.size(); ++i) {
    run(ctx, ops::argmax<E, float>{.x = next, .index = token});
    got.push_back(token(0));
    next = model.step(ctx, in_index<E, 1>(token.view()), state);
  }
  CHECK(got == want);
}
template <class Model>
void check_golden(const std::string& name) {
  const checkpoint files{golden(name)};
  check_answers(files.load<Model>(), safetensors_file::open(golden(name + "_answers.safetensors")));
}

/// A copy of a golden folder, to be changed.
struct copied {
  temporary_folder folder;
  explicit copied(const std::string& name) {
    std::filesystem::copy(golden(name), folder / "m", std::filesystem::copy_options::recursive);
  }
  std::filesystem::path operator/(const std::string& name) const { return folder / ("m/" + name); }
};

}  // namespace

TEST_SUITE("published_files_test") {
  TEST_CASE("ML-Mamba as its authors save it, towers in timm's and OpenCLIP's files") {
    check_golden<seeing>("ml_mamba");
  }
  TEST_CASE("Cobra, DINOv2 as Meta stores it") { check_golden<seeing1>("cobra"); }
  TEST_CASE("state-spaces: pytorch_model.bin in bf16") { check_golden<language>("state_spaces"); }
  TEST_CASE("FalconMamba in shards") { check_golden<language1>("falcon"); }

  TEST_CASE("the file of arrays may be named instead of its folder") {
    const auto a = checkpoint{golden("ml_mamba")}.arrays();
    const auto b = checkpoint{golden("ml_mamba/checkpoints/latest-checkpoint.pt")}.arrays();
    CHECK(a.size() == b.size());
    CHECK(checkpoint{golden("state_spaces/pytorch_model.bin")}.config().at("d_model") == 24);
  }

  TEST_CASE("towers that are missing are named, with the places where they were looked for") {
    const copied m("ml_mamba");
    std::filesystem::rename(m / "timm", m / "elsewhere");
    auto text = message_of<io_error>([&] { (void)checkpoint{m / ""}.load<seeing>(); });
    for (const char* words : {"no weights of the vision tower \"dino_featurizer\"",
                              "with \"dino\" in its name", "m/vision", "m/timm"})
      CHECK(text.find(words) != std::string::npos);
    CHECK(text.find('\n') == std::string::npos);
    (void)checkpoint{m / "", {m / "elsewhere"}}.load<seeing>();
    std::filesystem::remove_all(m / "elsewhere/siglip");
    text = message_of<io_error>([&] {
      (void)checkpoint{m / "", {m / "elsewhere"}}.load<seeing>();
    });
    CHECK(text.find("\"siglip_featurizer\"") != std::string::npos);
    CHECK(text.find("with \"siglip\" in its name") != std::string::npos);
    CHECK(text.find("m/elsewhere") != std::string::npos);
    // One with that in its name, in any case; or one called so, whatever else is there.
    const auto siglip = slurp(golden("ml_mamba/timm/siglip/open_clip_pytorch_model.bin"));
    spill(m / "elsewhere/ViT-SO400M-14-SigLIP-384.bin", siglip);
    (void)checkpoint{m / "", {m / "elsewhere"}}.load<seeing>();
    spill(m / "elsewhere/other-siglip.bin", siglip);
    text = message_of<io_error>([&] {
      (void)checkpoint{m / "", {m / "elsewhere"}}.load<seeing>();
    });
    CHECK(text.find("2 files or folders with \"siglip\" in their names") != std::string::npos);
    spill(m / "elsewhere/siglip.pth", siglip);
    (void)checkpoint{m / "", {m / "elsewhere"}}.load<seeing>();
  }

  TEST_CASE("a checkpoint with parts that are missing or too much is refused") {
    const copied m("ml_mamba");
    const auto file = torch_file::open(golden("ml_mamba/checkpoints/latest-checkpoint.pt"));
    auto arrays = file.entries();
    const auto attempt = [&] {
      write_torch_file(m / "checkpoints/latest-checkpoint.pt", arrays, file.dicts());
      return message_of<io_error>([&] { (void)checkpoint{m / ""}.load<seeing>(); });
    };
    CHECK(attempt() == "nothing was thrown");
    std::erase_if(arrays, [](const auto& e) { return e.name.starts_with("model.projector."); });
    CHECK(attempt().find("\"projector.projector.0.weight\"") != std::string::npos);
    arrays = file.entries();
    arrays[0].name = "model.llm_backbone.more";
    CHECK(attempt().find("missing: \"llm_backbone.backbone.embedding.weight\"") !=
          std::string::npos);
    arrays = file.entries();
    arrays[0].shape = {arrays[0].count()};
    CHECK(attempt().find("the model wants (48, 16)") != std::string::npos);
  }
}
