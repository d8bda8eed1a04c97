// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Learns a byte-level BPE vocabulary from text and writes it as a tokenizer.json.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <queue>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/write_file.hpp"
#include "mlmamba/text/detail/added_tokens.hpp"
#include "mlmamba/text/detail/byte_level.hpp"
#include "mlmamba/text/detail/nfc.hpp"
#include "mlmamba/text/detail/utf8.hpp"
#include "mlmamba/text/tokenizer.hpp"

namespace mlmamba {

struct bpe_options {
  std::int32_t vocabulary = 4096;  // tokens in all: special ones, 256 bytes, merges
  std::int64_t least_count = 2;    // pairs seen less often are not merged
  std::vector<std::string> special = {"<|endoftext|>", "<|padding|>"};  // ids 0, 1, ...
  bool nfc = true;                // normalise the text, here and in the file
  bool add_prefix_space = false;  // a word at the start of a text is the same token as elsewhere
};

/// Learns merges from any amount of text given piece by piece.
///
///   while there is room: the pair of neighbouring tokens that occurs most often in the words of
///   the text becomes a token
///
/// Ids       special tokens, then the 256 bytes in order of their printable character, then merges
/// Ties      the pair with the lower left id, then the lower right id: the result depends on the
///           counts of words only, not on the order of the text, and is the one that Hugging Face's
///           BpeTrainer gives
/// Errors    error for a vocabulary without room for special tokens and bytes, or a special token
///           that is empty, not UTF-8, given twice or a single byte
/// Source    Sennrich et al. 2016, arXiv:1508.07909, algorithm 1
class bpe_trainer {
 public:
  explicit bpe_trainer(bpe_options options = {}) : options_(std::move(options)) {
    const std::size_t fixed = options_.special.size() + 256;
    if (std::cmp_less(options_.vocabulary, fixed))
      fail<error>("bpe_trainer: vocabulary of ", options_.vocabulary, "; at least ", fixed,
                  " are wanted for special tokens and bytes");
    const auto& alphabet = detail::byte_alphabet::get();
    std::map<std::uint16_t, int> by_character;
    for (int b = 0; b < 256; ++b) by_character[alphabet.character[static_cast<std::size_t>(b)]] = b;
    for (const std::string& token : options_.special) {
      if (token.empty() || token.size() > 1000 || !detail::is_utf8(token) ||
          !ids_.emplace(token, next_id()).second)
        fail<error>("bpe_trainer: special token \"", token,
                    "\"; 1 to 1000 bytes of UTF-8 that are not given twice are wanted");
      tokens_.push_back(token);
      detail::added_token added;
      added.id = ids_.at(token);
      added.content = token;
      special_.add(token, added);
    }
    for (const auto& [character, b] : by_character) {
      std::string token;
      detail::append_character(character, token);
      if (!ids_.emplace(token, next_id()).second)
        fail<error>("bpe_trainer: special token \"", token, "\" is the token of a byte");
      of_byte_[b] = next_id();
      tokens_.push_back(token);
    }
  }

  /// Counts the words of a text. Special tokens written in it are left out.
  void add(std::string_view text) {
    std::string valid;
    if (!detail::is_utf8(text)) {
      detail::append_utf8(text, valid, false);
      text = valid;
    }
    std::vector<detail::token_matcher::piece> pieces;
    special_.split(text, pieces);
    for (const auto& piece : pieces) {
      if (piece.id >= 0) continue;
      std::string part(piece.text);
      if (options_.nfc && !detail::is_ascii(part)) part = detail::nfc(part);
      if (options_.add_prefix_space && part[0] != ' ') part.insert(0, " ");
      for (std::size_t at = 0; at < part.size();) {
        const std::size_t end = detail::word_end(part, at);
        ++counts_[part.substr(at, end - at)];
        at = end;
      }
    }
  }

  /// The text of a tokenizer.json with the vocabulary learned from what was added. Fewer tokens
  /// than asked for if no pair occurs often enough.
  std::string train() const {
    std::vector<std::string> tokens = tokens_;
    auto ids = ids_;
    std::vector<std::pair<std::int32_t, std::int32_t>> merges;
    learn(tokens, ids, merges);
    return to_json(tokens, merges);
  }

 private:
  struct word {
    std::vector<std::int32_t> ids;
    std::int64_t count;
  };
  using pair = std::pair<std::int32_t, std::int32_t>;
  struct pair_hash {
    std::size_t operator()(const pair& p) const {
      const auto key = std::uint64_t{static_cast<std::uint32_t>(p.first)} << 32 |
                       static_cast<std::uint32_t>(p.second);
      return static_cast<std::size_t>(key * 0x9E3779B97F4A7C15u >> 20);
    }
  };
  struct pair_facts {
    std::int64_t count = 0;
    std::unordered_set<std::size_t> words;  // in which it was seen; some no longer have it
  };
  struct entry {
    std::int64_t count;
    pair p;
    bool operator<(const entry& other) const {
      return count != other.count ? count < other.count : p > other.p;
    }
  };

  std::int32_t next_id() const { return static_cast<std::int32_t>(tokens_.size()); }

  void learn(std::vector<std::string>& tokens, std::unordered_map<std::string, std::int32_t>& ids,
             std::vector<pair>& merges) const {
    std::vector<word> words;
    for (const auto& [text, count] : counts_) {
      words.push_back({{}, count});
      for (const char c : text) words.back().ids.push_back(of_byte_[static_cast<unsigned char>(c)]);
    }
    std::unordered_map<pair, pair_facts, pair_hash> pairs;
    for (std::size_t w = 0; w < words.size(); ++w) {
      for (std::size_t i = 0; i + 1 < words[w].ids.size(); ++i) {
        pair_facts& facts = pairs[{words[w].ids[i], words[w].ids[i + 1]}];
        facts.count += words[w].count;
        facts.words.insert(w);
      }
    }
    std::priority_queue<entry> queue;
    for (const auto& [p, facts] : pairs) queue.push({facts.count, p});
    while (std::cmp_less(tokens.size(), options_.vocabulary) && !queue.empty()) {
      const entry best = queue.top();
      queue.pop();
      const std::int64_t count = pairs[best.p].count;
      if (best.count != count) {  // changed since it was queued
        if (count > 0) queue.push({count, best.p});
        continue;
      }
      if (count < std::max<std::int64_t>(options_.least_count, 1)) break;
      const std::string token = tokens[static_cast<std::size_t>(best.p.first)] +
                                tokens[static_cast<std::size_t>(best.p.second)];
      const auto [known, fresh] = ids.emplace(token, static_cast<std::int32_t>(tokens.size()));
      if (fresh) tokens.push_back(token);
      merges.push_back(best.p);
      std::set<pair> grown;  // in a fixed order
      const auto in_words = std::move(pairs[best.p].words);
      for (const std::size_t w : in_words)
        replace(words[w], w, best.p, known->second, pairs, grown);
      for (const pair& p : grown)
        if (pairs[p].count > 0) queue.push({pairs[p].count, p});
    }
  }

  /// Replaces the pair in one word and keeps the counts of its neighbours right.
  static void replace(word& in, std::size_t w, pair p, std::int32_t id,
                      std::unordered_map<pair, pair_facts, pair_hash>& pairs,
                      std::set<pair>& grown) {
    for (std::size_t i = 0; i + 1 < in.ids.size(); ++i)
      pairs[{in.ids[i], in.ids[i + 1]}].count -= in.count;
    std::size_t left = 0;
    for (std::size_t i = 0; i < in.ids.size(); ++i) {
      const bool match = i + 1 < in.ids.size() && in.ids[i] == p.first && in.ids[i + 1] == p.second;
      in.ids[left++] = match ? id : in.ids[i];
      if (match) ++i;
    }
    in.ids.resize(left);
    for (std::size_t i = 0; i + 1 < in.ids.size(); ++i) {
      const pair now{in.ids[i], in.ids[i + 1]};
      pair_facts& facts = pairs[now];
      facts.count += in.count;
      if (now.first == id || now.second == id) {
        facts.words.insert(w);
        grown.insert(now);
      }
    }
  }

  std::string to_json(const std::vector<std::string>& tokens,
                      const std::vector<pair>& merges) const {
    json added = json::array(), vocabulary = json::object(), list = json::array();
    for (std::size_t i = 0; i < options_.special.size(); ++i)
      added.push_back({{"id", i},
                       {"content", options_.special[i]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
    for (std::size_t i = 0; i < tokens.size(); ++i) vocabulary[tokens[i]] = i;
    for (const pair& p : merges)
      list.push_back(tokens[static_cast<std::size_t>(p.first)] + " " +
                     tokens[static_cast<std::size_t>(p.second)]);
    const json bytes = {{"type", "ByteLevel"},
                        {"add_prefix_space", options_.add_prefix_space},
                        {"trim_offsets", true},
                        {"use_regex", true}};
    json model = {{"type", "BPE"},
                  {"dropout", nullptr},
                  {"unk_token", nullptr},
                  {"continuing_subword_prefix", nullptr},
                  {"end_of_word_suffix", nullptr},
                  {"fuse_unk", false},
                  {"byte_fallback", false},
                  {"ignore_merges", false},
                  {"vocab", std::move(vocabulary)},
                  {"merges", std::move(list)}};
    json root = {{"version", "1.0"},
                 {"truncation", nullptr},
                 {"padding", nullptr},
                 {"added_tokens", std::move(added)},
                 {"normalizer", options_.nfc ? json{{"type", "NFC"}} : json()},
                 {"pre_tokenizer", bytes},
                 {"post_processor", bytes},
                 {"decoder", bytes},
                 {"model", std::move(model)}};
    return root.dump(1);
  }

  bpe_options options_;
  std::vector<std::string> tokens_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::int32_t of_byte_[256] = {};
  detail::token_matcher special_;
  std::map<std::string, std::int64_t> counts_;  // sorted: the same words give the same result
};

/// Trains on the texts, writes `path` (a tokenizer.json), and returns the tokenizer that it holds.
template <class Texts>
tokenizer train_tokenizer(const std::filesystem::path& path, const Texts& texts,
                          bpe_options options = {}) {
  bpe_trainer trainer(std::move(options));
  for (const auto& text : texts) trainer.add(text);
  const std::string file = trainer.train();
  tokenizer words = tokenizer::parse(file, path.string());
  write_file(path, file);
  return words;
}

}  // namespace mlmamba
