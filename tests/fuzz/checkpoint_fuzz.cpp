// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as the files of a model's folder that say what is where ("\x1E" ends a
// file): config.json and the index of its arrays, beside one good file of them; and as the
// state.json of a training run.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/io/checkpoint.hpp"
#include "mlmamba/io/safetensors_write.hpp"
#include "mlmamba/nn/linear.hpp"
#include "mlmamba/train/saved_run.hpp"
#include "scratch_folder.hpp"

namespace {

using namespace mlmamba;
namespace fs = std::filesystem;
using E = on<backend::reference, bf16>;

/// A folder with the arrays "a" and "b", and a run with one checkpoint.
struct model_folder : scratch_folder {
  nn::linear<E> layer{2, 3};
  train::optimizer<E> optimizer{layer, {}};
  train::saved_run run{path / "run"};
  json config = json::object();
  model_folder() {
    const std::vector<std::int32_t> values{1, 2};
    std::vector<safetensors_entry> arrays;
    for (const char* name : {"a", "b"})
      arrays.push_back(entry_of<std::int32_t>(name, {2}, std::span(values)));
    write_safetensors(path / "model.safetensors", arrays);
    run.save(layer, optimizer, {.updates = 7}, config);
  }
};

template <class F>
void attempt(F&& f) {
  try {
    f();
  } catch (const error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static model_folder folder;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto next = [&] {
    const std::string_view text = rest.substr(0, rest.find('\x1E'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
    return text;
  };
  folder.put("config.json", next());
  const fs::path index = folder.put("model.safetensors.index.json", next());
  attempt([&] { (void)read_model_weights(index); });
  attempt([&] {
    const checkpoint files(folder.path);
    attempt([&] { (void)files.formats(); });
    attempt([&] { (void)files.arrays(); });
  });
  folder.put("run/step-00000007/state.json", next());
  attempt([&] {
    const auto state = folder.run.load(folder.layer, folder.optimizer, folder.config);
    if (!state || state->updates != 7) std::abort();
  });
  return 0;
}
