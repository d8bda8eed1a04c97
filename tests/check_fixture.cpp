// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Runs fixture files: "here are inputs, here is the right answer".
//
//   check_fixture [--engine cpu_f32|cpu_bf16|reference|cuda_f32|cuda_bf16|cuda_f16] [--tolerance R]
//   FILE...
//
// Prints one line for every out.* array, then the sum. Exit status: 0 if all pass, 1 if one fails,
// 2 if a file can't be read or its op is not known. A tolerance given here comes before that of a
// file, which comes before the engine's.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "check_fixture/engines.hpp"
#include "check_fixture/images.hpp"
#include "check_fixture/judge.hpp"

using namespace mlmamba;

namespace {

struct engine_entry {
  const char* name;
  check_fixture::results (*run)(check_fixture::fixture&);
  double tolerance;  // 0: as for f32
};
constexpr engine_entry engines[] = {
    {"cpu_f32", check_fixture::run_on_cpu_f32, 0},
    {"cpu_bf16", check_fixture::run_on_cpu_bf16, 2e-2},
    {"reference", check_fixture::run_on_reference, 0},
#if defined(MLMAMBA_CHECK_FIXTURE_CUDA)
    {"cuda_f32", check_fixture::run_on_cuda_f32, 0},
    {"cuda_bf16", check_fixture::run_on_cuda_bf16, 2e-2},
    {"cuda_f16", check_fixture::run_on_cuda_f16, 2.5e-3},
#endif
};

void say_usage(std::FILE* to) {
  std::fprintf(to, "check_fixture [--engine NAME] [--tolerance R] FILE...   engines:");
  for (const engine_entry& e : engines) std::fprintf(to, " %s", e.name);
  std::fprintf(to, "\n");
}
int usage(const std::string& problem) {
  std::fprintf(stderr, "check_fixture: %s\n", problem.c_str());
  say_usage(stderr);
  return 2;
}

/// The op and options of a file on one line, as far as they fit.
std::string asked_for(const check_fixture::fixture& f) {
  std::string all = f.op();
  for (const auto& [key, value] : f.file().metadata())
    if (key != "op") all += ", " + key + " = " + value;
  return all.size() > 400 ? all.substr(0, 400) + "..." : all;
}

check_fixture::verdict check(const std::string& path, const engine_entry& engine,
                             const check_fixture::tolerances& t) {
  check_fixture::fixture f(path);
  f.positive("tolerance");  // refused before anything is computed
  try {
    const auto got =
        f.op() == "image_transform" ? check_fixture::image_transform_results(f) : engine.run(f);
    const auto v = check_fixture::judge(f, got, t);
    if (v.passed + v.failed == 0)
      fail<io_error>(path, ": it has no out.* array; wanted is at least one");
    return v;
  } catch (const std::bad_alloc&) {
    fail<io_error>(path, ": no memory for these sizes (", asked_for(f), ")");
  }
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
    } else if (options && word == "--help") {
      say_usage(stdout);
      std::puts("Exit code: 0 all pass, 1 one fails, 2 a file or option that is no use.");
      return 0;
    } else if (options && word.size() > 1 && word[0] == '-') {
      return usage("\"" + word + "\" is not an option");
    } else {
      files.push_back(word);
    }
  }
  if (files.empty()) return usage("no file; wanted is at least one");

  check_fixture::tolerances t;
  if (engine->tolerance > 0) t.output = t.gradient = engine->tolerance;
  if (tolerance > 0) {
    t.output = t.gradient = tolerance;
    t.explicit_wins = true;
  }
  check_fixture::verdict sum;
  bool unreadable = false;
  for (const std::string& path : files) {
    try {
      const auto v = check(path, *engine, t);
      sum.passed += v.passed;
      sum.failed += v.failed;
    } catch (const std::exception& why) {
      std::fflush(stdout);
      const std::string words = why.what();  // most name the file themselves
      const std::string where = words.starts_with(path) ? "" : path + ": ";
      std::fprintf(stderr, "check_fixture: %s%s\n", where.c_str(), words.c_str());
      unreadable = true;
    }
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", sum.passed, sum.failed);
  return unreadable ? 2 : sum.failed > 0 ? 1 : 0;
}
