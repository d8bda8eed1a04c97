// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the runner of fixtures says to hostile ones: a verdict or a clear line, never a crash.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdio>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "io/temporary.hpp"
#include "mlmamba/io/convert.hpp"
#include "mlmamba/io/safetensors_write.hpp"

using namespace mlmamba;

namespace {

using options = std::map<std::string, std::string>;
using sizes = std::vector<std::int64_t>;
constexpr float infinite = std::numeric_limits<float>::infinity();
constexpr float none = std::numeric_limits<float>::quiet_NaN();

/// A fixture in the making.
struct fixture_file {
  options metadata;
  std::vector<safetensors_entry> entries{};
  std::vector<std::vector<std::byte>> held{};

  template <class T>
  fixture_file& with(const std::string& name, const sizes& n, const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    held.emplace_back(bytes.begin(), bytes.end());
    entries.push_back(entry_of<T>(name, n, std::span<const T>()));  // (bytes: when it is written)
    return *this;
  }
  template <class T = float>
  fixture_file& filled(const std::string& name, const sizes& n, T value = T(1)) {
    std::int64_t count = 1;
    for (const auto s : n) count *= s;
    return with(name, n, std::vector<T>(std::size_t(count), value));
  }
};

/// A convolution of width 2 over (1, 3, 2) with weights 1: y = x[t] + x[t - 1].
fixture_file convolution(const std::vector<float>& x, const options& more = {}) {
  fixture_file f{{{"op", "causal_conv1d"}, {"activation", "none"}}};
  f.metadata.insert(more.begin(), more.end());
  f.with("in.x", {1, 3, 2}, x).filled("in.weight", {2, 2});
  return f;
}
const std::vector<float> ramp{1, 2, 3, 4, 5, 6}, sums{1, 2, 4, 6, 8, 10};

struct answer {
  int code = -1;
  std::string text;  // both streams
};
answer check(fixture_file f, const std::string& arguments = "") {
  for (std::size_t i = 0; i < f.entries.size(); ++i) f.entries[i].bytes = f.held[i];
  const test::temporary_folder folder;
  const auto path = folder / "f.safetensors";
  write_safetensors(path, f.entries, f.metadata);
  const std::string command =
      std::string(MLMAMBA_CHECK_FIXTURE) + " " + arguments + " " + path.string() + " 2>&1";
  answer a;
  std::FILE* out = ::popen(command.c_str(), "r");
  REQUIRE(out != nullptr);
  for (int c; (c = std::fgetc(out)) != EOF;) a.text += char(c);
  const int status = ::pclose(out);
  a.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
  return a;
}
void expect(const fixture_file& f, int code, const std::vector<std::string>& words,
            const std::string& arguments = "") {
  const answer a = check(f, arguments);
  CHECK_MESSAGE(a.code == code, a.text);
  for (const auto& w : words)
    CHECK_MESSAGE(a.text.find(w) != std::string::npos, "wanted: ", w, "\ngot: ", a.text);
}

/// A language model without layers' weights: refused or not by its sizes.
fixture_file language(const std::string& config, std::int64_t batch) {
  fixture_file f{{{"op", "mamba2_lm"}, {"format", "state-spaces"}, {"config", config}}};
  f.filled<std::int64_t>("in.input_ids", {batch, 3}, 0).filled("out.logits", {batch, 3, 16});
  return f;
}

TEST_SUITE("bad_test") {
  TEST_CASE("a right answer passes") {
    expect(convolution(ramp).with("out.y", {1, 3, 2}, sums), 0, {"1 passed, 0 failed", "ok"});
  }

  TEST_CASE("shapes are compared, not only counts") {
    for (const sizes& n : {sizes{6}, sizes{3, 1, 2}, sizes{1, 2, 3}, sizes{1, 1, 3, 2}})
      expect(convolution(ramp).with("out.y", n, sums), 1,
             {"FAIL (it has shape (1, 3, 2), wanted is " + shape_text(n)});
    expect(convolution(ramp).filled("out.y", {1, 3, 3}), 1, {"wanted is (1, 3, 3)"});
    fixture_file norm{{{"op", "rms_norm"}}};
    norm.filled("in.x", {2, 3, 4}).filled("in.weight", {4});
    expect(fixture_file(norm).filled("out.y", {2, 3, 4}), 0, {"1 passed"});
    expect(fixture_file(norm).filled("out.y", {6, 4}), 1, {"wanted is (6, 4)"});
    expect(fixture_file(norm).filled("in.z", {3, 2, 4}).filled("out.y", {2, 3, 4}), 2,
           {"\"in.z\" is (3, 2, 4); wanted is (2, 3, 4)"});
  }

  TEST_CASE("B and C of one group may leave its axis out, and so may their gradients") {
    for (const bool grouped : {false, true}) {
      const sizes n = grouped ? sizes{1, 1, 1, 2} : sizes{1, 1, 2};
      fixture_file f{{{"op", "selective_scan"}, {"delta_softplus", "false"}}};
      f.filled("in.u", {1, 1, 2}).filled("in.delta", {1, 1, 2}).filled("in.A", {1, 1}, -100.f);
      f.filled("in.B", n).filled("in.C", n).filled("grad.y", {1, 1, 2});
      expect(f.filled("out.dB", n).filled("out.dC", n), 0, {"2 passed"});
    }
  }

  TEST_CASE("an infinity must be there, and hides nothing else") {
    const std::vector<float> x{infinite, 2, 3, 4, 5, 6};
    const auto want = [&](std::vector<float> y) {
      return convolution(x).with("out.y", {1, 3, 2}, y);
    };
    expect(want({infinite, 2, infinite, 6, 8, 10}), 0, {"1 passed"});
    expect(want({infinite, 2, infinite, 6, 8, 11}), 1, {"1 failed"});
    expect(want({-infinite, 2, infinite, 6, 8, 10}), 1, {"1 failed"});
    expect(want({1e30f, 2, infinite, 6, 8, 10}), 1, {"1 failed"});
    expect(want({infinite, infinite, infinite, 6, 8, 10}), 1, {"1 failed"});
    expect(want({infinite, 0, infinite, 0, 0, 0}), 1, {"1 failed"});
  }

  TEST_CASE("NaN never passes") {
    auto y = sums;
    y[0] = none;
    expect(convolution(ramp).with("out.y", {1, 3, 2}, y), 1, {"nan", "1 failed"});
    auto x = ramp;
    x[0] = none;
    expect(convolution(x).with("out.y", {1, 3, 2}, y), 1, {"nan", "1 failed"});
    expect(convolution(x).with("out.y", {1, 3, 2}, y), 1, {"1 failed"}, "--tolerance 1e9");
    expect(convolution(x).filled("out.y", {1, 3, 2}, 0.f), 1, {"1 failed"});
  }

  TEST_CASE("floating arrays are F32, indices I32 or I64") {
    const auto f = [](auto x, auto y) {
      fixture_file file{{{"op", "causal_conv1d"}, {"activation", "none"}}};
      file.filled("in.x", {1, 3, 2}, x).filled("in.weight", {2, 2});
      file.filled("out.y", {1, 3, 2}, y);
      return file;
    };
    expect(f(std::int32_t(1), 1.f), 2, {"\"in.x\" is I32; F32 is wanted"});
    expect(f(1.0, 1.f), 2, {"\"in.x\" is F64; F32 is wanted"});
    expect(f(1.f, 1.0), 2, {"\"out.y\" is F64; F32 is wanted"});
    expect(f(1.f, std::int64_t(1)), 2, {"\"out.y\" is I64; F32 is wanted"});
    expect(f(1.f, 1.f).filled("in.seq_idx", {1, 3}, 0.f), 2,
           {"\"in.seq_idx\" is F32; I32 or I64 is wanted"});
    expect(f(1.f, 1.f).filled<std::uint8_t>("in.seq_idx", {1, 3}, 0), 2, {"is U8; I32 or I64"});
    expect(f(0.f, 0.f).filled<std::int64_t>("in.seq_idx", {1, 3}, 0), 0, {"1 passed"});
  }

  TEST_CASE("tolerances of a file are numbers above zero, and come before the engine's") {
    for (const char* word : {"inf", "-1", "0", "nan", "abc", "1e-3x", ""})
      expect(convolution(ramp, {{"tolerance", word}}).with("out.y", {1, 3, 2}, sums), 2,
             {"option tolerance is \"" + std::string(word) + "\""});
    auto y = sums;
    for (float& v : y) v *= 1.01f;
    const auto f = [&](const options& more) {
      return convolution(ramp, more).with("out.y", {1, 3, 2}, y);
    };
    expect(f({}), 1, {"1 failed"});
    expect(f({{"tolerance", "0.02"}}), 0, {"1 passed"});
    expect(f({}), 0, {"1 passed"}, "--engine cpu_bf16");
    expect(f({{"tolerance", "0.001"}}), 1, {"1 failed"}, "--engine cpu_bf16");
    expect(f({{"tolerance", "0.001"}}), 0, {"1 passed"}, "--tolerance 0.02");
  }

  TEST_CASE("sizes that no memory holds") {
    for (const char* n : {"1000000000", "100000000000", "4000000000000000000"}) {
      fixture_file f{{{"op", "mamba2_scan_connector"},
                      {"grid", "1"},
                      {"vision_dim", n},
                      {"llm_dim", n},
                      {"ssm_cfg", "{}"}}};
      expect(f.filled("in.patches", {1, 1, 3}).filled("out.tokens", {1, 1, 4}), 2, {n});
    }
    expect(language(R"({"d_model": 16777216, "n_layer": 1000, "vocab_size": 16777216})", 1), 2,
           {"check_fixture: ", "f.safetensors"});
  }

  TEST_CASE("an empty batch has no greedy continuation") {
    auto f = language(R"({"d_model": 8, "n_layer": 0, "vocab_size": 16,
        "ssm_cfg": {"layer": "Mamba2", "headdim": 4, "d_state": 4}})",
                      0);
    f.filled("weight.backbone.embedding.weight", {16, 8});
    f.filled("weight.backbone.norm_f.weight", {8});
    expect(f, 0, {"1 passed"});
    expect(f.filled<std::int64_t>("out.greedy", {1, 2}, 0), 1, {"1 passed, 1 failed"});
  }
}

}  // namespace
