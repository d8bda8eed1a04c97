// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as the recipe of a training run: as it is, in another number of updates,
// and as that of each stage. What is accepted can be asked for its rates, and is accepted again.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mlmamba/train/parts.hpp"
#include "mlmamba/train/stage_recipe.hpp"

namespace {

using namespace mlmamba;
using namespace mlmamba::train;

void use(const json& j) {
  const recipe r = recipe_from(j, "fuzz");
  const schedule& rate = r.training.rate;
  for (const index_t update : {index_t(0), rate.warmup, rate.steps - 1})
    if (!std::isfinite(rate(update))) std::abort();
  if (recipe_from(j, "fuzz").whole != r.whole) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  json j;
  try {
    j = parse_json(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz");
  } catch (const io_error&) {
    return 0;
  }
  const auto attempt = [](auto&& f) {
    try {
      f();
    } catch (const error&) {
    }
  };
  attempt([&] { use(j); });
  attempt([&] {
    json other = j;
    set_steps(other, 7, "fuzz");
    use(other);
  });
  for (const stage s : {stage::align, stage::finetune})
    for (const std::uint64_t examples : {std::uint64_t(1), std::uint64_t(558128)})
      attempt([&] { use(recipe_of(j, plan_from(j, s, "fuzz"), examples, "fuzz")); });
  attempt([&] { (void)parts_from(train::detail::part_of(j, "parts"), "fuzz"); });
  attempt([&] { (void)wants_alignment(train::detail::part_of(j, "model"), "fuzz"); });
  return 0;
}
