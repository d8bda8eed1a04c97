// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What a Hugging Face tokenizer.json says, checked: byte-level BPE and nothing else.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/text/detail/added_tokens.hpp"

namespace mlmamba::detail {

/// The parts of the file that have a meaning here. Everything else was checked to have none.
struct tokenizer_file {
  std::vector<std::string> tokens;  // by id, as the file spells them; empty: no token has the id
  std::vector<bool> used;           // by id
  std::vector<bool> in_model;       // by id: a result of BPE, not only an added token
  std::unordered_map<std::string, std::int32_t> ids;
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<added_token> added;
  bool nfc = false;
  bool add_prefix_space = false;
  bool split_words = true;     // by GPT-2's pattern
  bool ignore_merges = false;  // a word that is a token is that token
  std::int32_t unknown = -1;
  bool fuse_unknown = false;
};

/// Refuses an option whose value is not the one (or absent or null) that has no effect.
inline void refuse_unless(const json& object, std::string_view key, const json& neutral,
                          std::string_view who) {
  if (json_has(object, key) && *object.find(key) != neutral)
    fail<io_error>(who, ": \"", key, "\" is ", json_excerpt(*object.find(key)), "; ",
                   json_excerpt(neutral), " or null is wanted");
}

inline std::string type_of(const json& part, std::string_view who, std::string_view key) {
  return json_has(part, key) ? json_get<std::string>(part.at(std::string(key)), "type",
                                                     std::string(who) + ": " + std::string(key))
                             : std::string();
}

inline bool is_sequence(const json& part, const char* list) {
  return json_has(part, "type") && part.at("type") == "Sequence" && json_has(part, list) &&
         part.at(list).is_array();
}
/// The only member of a "Sequence", else the part itself.
inline const json& unwrapped(const json& part, const char* list) {
  return is_sequence(part, list) && part.at(list).size() == 1 ? part.at(list)[0] : part;
}

inline void read_pipeline(const json& root, std::string_view who, tokenizer_file& out) {
  for (const char* key : {"truncation", "padding"})
    if (json_has(root, key))
      fail<io_error>(who, ": \"", key, "\" is set; null is wanted (the caller cuts and pads)");
  if (json_has(root, "normalizer")) {
    const json& part = unwrapped(root.at("normalizer"), "normalizers");
    const bool nothing = is_sequence(part, "normalizers") && part.at("normalizers").empty();
    const std::string type = nothing ? "" : json_get<std::string>(part, "type", who);
    if (!nothing && type != "NFC")
      fail<io_error>(who, ": normalizer ", json_excerpt(type), "; NFC or null is wanted");
    out.nfc = type == "NFC";
  }
  const json& split = unwrapped(json_at(root, "pre_tokenizer", who), "pretokenizers");
  if (!split.is_object() || json_get<std::string>(split, "type", who) != "ByteLevel")
    fail<io_error>(who, ": pre_tokenizer ", json_excerpt(split), "; ByteLevel is wanted");
  out.add_prefix_space = json_get_or<bool>(split, "add_prefix_space", true, who);
  out.split_words = json_get_or<bool>(split, "use_regex", true, who);
  if (const auto type = type_of(root, who, "post_processor"); !type.empty() && type != "ByteLevel")
    fail<io_error>(who, ": post_processor ", json_excerpt(type), "; ByteLevel or null is wanted");
  if (const auto type = type_of(root, who, "decoder"); type != "ByteLevel")
    fail<io_error>(who, ": decoder ", json_excerpt(type), "; ByteLevel is wanted");
}

inline void put_token(const std::string& token, std::int64_t id, std::size_t room,
                      std::string_view who, tokenizer_file& out) {
  // Ids index arrays: a gap is fine, a file of 100 bytes that asks for 2^31 entries is not.
  if (id < 0 || std::cmp_greater_equal(id, room))
    fail<io_error>(who, ": token ", json_excerpt(token), " has id ", id, "; 0 to ", room - 1,
                   " is wanted in a vocabulary of this size");
  const auto at = static_cast<std::size_t>(id);
  if (at >= out.tokens.size()) {
    out.tokens.resize(at + 1);
    out.used.resize(at + 1);
  }
  if (out.used[at])
    fail<io_error>(who, ": tokens ", json_excerpt(out.tokens[at]), " and ", json_excerpt(token),
                   " both have id ", id);
  out.used[at] = true;
  out.tokens[at] = token;
  out.ids.emplace(token, static_cast<std::int32_t>(id));
}

inline void read_merges(const json& model, std::string_view who, tokenizer_file& out) {
  const json& merges = json_at(model, "merges", who);
  if (!merges.is_array())
    fail<io_error>(who, ": \"merges\" is ", json_excerpt(merges), "; an array is wanted");
  out.merges.reserve(merges.size());
  for (const json& merge : merges) {
    std::pair<std::string, std::string> pair;
    if (merge.is_string()) {  // "a b": tokens themselves have no blank in this form
      const auto& text = merge.get_ref<const std::string&>();
      const std::size_t blank = text.find(' ');
      if (blank == std::string::npos || text.find(' ', blank + 1) != std::string::npos)
        fail<io_error>(who, ": merge ", json_excerpt(merge), "; two tokens and a blank are wanted");
      pair = {text.substr(0, blank), text.substr(blank + 1)};
    } else {
      if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string())
        fail<io_error>(who, ": merge ", json_excerpt(merge), "; two tokens are wanted");
      pair = {merge[0].get<std::string>(), merge[1].get<std::string>()};
    }
    for (const std::string& token : {pair.first, pair.second, pair.first + pair.second})
      if (token.empty() || !out.ids.contains(token))
        fail<io_error>(who, ": merge ", json_excerpt(merge), ": token ", json_excerpt(token),
                       " is not in the vocabulary");
    out.merges.push_back(std::move(pair));
  }
}

inline void read_added(const json& root, std::string_view who, std::size_t room,
                       tokenizer_file& out) {
  if (!json_has(root, "added_tokens")) return;
  const json& list = root.at("added_tokens");
  if (!list.is_array())
    fail<io_error>(who, ": \"added_tokens\" is ", json_excerpt(list), "; an array is wanted");
  for (const json& item : list) {
    added_token token;
    token.content = json_get<std::string>(item, "content", who);
    const auto id = json_get<std::int64_t>(item, "id", who);
    token.special = json_get_or<bool>(item, "special", false, who);
    token.single_word = json_get_or<bool>(item, "single_word", false, who);
    token.lstrip = json_get_or<bool>(item, "lstrip", false, who);
    token.rstrip = json_get_or<bool>(item, "rstrip", false, who);
    token.normalized = json_get_or<bool>(item, "normalized", !token.special, who);
    if (token.content.empty() || token.content.size() > 1000)
      fail<io_error>(who, ": added token of ", token.content.size(),
                     " bytes; 1 to 1000 are wanted");
    const auto known = out.ids.find(token.content);
    if (known == out.ids.end()) {
      put_token(token.content, id, room, who, out);
    } else if (known->second != id) {
      fail<io_error>(who, ": added token ", json_excerpt(token.content), " has id ", id,
                     ", in the vocabulary it has ", known->second);
    }
    token.id = static_cast<std::int32_t>(id);
    out.added.push_back(std::move(token));
  }
}

/// Reads the file's text. Errors: io_error naming `who` and the part that is wrong or not
/// supported.
inline tokenizer_file read_tokenizer_file(std::string_view text, std::string_view who) {
  const json root = parse_json(text, who, 16);
  tokenizer_file out;
  const json& model = json_at(root, "model", who);
  // Older files leave the type out; what has merges is BPE.
  const auto type = json_get_or<std::string>(model, "type", "BPE", who);
  if (type != "BPE") fail<io_error>(who, ": model ", json_excerpt(type), "; BPE is wanted");
  refuse_unless(model, "dropout", 0.0, who);
  refuse_unless(model, "continuing_subword_prefix", "", who);
  refuse_unless(model, "end_of_word_suffix", "", who);
  refuse_unless(model, "byte_fallback", false, who);
  out.ignore_merges = json_get_or<bool>(model, "ignore_merges", false, who);
  out.fuse_unknown = json_get_or<bool>(model, "fuse_unk", false, who);
  read_pipeline(root, who, out);

  const json& vocabulary = json_at(model, "vocab", who);
  if (!vocabulary.is_object())
    fail<io_error>(who, ": \"vocab\" is ", json_excerpt(vocabulary), "; an object is wanted");
  const std::size_t listed = json_has(root, "added_tokens") ? root.at("added_tokens").size() : 0;
  const std::size_t room = 2 * (vocabulary.size() + listed) + 65536;
  for (const auto& [token, id] : vocabulary.items())
    put_token(token, json_to<std::int64_t>(id, who, token), room, who, out);
  out.in_model = out.used;
  read_merges(model, who, out);
  if (json_has(model, "unk_token")) {
    const auto token = json_get<std::string>(model, "unk_token", who);
    const auto known = out.ids.find(token);
    if (known != out.ids.end()) out.unknown = known->second;
  }
  read_added(root, who, room, out);
  out.in_model.resize(out.tokens.size());
  return out;
}

}  // namespace mlmamba::detail
