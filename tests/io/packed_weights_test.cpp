// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Quantised matrices in files: there and back without loss, hostile parts, and models on them.
#include "mlmamba/io/packed_weights.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "mlmamba/backend/cpu.hpp"
#include "mlmamba/io/checkpoint.hpp"
#include "mlmamba/models/published/mamba_lm.hpp"
#include "mlmamba/models/state.hpp"
#include "io/temporary.hpp"
#include "mlmamba/evaluate/fidelity.hpp"

using namespace mlmamba;

namespace {

tensor<float, 2> some(index_t n, index_t k) {
  tensor<float, 2> w({n, k});
  random_stream r{3, 0, 0};
  for (index_t i = 0; i < w.count(); ++i) w.data()[i] = float(r.normal());
  return w;
}
std::vector<safetensors_entry> arrays(const weight_format& f, index_t wide = 2) {
  std::vector<safetensors_entry> all;
  append_packed(all, "m", packed_matrix(some(7, 19).view(), f, wide));
  return all;
}
std::string problem(std::vector<safetensors_entry> all) {
  try {
    unpacked_weights(std::move(all), "file");
  } catch (const io_error& e) {
    return e.what();
  }
  return "";
}
safetensors_entry& named(std::vector<safetensors_entry>& all, const std::string& name) {
  for (auto& e : all)
    if (e.name == name) return e;
  FAIL("no array " << name);
  return all[0];
}

mamba_config small(bool tied) {
  mamba_config c;
  c.mixer.d_model = 32;
  c.mixer.d_state = 16;
  c.mixer.headdim = 16;
  c.n_layer = 2;
  c.vocab_size = 40;
  c.tie_embeddings = tied;
  return c;
}
template <class M>
std::vector<float> logits(const M& m) {
  using E = typename M::engine_type;
  context_of<E> ctx;
  auto state = m.make_state(1);
  tensor<std::int32_t, 1> id({1});
  std::vector<float> all;
  for (int t = 0; t < 5; ++t) {
    auto frame = ctx.scratch.make_frame();
    id(0) = 7 * t;
    const auto y = m.step(ctx, in_index<E, 1>(std::as_const(id).view()), state);
    for (index_t i = 0; i < y.size[1]; ++i) all.push_back(y(0, i));
  }
  return all;
}
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double e = 0, n = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    e += std::pow(double(a[i]) - double(b[i]), 2), n += std::pow(double(b[i]), 2);
  return std::sqrt(e / n);
}

}  // namespace

TEST_SUITE("packed_weights_test") {
  TEST_CASE("there and back") {
    for (const weight_format& f :
         {weight_format{weight_scheme::int8, 8}, weight_format{weight_scheme::int8, 0},
          weight_format{weight_scheme::int4, 8}, weight_format{weight_scheme::int4, 64},
          weight_format{weight_scheme::bf16}, weight_format{weight_scheme::f32}})
      for (index_t wide : {0, 2, 7}) {
        const auto want = packed_matrix(some(7, 19).view(), f, wide).unpacked();
        const auto back = unpacked_weights(arrays(f, wide), "file");
        REQUIRE(back.size() == 1);
        CHECK(back[0].name == "m");
        CHECK(back[0].shape == std::vector<std::int64_t>{7, 19});
        const auto got = read_values<float>(back[0]);
        CHECK(std::memcmp(got.data(), want.data(), want.bytes()) == 0);
      }
  }

  TEST_CASE("hostile parts") {
    const weight_format f{weight_scheme::int4, 8};
    CHECK(problem(arrays(f)) == "");
    for (const char* part : {".q4", ".scales", ".rest"}) {
      auto all = arrays(f);
      auto& e = named(all, std::string("m") + part);
      e.name = "other";
      CHECK_MESSAGE(problem(all).find(part) != std::string::npos, problem(all));
      all = arrays(f);
      auto& shorter = named(all, std::string("m") + part);
      shorter.shape.back() -= 1;
      CHECK_MESSAGE(problem(all).find("is wanted") != std::string::npos, problem(all));
      all = arrays(f);
      named(all, std::string("m") + part).type = dtype::f8_e4m3;
      CHECK_MESSAGE(problem(all).find("is wanted") != std::string::npos, problem(all));
    }
    const std::vector<std::int64_t> layouts[] = {{-1, 19, 8},
                                                 {7, 0, 8},
                                                 {7, 1 << 30, 8},
                                                 {7, 19, 0},
                                                 {7, 19, 9},
                                                 {7, 19, 1 << 20},
                                                 {3, 19, 8},
                                                 {std::int64_t{1} << 31, 19, 8},
                                                 {std::int64_t{1} << 62, 19, 8}};
    for (const auto& layout : layouts) {
      auto all = arrays(f);
      named(all, "m.layout") = detail::owned_entry<std::int64_t>("m.layout", {3}, layout);
      CHECK_MESSAGE(problem(all).find("want") != std::string::npos, problem(all));
    }
    auto all = arrays({weight_scheme::int8, 8});
    std::vector<std::int8_t> low(5 * 19, -128);
    named(all, "m.q8") = detail::owned_entry<std::int8_t>("m.q8", {5, 19}, low);
    CHECK(problem(all) == "file: \"m.q8\" has -128; -127 to 127 are wanted");
    all = arrays(f);
    std::vector<bf16> scales(5 * 3, bf16(std::nanf("")));
    named(all, "m.scales") = detail::owned_entry<bf16>("m.scales", {5, 3}, scales);
    CHECK(problem(all) == "file: \"m.scales\" has nan; finite scales are wanted");
  }

  TEST_CASE_TEMPLATE("a model in a folder: quantised at load, written, loaded", E, cpu_packed,
                     cpu_packed_bf16) {
    namespace fs = std::filesystem;
    for (const bool tied : {true, false}) {
      const test::temporary_folder temporary;
      const fs::path folder = temporary / "model";
      mamba_lm<cpu_f32> plain(small(tied));
      nn::initialise(plain, random_stream{5, 0, 0});
      // What is stored as activations are: the numbers of the narrowest.
      nn::for_each_parameter(plain, [](const std::string& path, auto& p) {
        if (path.find("embedding") != path.npos || path.find("conv1d.weight") != path.npos)
          for (index_t i = 0; i < p.value.count(); ++i)
            p.value.data()[i] = float(bf16(p.value.data()[i]));
      });
      save_model(plain, folder / "plain");
      using packed_lm = mamba_lm<E>;
      const checkpoint files(folder / "plain");
      using as_stored = on<backend::cpu, typename E::value, float, float>;
      const auto want = logits(files.load<mamba_lm<as_stored>>());
      // Floats are the same numbers in another order: the same bits.
      CHECK(logits(files.load<packed_lm>()) == want);
      double last = 0;
      for (const auto scheme : {weight_scheme::bf16, weight_scheme::int8, weight_scheme::int4}) {
        const weight_formats formats{{scheme, 32}, {}};
        const auto q = files.load<packed_lm>({.weights = formats});
        const auto got = logits(q);
        const double off = distance(got, want);
        CHECK_MESSAGE(off > last, to_string(scheme), ": ", off, " after ", last);
        CHECK(off < 0.3);
        last = off;
        const json how{{"weights", to_string(scheme)}, {"group", 32}};
        save_model(q, folder / "quantised", {}, {{"quantisation", how}});
        const checkpoint again(folder / "quantised");
        CHECK(again.formats().format == formats.format);
        CHECK(logits(again.load<packed_lm>({.weights = again.formats()})) == got);
        // An engine with floats sees the same weights; the head of a tied one stays wide.
        if (scheme != weight_scheme::bf16)
          CHECK(distance(logits(again.load<mamba_lm<cpu_f32>>()), want) < 0.3);
      }
      const auto kept =
          files.load<packed_lm>({.weights = {{weight_scheme::int4, 32}, {"backbone", "lm_head"}}});
      CHECK(logits(kept) == want);
      // The steps' rows of in_proj stay float.
      const auto q = files.load<packed_lm>({.weights = {{weight_scheme::int4, 32}, {}}});
      const auto& in_proj = q.backbone.layers[0].mixer.in_proj.weight.value;
      REQUIRE(in_proj.parts().size() == 2);
      CHECK(in_proj.parts()[1].rows() == small(tied).mixer.nheads());
      context<backend::cpu> ctx;
      const auto f = files.load<packed_lm>();
      const std::int32_t start[] = {3};
      const auto same =
          compare_models(ctx, f, f, {f.make_state(1), f.make_state(1)}, start, 40, 25, 1);
      CHECK(same.mean_kl == 0);
      CHECK(same.agreement == 1);
      CHECK(same.drift.back().error == 0);
      const auto float_one = files.load<mamba_lm<cpu_packed>>();
      const auto activations = compare_models(
          ctx, float_one, f, {float_one.make_state(1), f.make_state(1)}, start, 40, 25, 1);
      CHECK((activations.mean_kl == 0) == std::is_same_v<E, cpu_packed>);
      const auto other =
          compare_models(ctx, f, q, {f.make_state(1), q.make_state(1)}, start, 40, 25, 1);
      CHECK(other.mean_kl > activations.mean_kl);
      CHECK(other.drift.back().error > 0);
      CHECK(other.drift.back().step == 25);
      CHECK(other.drift.size() == 6);  // 1 2 5 10 20 25
      auto state = f.make_state(2);
      auto frame = ctx.scratch.make_frame();
      const auto step = [&](typename packed_lm::state& from) {
        tensor<std::int32_t, 1> ids({2});
        ids(1) = 5;
        const auto y = f.step(ctx, in_index<E, 1>(std::as_const(ids).view()), from);
        return std::vector<float>(y.data, y.data + y.count());
      };
      step(state);
      save_state(state, folder / "state");
      auto resumed = load_state(f, folder / "state");
      CHECK(step(state) == step(resumed));
      auto broken = q;
      broken.backbone.norm_f.weight.value(0) = std::nanf("");
      const auto none =
          compare_models(ctx, f, broken, {f.make_state(1), q.make_state(1)}, start, 40, 5, 1);
      CHECK(std::isnan(none.worst_kl));
      CHECK(none.agreement == 0);
    }
  }

  TEST_CASE("a weight that is not finite fails the load") {
    mamba_lm<cpu_f32> plain(small(true));
    plain.backbone.layers[1].mixer.out_proj.weight.value(3, 4) = std::nanf("");
    const test::temporary_folder temporary;
    const std::filesystem::path folder = temporary / "model";
    save_model(plain, folder);
    CHECK_THROWS_AS(
        checkpoint(folder).load<mamba_lm<cpu_packed>>({.weights = {{weight_scheme::int8}, {}}}),
        io_error);
  }
}
