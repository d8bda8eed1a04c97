// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fixtures of whole models: vit.
#pragma once

#include "check_fixture/fixture.hpp"
#include "mlmamba/models/published/vit.hpp"

namespace mlmamba::check_fixture {

/// The weight.* arrays without that prefix.
inline std::vector<safetensors_entry> weights_of(fixture& f,
                                                 const std::string& prefix = "weight.") {
  f.ask_prefix(prefix);
  std::vector<safetensors_entry> out;
  for (const safetensors_entry& e : f.file().entries()) {
    if (!e.name.starts_with(prefix)) continue;
    out.push_back(e);
    out.back().name = e.name.substr(prefix.size());
  }
  return out;
}

template <engine E>
results vit_results(fixture& f, context_of<E>& ctx) {
  const json config = f.object("config");
  const auto c = vit_config_from(config, f.path() + ": config", f.option("kind", ""));
  vit<E> tower(c);
  load_parameters(tower, published<vit<E>>::arrays(weights_of(f), c, f.path()));
  const auto pixels = f.needed<typename E::value, 4, typename E::memory>("in.pixels");
  f.refuse_unknown();
  auto frame = ctx.scratch.make_frame();
  const auto y = tower.encode(ctx, in<E, 4>(pixels));
  results out;
  out["penultimate_patches"] = {std::vector<std::int64_t>(y.size, y.size + 3), numbers(y)};
  return out;
}

}  // namespace mlmamba::check_fixture
