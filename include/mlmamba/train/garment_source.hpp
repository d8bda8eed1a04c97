// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Garment scenes as training examples, drawn when they are asked for: every example is new.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "mlmamba/train/garment.hpp"
#include "mlmamba/train/source.hpp"

namespace mlmamba::train {

/// The example of a scene: its picture, and its questions as turns of one conversation.
inline example to_example(const garment::scene& s) {
  example e;
  e.picture = garment::to_image(s);
  for (const garment::question& q : s.questions) {
    e.turns.push_back({q.text, true});
    e.turns.push_back({q.answer, false});
  }
  return e;
}

/// Scenes of the photos by index, without end.
inline data_source garment_source(garment::source photos, std::uint64_t seed,
                                  garment::options options = {}) {
  options.check();
  data_source out;
  out.name = std::string("garment:") + garment::name_of(photos.which) + ":" +
             std::to_string(photos.size()) + ":" + std::to_string(seed);
  const auto shared = std::make_shared<const garment::source>(std::move(photos));
  out.get = [shared, seed, options](std::uint64_t i) {
    return to_example(garment::make_scene(*shared, seed, i, options));
  };
  return out;
}

}  // namespace mlmamba::train
