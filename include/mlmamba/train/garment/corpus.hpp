// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// All texts of the garment questions, for training a small tokenizer.
#pragma once

#include <cstdint>
#include <string>

#include "mlmamba/train/garment/questions.hpp"

namespace mlmamba::train::garment {

/// Every wording of every question with every class and place, every short answer, and `samples`
/// captions and lists each of drawn layouts; one text per line.
inline std::string corpus(int samples = 500) {
  std::string out;
  const auto line = [&](const std::string& text) { (out += text) += '\n'; };
  const auto each = [](const auto& texts, auto&& f) {
    for (int w = 0; w < static_cast<int>(texts.size()); ++w) f(w);
  };
  for (int c = 0; c < class_count; ++c) {
    each(wordings::presence, [&](int w) { line(presence_text(w, c)); });
    each(wordings::where, [&](int w) { line(where_text(w, c)); });
    for (int side = 0; side < 4; ++side)
      each(wordings::neighbour, [&](int w) { line(neighbour_text(w, c, side)); });
  }
  for (int c = empty; c < class_count; ++c)
    each(wordings::count, [&](int w) { line(count_text(w, c)); });
  for (int p = 0; p < cell_count; ++p) {
    each(wordings::what_at, [&](int w) { line(what_at_text(w, p)); });
    for (int q = 0; q < cell_count; ++q)
      if (p != q) each(wordings::same, [&](int w) { line(same_text(w, p, q)); });
  }
  for (const char* text : wordings::caption) line(text);
  for (const char* text : wordings::list) line(text);

  for (const char* text : {"yes", "no", "same", "different", nothing}) line(text);
  for (const char* text : number_words) line(text);
  for (const char* text : places) line(text);
  for (const class_words& c : classes) line(c.name);
  for (int i = 0; i < samples; ++i) {
    draws random(0, split::train, static_cast<std::uint64_t>(i), for_corpus);
    const layout l = draw_layout(random);
    line(caption_of(l));
    line(list_of(l));
  }
  return out;
}

}  // namespace mlmamba::train::garment
