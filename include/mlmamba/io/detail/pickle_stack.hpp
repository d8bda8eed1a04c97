// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What a pickle works on: its values, a stack of them with marks, and a memo.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"

namespace mlmamba::detail {

/// A value of a pickle. Containers hold the numbers of values, so that sharing is cheap, and a
/// container inside itself is no danger here: whoever walks the values has to bound the walk.
struct pickle_value {
  enum class type : std::uint8_t {
    none,     ///< None, or something of which only the presence counts
    number,   ///< int or bool, in `number`; a float has 0
    text,     ///< in `text`
    tuple,    ///< `items`
    list,     ///< `items`
    dict,     ///< `items`: key, value, key, value
    global,   ///< one of the names in pickle_names.hpp, `number`th
    storage,  ///< items: (text key, number of elements), `number`: its dtype
    tensor,   ///< items: storage, offset, tuple of sizes, tuple of strides; `number`: its dtype
  };
  type kind = type::none;
  std::int64_t number = 0;
  std::string_view text{};  // borrows from the pickle
  std::vector<std::uint32_t> items{};
};

/// Errors    io_error for a stack that runs empty, and beyond `most` values
class pickle_stack {
 public:
  using value = pickle_value;
  using type = pickle_value::type;
  static constexpr std::size_t most = std::size_t{1} << 22;

  explicit pickle_stack(std::string who) : who_(std::move(who)) {}

  const std::string& who() const { return who_; }
  const value& operator[](std::uint32_t i) const { return values_[i]; }
  [[noreturn]] void damaged(std::string_view what) const {
    fail<io_error>(who_, ": the pickle is damaged (", what, ")");
  }

  void push(value v) {
    if (values_.size() >= most)
      fail<io_error>(who_, ": the pickle has more than ", most, " values; not read");
    values_.push_back(std::move(v));
    stack_.push_back(static_cast<std::uint32_t>(values_.size() - 1));
  }
  /// A value that is there already once more.
  void push_again(std::uint32_t i) {
    if (stack_.size() >= most) damaged("the stack is too deep");
    stack_.push_back(i);
  }
  std::uint32_t pop() {
    if (stack_.size() <= floor()) damaged("the stack is empty");
    const std::uint32_t i = stack_.back();
    stack_.pop_back();
    return i;
  }
  value& top(type wanted, std::string_view what) {
    if (stack_.size() <= floor() || values_[stack_.back()].kind != wanted) damaged(what);
    return values_[stack_.back()];
  }

  void mark() {
    if (marks_.size() >= most) damaged("the stack is too deep");
    marks_.push_back(stack_.size());
  }
  /// The values above the last mark, which goes too.
  std::vector<std::uint32_t> above_mark() {
    if (marks_.empty()) damaged("there is no mark");
    const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<std::uint32_t> items(from, stack_.end());
    stack_.erase(from, stack_.end());
    marks_.pop_back();
    return items;
  }

  void remember(std::uint64_t key) {
    if (stack_.empty()) damaged("nothing to remember");
    memo_[key] = stack_.back();
  }
  void remember_next() { remember(memo_.size()); }
  void recall(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) damaged("a value that was not remembered");
    push_again(found->second);
  }

 private:
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  std::string who_;
  std::vector<value> values_;
  std::vector<std::uint32_t> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, std::uint32_t> memo_;
};

}  // namespace mlmamba::detail
