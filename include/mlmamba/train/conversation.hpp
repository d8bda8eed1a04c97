// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Conversations about a picture, and their token ids with labels.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/pixels.hpp"
#include "mlmamba/text/prompt.hpp"
#include "mlmamba/train/loss.hpp"

namespace mlmamba::train {

/// One thing to learn from: turns alternate, the human's first; a picture or none.
struct example {
  struct turn {
    std::string text;
    bool human = true;
  };
  std::vector<turn> turns;
  std::optional<image> picture;
};

/// Text to token ids; must be usable from several threads at once.
using encoder = std::function<std::vector<std::int32_t>(std::string_view)>;

struct encoded {
  std::vector<std::int32_t> ids, labels;
};

/// Which turns are learned.
enum class labelling : std::uint8_t {
  answers,  ///< the model's turns with their end token; the human's are `ignored`
  caption,  ///< one answer without its question, all of it learned (alignment); empty: its end
};

/// Ids and labels of a conversation: each turn is tokenised by itself, and the whole is cut to
/// `max_length` tokens.
///
/// Errors    mlmamba::error if the turns are not pairs that alternate from the human's on, or a
///           caption has an "<image>" in it
/// Source    the original's data sets: alignment strips the caption only, and has no template
inline encoded encode_conversation(const example& e, const encoder& encode, chat_format format,
                                   std::size_t max_length, labelling which = labelling::answers) {
  const std::size_t n = e.turns.size();
  if (n == 0 || n % 2 != 0 || (which == labelling::caption && n != 2))
    fail("conversation: ", n, " turns; ",
         which == labelling::caption ? "one caption, 2 turns, is wanted"
                                     : "pairs of question and answer are wanted");
  encoded out;
  if (which == labelling::caption && e.turns[1].text.find("<image>") != std::string::npos)
    fail("conversation: a caption with \"<image>\" in it; only text is wanted");
  prompt_builder prompt(format);
  for (const example::turn& turn : e.turns) {
    std::string text = prompt.add_turn(turn.human ? chat_role::human : chat_role::gpt, turn.text);
    if (which == labelling::caption) {
      if (turn.human) continue;
      if (mlmamba::detail::strip(turn.text).empty()) text.erase(0, 1);  // the builder's blank
    }
    const std::vector<std::int32_t> ids = encode(text);
    out.ids.insert(out.ids.end(), ids.begin(), ids.end());
    if (turn.human) {
      out.labels.insert(out.labels.end(), ids.size(), ignored);
    } else {
      out.labels.insert(out.labels.end(), ids.begin(), ids.end());
    }
  }
  if (out.ids.size() > max_length) {
    out.ids.resize(max_length);
    out.labels.resize(max_length);
  }
  return out;
}

/// The turns of a LLaVA record, {"conversations": [{"from": "human" | "gpt", "value": text}]}.
inline std::vector<example::turn> read_turns(const json& record, std::string_view who) {
  const json& list = json_at(record, "conversations", who);
  if (!list.is_array()) fail<io_error>(who, ": \"conversations\" is not a list; one is wanted");
  std::vector<example::turn> out;
  for (const json& turn : list) {
    const std::string from = json_get<std::string>(turn, "from", who);
    if (from != "human" && from != "gpt")
      fail<io_error>(who, ": a turn is from \"", from, "\"; human or gpt is wanted");
    if ((from == "human") != (out.size() % 2 == 0))
      fail<io_error>(who, ": turn ", out.size(), " is from ", from,
                     "; turns that alternate from human on are wanted");
    out.push_back({json_get<std::string>(turn, "value", who), from == "human"});
  }
  if (out.empty() || out.size() % 2 != 0)
    fail<io_error>(who, ": ", out.size(), " turns; pairs of question and answer are wanted");
  return out;
}

}  // namespace mlmamba::train
