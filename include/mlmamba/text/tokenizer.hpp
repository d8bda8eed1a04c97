// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Byte-level BPE: text to token ids and back, as Hugging Face's tokenizer.json describes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "mlmamba/text/detail/added_tokens.hpp"
#include "mlmamba/text/detail/byte_level.hpp"
#include "mlmamba/text/detail/merge_table.hpp"
#include "mlmamba/text/detail/nfc.hpp"
#include "mlmamba/text/detail/tokenizer_file.hpp"
#include "mlmamba/text/detail/utf8.hpp"

namespace mlmamba {

/// A tokenizer, immutable once made: copies share it, and any number of threads may use it.
///
///   text -> added tokens cut out (longest first) -> NFC, if the file says so -> added tokens that
///   are looked for after it -> words by GPT-2's pattern -> bytes -> merges by rank -> ids
///
/// Input     text that is not UTF-8 has each maximal wrong part replaced by U+FFFD first. Special
///           tokens written in the text become their ids. Nothing is added at either end
/// Errors    io_error for a file that is missing, wrong, or asks for what this is not (other
///           models, normalisers and pre-tokenizers, dropout, truncation); error for an id or a
///           token that is not there, or a byte for which the vocabulary has no token
/// Source    Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019 (bytes); the behaviour of
///           huggingface/tokenizers, against which it is tested
class tokenizer {
 public:
  /// Reads a tokenizer.json, or the one in a folder. A tokenizer_config.json beside it says which
  /// token ends a text; without one that is <|endoftext|>, if there is such a token.
  static tokenizer open(const std::filesystem::path& path) {
    std::error_code none;
    const auto file = std::filesystem::is_directory(path, none) ? path / "tokenizer.json" : path;
    tokenizer words = parse(mapped_file(file).text(), file.string());
    const auto config = file.parent_path() / "tokenizer_config.json";
    if (std::filesystem::is_regular_file(config, none))
      words.read_config(read_json(config), config.string());
    return words;
  }

  /// The same from the text of a tokenizer.json; `who` names it in errors.
  static tokenizer parse(std::string_view text, std::string_view who) {
    tokenizer words;
    words.table_ = std::make_shared<const tables>(detail::read_tokenizer_file(text, who));
    words.eos_ = words.find("<|endoftext|>");
    return words;
  }

  /// The ids of a text.
  std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> ids;
    std::string valid;
    if (!detail::is_ascii(text) && !detail::is_utf8(text)) {
      detail::append_utf8(text, valid, false);
      text = valid;
    }
    ids.reserve(text.size() / 3);
    std::vector<piece> pieces;
    table_->raw.split(text, pieces);
    for (const piece& p : pieces) p.id >= 0 ? ids.push_back(p.id) : encode_raw(p.text, ids);
    return ids;
  }

  /// The text of ids. What is not UTF-8 in the result is replaced as in `encode`.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = true) const {
    std::string bytes, text;
    for (const std::int32_t id : ids)
      if (!(skip_special && is_special(id))) bytes += token_bytes(id);
    detail::append_utf8(bytes, text, false);
    return text;
  }

  /// One more than the largest id.
  std::int32_t size() const { return static_cast<std::int32_t>(table_->file.tokens.size()); }
  bool contains(std::int32_t id) const {
    return id >= 0 && id < size() && table_->file.used[static_cast<std::size_t>(id)];
  }
  /// The id of a token as the file spells it ("Ġthe" is " the"), if there is one.
  std::optional<std::int32_t> find(std::string_view token) const {
    const auto at = table_->file.ids.find(std::string(token));
    return at == table_->file.ids.end() ? std::nullopt : std::optional(at->second);
  }
  std::int32_t id(std::string_view token) const {
    const auto found = find(token);
    if (!found) fail<error>("tokenizer: there is no token \"", token, "\" among ", size());
    return *found;
  }
  /// The token as the file spells it.
  const std::string& token(std::int32_t id) const {
    check(id);
    return table_->file.tokens[static_cast<std::size_t>(id)];
  }
  /// The bytes that the token stands for; not UTF-8 by themselves.
  const std::string& token_bytes(std::int32_t id) const {
    check(id);
    return table_->bytes[static_cast<std::size_t>(id)];
  }
  bool is_special(std::int32_t id) const {
    check(id);
    return table_->special[static_cast<std::size_t>(id)];
  }
  /// The token that ends a text.
  std::optional<std::int32_t> eos() const { return eos_; }

 private:
  using piece = detail::token_matcher::piece;

  /// Everything that is computed once from the file.
  struct tables {
    detail::tokenizer_file file;
    std::vector<std::string> bytes;  // by id
    std::vector<bool> special;       // by id
    std::int32_t of_byte[256];       // -1: the vocabulary lacks it
    detail::merge_table merges;
    detail::token_matcher raw, normalised;
    // Words whose merges end in one token, which most words of a text are: id + 1 by hash, 0 free.
    std::vector<std::int32_t> whole;

    explicit tables(detail::tokenizer_file&& f) : file(std::move(f)), merges(file.merges.size()) {
      const auto& alphabet = detail::byte_alphabet::get();
      bytes.resize(file.tokens.size());
      special.resize(file.tokens.size());
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = alphabet.bytes(file.tokens[i]);
      for (std::size_t b = 0; b < 256; ++b) {
        const auto at = file.ids.find(alphabet.spelled(std::string(1, static_cast<char>(b))));
        of_byte[b] = at == file.ids.end() ? -1 : at->second;
      }
      for (const auto& [left, right] : file.merges)
        merges.add(file.ids.at(left), file.ids.at(right), file.ids.at(left + right));
      for (const detail::added_token& token : file.added) {
        if (token.special) special[static_cast<std::size_t>(token.id)] = true;
        if (token.normalized) {
          normalised.add(file.nfc ? detail::nfc(token.content) : token.content, token);
        } else {
          raw.add(token.content, token);
        }
      }
      find_whole_words();
    }

    static std::size_t hash(std::string_view word) {
      std::uint64_t h = 0xCBF29CE484222325u;  // FNV-1a
      for (const char c : word) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
      return static_cast<std::size_t>(h ^ h >> 32);
    }
    void find_whole_words() {
      std::size_t slots = 16;
      while (slots < 3 * bytes.size()) slots *= 2;
      whole.assign(slots, 0);
      const auto& alphabet = detail::byte_alphabet::get();
      std::vector<std::int32_t> ids;
      for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (!file.in_model[i] || bytes[i].empty() || alphabet.spelled(bytes[i]) != file.tokens[i])
          continue;
        if (!file.ignore_merges) {
          ids.clear();
          if (!spell(bytes[i], ids)) continue;
          merges.merge(ids, 0);
          if (ids.size() != 1 || ids[0] != static_cast<std::int32_t>(i)) continue;
        }
        std::size_t at = hash(bytes[i]) & (slots - 1);
        while (whole[at] != 0) at = (at + 1) & (slots - 1);
        whole[at] = static_cast<std::int32_t>(i) + 1;
      }
    }
    std::int32_t whole_word(std::string_view word) const {
      const std::size_t mask = whole.size() - 1;
      for (std::size_t at = hash(word) & mask; whole[at] != 0; at = (at + 1) & mask)
        if (bytes[static_cast<std::size_t>(whole[at] - 1)] == word) return whole[at] - 1;
      return -1;
    }
    /// The tokens of the single bytes; false if one is missing.
    bool spell(std::string_view word, std::vector<std::int32_t>& ids) const {
      for (const char c : word) {
        const std::int32_t id = of_byte[static_cast<unsigned char>(c)];
        if (id < 0) return false;
        ids.push_back(id);
      }
      return true;
    }
  };

  tokenizer() = default;

  void encode_raw(std::string_view text, std::vector<std::int32_t>& ids) const {
    std::string composed;
    if (table_->file.nfc && !detail::is_ascii(text)) text = composed = detail::nfc(text);
    if (table_->normalised.empty()) return encode_words(text, ids);
    std::vector<piece> pieces;
    table_->normalised.split(text, pieces);
    for (const piece& p : pieces) p.id >= 0 ? ids.push_back(p.id) : encode_words(p.text, ids);
  }

  void encode_words(std::string_view text, std::vector<std::int32_t>& ids) const {
    std::string prefixed;
    if (table_->file.add_prefix_space && !text.empty() && text[0] != ' ')
      text = prefixed = std::string(" ").append(text);
    if (!table_->file.split_words) return encode_word(text, ids);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = detail::word_end(text, at);
      encode_word(text.substr(at, end - at), ids);
      at = end;
    }
  }

  void encode_word(std::string_view word, std::vector<std::int32_t>& ids) const {
    if (word.empty()) return;
    const std::int32_t whole = table_->whole_word(word);
    if (whole >= 0) return ids.push_back(whole);
    const std::size_t start = ids.size();
    if (!table_->spell(word, ids)) {
      ids.resize(start);
      spell_unknown(word, ids);
    }
    table_->merges.merge(ids, start);
  }

  /// A word with bytes that have no token: the unknown token for each, or for each run of them.
  void spell_unknown(std::string_view word, std::vector<std::int32_t>& ids) const {
    bool before = false;
    for (const char c : word) {
      const std::int32_t id = table_->of_byte[static_cast<unsigned char>(c)];
      if (id < 0 && table_->file.unknown < 0)
        fail<error>("tokenizer: the vocabulary has no token for byte ",
                    int{static_cast<unsigned char>(c)}, " and no unknown token");
      if (id >= 0) {
        ids.push_back(id);
      } else if (!(before && table_->file.fuse_unknown)) {
        ids.push_back(table_->file.unknown);
      }
      before = id < 0;
    }
  }

  void check(std::int32_t id) const {
    if (!contains(id))
      fail<error>("tokenizer: id ", id, "; an id of the vocabulary, 0 to ", size() - 1,
                  ", is wanted");
  }

  void read_config(const json& config, std::string_view who) {
    if (!json_has(config, "eos_token")) return;
    const json& named = config.at("eos_token");  // a string, or an object with "content"
    const std::string token = named.is_object() ? json_get<std::string>(named, "content", who)
                                                : json_to<std::string>(named, who, "eos_token");
    eos_ = find(token);
    if (!eos_)
      fail<io_error>(who, ": \"eos_token\" is \"", token,
                     "\"; a token of the vocabulary is wanted");
  }

  std::shared_ptr<const tables> table_;
  std::optional<std::int32_t> eos_;
};

}  // namespace mlmamba
