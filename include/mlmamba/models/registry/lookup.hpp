// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tables of things that have an id: finding one, and what to say when it isn't there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/core/error.hpp"

namespace mlmamba::registry {

/// How many letters must be put in, taken away or replaced to make `a` of `b`, case aside.
inline std::size_t spelling_distance(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; };
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

/// The known id that `id` is likely a misspelling of, or "".
inline std::string_view nearest(std::string_view id, const std::vector<std::string_view>& known) {
  std::string_view best;
  std::size_t least = id.size() / 3 + 1;  // more letters wrong than a third is another word
  if (id.size() > 100) return best;       // not a misspelling; and the distance is quadratic
  for (std::string_view k : known)
    if (const std::size_t d = spelling_distance(id, k); d < least) least = d, best = k;
  return best;
}

/// "language model "mamba2-2.7" is not known; did you mean mamba2-2.7b? Known are: ..."
inline std::string unknown_text(std::string_view what, std::string_view id,
                                const std::vector<std::string_view>& known) {
  std::string text = std::string(what) + " \"" + std::string(id.substr(0, 100)) + "\" is not known";
  if (const auto best = nearest(id, known); !best.empty())
    text += "; did you mean " + std::string(best) + "?";
  text += text.back() == '?' ? " Known are: " : "; known are: ";
  for (std::size_t i = 0; i < known.size(); ++i)
    text += (i > 0 ? ", " : "") + std::string(known[i]);
  return text;
}

template <class Table>
std::vector<std::string_view> ids_of(const Table& table) {
  std::vector<std::string_view> ids;
  for (const auto& entry : table) ids.push_back(entry.id);
  return ids;
}

/// The entry with this id, or null.
template <class Table>
constexpr const typename Table::value_type* find(const Table& table, std::string_view id) {
  for (const auto& entry : table)
    if (entry.id == id) return &entry;
  return nullptr;
}

/// The entry with this id. Errors: error that lists the ids there are.
template <class Table>
const typename Table::value_type& get(std::string_view what, const Table& table,
                                      std::string_view id) {
  if (const auto* entry = find(table, id)) return *entry;
  fail<error>(unknown_text(what, id, ids_of(table)));
}

}  // namespace mlmamba::registry
