// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Runs fixture files: "here are inputs, here is the right answer".
//
//   check_fixture [--engine cpu_f32|cpu_bf16|reference|cuda_f32|cuda_bf16] [--tolerance R] FILE...
//
// Prints one line for every out.* array, then the sum. Exit status: 0 if all pass, 1 if one fails,
// 2 if a file can't be read or its op is not known. A tolerance given here comes before that of a
// file, which comes before the engine's.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "check_fixture/engines.hpp"
#include "check_fixture/images.hpp"

using namespace mlmamba;

namespace {

struct engine_entry {
  const char* name;
  check_fixture::results (*run)(check_fixture::fixture&);
  bool bf16;
};
constexpr engine_entry engines[] = {
    {"cpu_f32", check_fixture::run_on_cpu_f32, false},
    {"cpu_bf16", check_fixture::run_on_cpu_bf16, true},
    {"reference", check_fixture::run_on_reference, false},
#if defined(MLMAMBA_CHECK_FIXTURE_CUDA)
    {"cuda_f32", check_fixture::run_on_cuda_f32, false},
    {"cuda_bf16", check_fixture::run_on_cuda_bf16, true},
#endif
};

int usage(const std::string& problem) {
  std::fprintf(stderr, "check_fixture: %s\n", problem.c_str());
  std::fprintf(stderr, "check_fixture [--engine NAME] [--tolerance R] FILE...   engines:");
  for (const engine_entry& e : engines) std::fprintf(stderr, " %s", e.name);
  std::fprintf(stderr, "\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> files;
  const engine_entry* engine = &engines[0];
  double tolerance = 0;
  bool options = true;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (options && word == "--") {
      options = false;
    } else if (options && (word == "--engine" || word == "--tolerance")) {
      if (i + 1 == argc) return usage(word + " needs a value");
      const std::string value = argv[++i];
      if (word == "--tolerance") {
        char* end = nullptr;
        tolerance = std::strtod(value.c_str(), &end);
        if (*end != '\0' || !(tolerance > 0))
          return usage("--tolerance is \"" + value + "\"; wanted is a positive number");
        continue;
      }
      engine = nullptr;
      for (const engine_entry& e : engines)
        if (value == e.name) engine = &e;
      if (engine == nullptr) return usage("engine \"" + value + "\" is not in this program");
    } else if (options && word.size() > 1 && word[0] == '-') {
      return usage("\"" + word + "\" is not an option");
    } else {
      files.push_back(word);
    }
  }
  if (files.empty()) return usage("no file; wanted is at least one");

  check_fixture::tolerances t;
  if (engine->bf16) t.output = t.gradient = t.floor = 2e-2;
  if (tolerance > 0) {
    t.output = t.gradient = tolerance;
    t.explicit_wins = true;
  }
  check_fixture::verdict sum;
  bool unreadable = false;
  for (const std::string& path : files) {
    try {
      check_fixture::fixture f(path);
      const auto got =
          f.op() == "image_transform" ? check_fixture::image_transform_results(f) : engine->run(f);
      const auto v = check_fixture::judge(f, got, t);
      if (v.passed + v.failed == 0)
        fail<io_error>(path, ": it has no out.* array; wanted is at least one");
      sum.passed += v.passed;
      sum.failed += v.failed;
    } catch (const std::exception& why) {
      std::fflush(stdout);
      std::fprintf(stderr, "check_fixture: %s: %s\n", path.c_str(), why.what());
      unreadable = true;
    }
  }
  std::printf("%d passed, %d failed\n", sum.passed, sum.failed);
  return unreadable ? 2 : sum.failed > 0 ? 1 : 0;
}
