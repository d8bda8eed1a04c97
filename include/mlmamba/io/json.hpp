// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// JSON from files that nobody trusts: one parser, typed getters, errors that name file and key.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/mapped_file.hpp"

namespace mlmamba {

using json = nlohmann::json;

namespace detail {

/// Text of a value for an error message, cut to a length that fits on a line.
inline std::string json_excerpt(const json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 60) {
    std::size_t cut = 57;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
    text = text.substr(0, cut) + "...";
  }
  return text;
}

/// Quotes bare Infinity, -Infinity and NaN, which Python's writer emits
/// (`"time_step_limit": [0.0, Infinity]` in published configs) and JSON does not know.
inline std::string json_quote_infinity(std::string_view text) {
  std::string out;
  std::size_t copied = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
      continue;
    }
    if (c == '"') quoted = true;
    if (c != 'I' && c != 'N' && c != '-') continue;
    for (std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
      if (text.substr(i, word.size()) != word) continue;
      // As the name of a member it would be none in JSON, nor in Python.
      const std::size_t next = text.find_first_not_of(" \t\r\n", i + word.size());
      if (next != std::string_view::npos && text[next] == ':') break;
      out.append(text.substr(copied, i - copied)).append("\"").append(word).append("\"");
      i += word.size() - 1;
      copied = i + 1;
      break;
    }
  }
  return out.append(text.substr(std::min(copied, text.size())));
}

/// Builds the value event by event. The library's own builder takes the last of two equal keys and
/// any depth; a check after the fact would come too late for both.
class json_builder : public nlohmann::json_sax<json> {
 public:
  json_builder(std::string_view who, int max_depth) : who_(who), max_depth_(max_depth) {}
  json take() { return std::move(root_); }

  bool null() override { return put(nullptr), true; }
  bool boolean(bool v) override { return put(v), true; }
  bool number_integer(std::int64_t v) override { return put(v), true; }
  bool number_unsigned(std::uint64_t v) override { return put(v), true; }
  bool number_float(double v, const std::string&) override { return put(v), true; }
  bool string(std::string& v) override { return put(std::move(v)), true; }
  bool binary(json::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::object()), true; }
  bool start_array(std::size_t) override { return open(json::array()), true; }
  bool end_object() override { return open_.pop_back(), true; }
  bool end_array() override { return open_.pop_back(), true; }
  bool key(std::string& name) override {
    json& object = *open_.back();
    if (object.contains(name))
      fail<io_error>(who_, ": key ", json_excerpt(name), " occurs twice in one object");
    member_ = &object[name];
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception& e) override {
    const std::string why = e.what();
    fail<io_error>(who_, ": not valid JSON (", why.substr(0, 200), ")");
  }

 private:
  json* put(json&& value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (!open_.back()->is_array()) return &(*member_ = std::move(value));
    open_.back()->push_back(std::move(value));
    return &open_.back()->back();
  }
  void open(json&& value) {
    if (std::cmp_greater_equal(open_.size(), max_depth_))
      fail<io_error>(who_, ": JSON nested deeper than ", max_depth_, " levels; not read");
    open_.push_back(put(std::move(value)));
  }

  std::string_view who_;
  int max_depth_;
  json root_;
  std::vector<json*> open_;  // only the innermost container grows, so the pointers stay valid
  json* member_ = nullptr;
};

template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};

}  // namespace detail

/// Parses `text`; `who` names it in errors.
///
/// Numerics  Infinity, -Infinity and NaN are accepted as Python writes them; `json_to<double>`
///           gives their value
/// Errors    io_error if it is not JSON, not UTF-8, nested deeper than `max_depth`, or has a key
///           twice in one object (readers differ in which one they take)
inline json parse_json(std::string_view text, std::string_view who, int max_depth = 64) {
  detail::json_builder builder(who, max_depth);
  json::sax_parse(detail::json_quote_infinity(text), &builder);
  return builder.take();
}

/// Reads and parses a file. Errors: io_error naming the path.
inline json read_json(const std::filesystem::path& path, int max_depth = 64) {
  const mapped_file file(path);
  return parse_json(file.text(), path.string(), max_depth);
}

/// `value` as a T: bool, any integer (range checked; 3.0 is not an integer), float or double,
/// std::string, or std::vector of those. `who` and `key` name the place in the error.
template <class T>
T json_to(const json& value, std::string_view who, std::string_view key) {
  const auto wanted = [&](const char* what) {
    fail<io_error>(who, ": \"", key, "\" is ", detail::json_excerpt(value), "; ", what,
                   " is wanted");
  };
  if constexpr (std::is_same_v<T, bool>) {
    if (!value.is_boolean()) wanted("true or false");
    return value.get<bool>();
  } else if constexpr (std::is_integral_v<T>) {
    if (!value.is_number_integer()) wanted("an integer");
    if (value.is_number_unsigned()) {
      if (!std::in_range<T>(value.get<std::uint64_t>())) wanted("a smaller integer");
      return static_cast<T>(value.get<std::uint64_t>());
    }
    if (!std::in_range<T>(value.get<std::int64_t>()))
      wanted(std::is_unsigned_v<T> ? "an integer that is not negative" : "an integer in range");
    return static_cast<T>(value.get<std::int64_t>());
  } else if constexpr (std::is_floating_point_v<T>) {
    const json& word = value.is_object() && value.size() == 1 && value.contains("__float__")
                           ? value.at("__float__")  // the spelling of newer Hugging Face configs
                           : value;
    if (word == "Infinity") return std::numeric_limits<T>::infinity();
    if (word == "-Infinity") return -std::numeric_limits<T>::infinity();
    if (word == "NaN") return std::numeric_limits<T>::quiet_NaN();
    if (!value.is_number()) wanted("a number");
    return static_cast<T>(value.get<double>());
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!value.is_string()) wanted("a string");
    return value.get<std::string>();
  } else {
    static_assert(detail::is_vector<T>::value,
                  "json_to<T>: T is bool, a number, std::string or a std::vector of those");
    if (!value.is_array()) wanted("an array");
    T out;
    out.reserve(value.size());
    for (std::size_t i = 0; i < value.size(); ++i)
      out.push_back(json_to<typename T::value_type>(
          value[i], who, std::string(key) + "[" + std::to_string(i) + "]"));
    return out;
  }
}

/// True if `object` has `key` and its value is not null.
inline bool json_has(const json& object, std::string_view key) {
  if (!object.is_object()) return false;
  const auto at = object.find(key);
  return at != object.end() && !at->is_null();
}

/// The member `key`. Errors: io_error if `object` is not an object or has no such key.
inline const json& json_at(const json& object, std::string_view key, std::string_view who) {
  if (!object.is_object())
    fail<io_error>(who, ": ", detail::json_excerpt(object), " where an object with \"", key,
                   "\" is wanted");
  const auto at = object.find(key);
  if (at == object.end()) fail<io_error>(who, ": there is no \"", key, "\"; it is needed");
  return *at;
}

/// The member `key` as a T.
template <class T>
T json_get(const json& object, std::string_view key, std::string_view who) {
  return json_to<T>(json_at(object, key, who), who, key);
}

/// The member `key` as a T, or `fallback` if it is absent or null. A wrong type still fails.
template <class T>
T json_get_or(const json& object, std::string_view key, T fallback, std::string_view who) {
  if (!object.is_object()) json_at(object, key, who);
  return json_has(object, key) ? json_to<T>(*object.find(key), who, key) : std::move(fallback);
}

}  // namespace mlmamba
