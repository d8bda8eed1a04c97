// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Text from a model whose state is a value: it is kept from turn to turn, copied, and compared.
//
//   02_generate [FOLDER [TEXT [TEXT]]]        without: the shipped model, asked without a picture
#include <mlmamba/mlmamba.hpp>
#include <mlmamba/io/checkpoint.hpp>
#include <mlmamba/models/published/ml_mamba.hpp>
#include <mlmamba/text/generate.hpp>

#include <cstdio>
#include <iostream>
#include <string>

using namespace mlmamba;
using E = cpu_f32;

/// Reads `first` once, answers, then goes on with `second` from two copies of the state.
template <class Model>
int talk(const checkpoint& files, const std::string& first, const std::string& second) {
  context<backend::cpu> ctx;
  const auto model = files.load<Model>();
  const tokenizer words = files.tokenizer();

  auto state = model.make_state(1);  // of one row; it has read nothing
  std::cout << first << std::flush;
  for (std::string_view piece :
       generate_after(ctx, model, words, state, {.text = first}, {.max_new_tokens = 20}))
    std::cout << piece << std::flush;  // as it is made
  std::cout << "\n-- the state has read " << state.position << " tokens; two copies go on\n";

  const auto kept = state;
  for (const std::uint64_t seed : {1u, 2u}) {
    auto fork = kept;  // what was read is not read again
    const generate_options drawn{.max_new_tokens = 20, .temperature = 1, .seed = seed};
    std::cout << second << generate_after(ctx, model, words, fork, {.text = second}, drawn).rest()
              << '\n';
  }
  return equal(kept, state) ? 0 : 1;  // the copies had a life of their own
}

int main(int argc, char** argv) try {
  if (argc == 2 && std::string(argv[1]) == "--help")
    return std::puts("02_generate [FOLDER [TEXT [TEXT]]]\nExit code: 0 done, 2 bad input."), 0;
  if (argc > 4) fail("more than FOLDER TEXT TEXT; at most these are wanted");
  const checkpoint files{argc > 1 ? argv[1] : MLMAMBA_SHIPPED_MODEL};
  const std::string first = argc > 2 ? argv[2] : "Is there a bag in the picture?\n";
  const std::string second = argc > 3 ? argv[3] : "Describe the picture.\n";
  // The type is chosen here, by what the folder holds.
  if (json_has(files.config(), "vision")) return talk<ml_mamba_3b<E>>(files, first, second);
  return talk<mamba_lm<E>>(files, first, second);
} catch (const std::exception& e) {
  std::fprintf(stderr, "02_generate: %s\n", e.what());
  return 2;
}
