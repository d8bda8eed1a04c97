// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What is in a safetensors file or a model folder; of a folder also what is missing or too much for
// its model.
//
//   07_inspect_checkpoint examples/garment_model
//   07_inspect_checkpoint FILE.safetensors
//
// Exit code: 0 it fits, 1 something is missing or too much, 2 it can't be read.
#include <mlmamba/mlmamba.hpp>
#include <mlmamba/io/checkpoint.hpp>
#include <mlmamba/models/published/ml_mamba.hpp>

#include <cstdio>
#include <filesystem>
#include <set>
#include <string>

using namespace mlmamba;

void list(const std::vector<safetensors_entry>& arrays) {
  std::int64_t numbers = 0;
  std::size_t bytes = 0;
  for (const safetensors_entry& a : arrays) {
    std::printf("%-64s %-5s %s\n", a.name.c_str(), std::string(name_of(a.type)).c_str(),
                shape_text(a.shape).c_str());
    numbers += a.count(), bytes += a.bytes.size();
  }
  std::printf("%zu arrays, %lld numbers, %.1f MB\n", arrays.size(), static_cast<long long>(numbers),
              double(bytes) / 1e6);
}

/// The parameters that a model of these sizes has, beside what the files have for them.
template <class Model>
int compare(const checkpoint& files) {
  const Model model = published<Model>::make(files.config(), files.who());
  const named_arrays there = published<Model>::arrays(files.arrays(), files.config(), files.who());
  std::set<std::string> wanted;
  int problems = 0;
  nn::for_each_parameter(model, [&](const std::string& path, const auto&) {
    wanted.insert(path);
    if (there.by_path.contains(path)) return;
    std::printf("missing: %s\n", path.c_str());
    ++problems;
  });
  for (const auto& [path, array] : there.by_path)
    if (!wanted.contains(path)) {
      std::printf("unexpected: %s\n", array.name.c_str());
      ++problems;
    }
  if (problems == 0) files.load<Model>();  // an error if an array has another shape
  std::printf("the model wants %zu arrays: %s\n", wanted.size(),
              problems ? "see above" : "all are there");
  return problems ? 1 : 0;
}

int main(int argc, char** argv) try {
  if (argc != 2) fail(argc - 1, " arguments; a safetensors file or a model folder is wanted");
  if (!std::filesystem::is_directory(argv[1])) {
    list(safetensors_file::open(argv[1]).entries());
    return 0;
  }
  const checkpoint files{argv[1]};
  list(files.arrays());
  using E = cpu_f32;
  if (!json_has(files.config(), "vision")) return compare<mamba_lm<E>>(files);
  return compare<ml_mamba_3b<E>>(files);
} catch (const std::exception& e) {
  std::fprintf(stderr, "07_inspect_checkpoint: %s\n", e.what());
  return 2;
}
