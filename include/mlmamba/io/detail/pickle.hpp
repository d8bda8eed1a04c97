// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Python pickles of tensors, without Python: an interpreter that knows a few names and runs
// nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/detail/pickle_names.hpp"

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

/// Runs the program that a pickle is, as far as it makes dicts of tensors.
///
/// Allowed   the instructions that PyTorch writes; the names in pickle_names.hpp
/// Errors    io_error that names any other name or instruction, for a stack that runs empty, for a
///           pickle that ends early, and beyond `most` values
/// Source    Lib/pickletools.py of CPython describes the instructions
class pickle_reader {
 public:
  using value = pickle_value;
  using type = pickle_value::type;
  static constexpr std::size_t most = std::size_t{1} << 22;

  pickle_reader(std::string_view text, std::string who) : text_(text), who_(std::move(who)) {
    while (!done_) step(static_cast<std::uint8_t>(take(1)[0]));
  }
  const value& root() const { return values_[root_]; }
  const value& at(std::uint32_t i) const { return values_[i]; }

 private:
  [[noreturn]] void damaged(std::string_view what) const {
    fail<io_error>(who_, ": the pickle is damaged at byte ", at_, " (", what, ")");
  }
  std::string_view take(std::uint64_t n) {
    if (n > text_.size() - at_) damaged("it ends early");
    const auto part = text_.substr(at_, static_cast<std::size_t>(n));
    at_ += part.size();
    return part;
  }
  /// An unsigned number of n bytes.
  std::uint64_t number(std::size_t n) {
    const auto bytes = take(n);
    std::uint64_t v = 0;
    for (std::size_t i = 0; i < n; ++i)
      v |= std::uint64_t{static_cast<std::uint8_t>(bytes[i])} << (8 * i);
    return v;
  }
  std::string_view line() {
    const auto end = text_.find('\n', at_);
    if (end == std::string_view::npos) damaged("a line without end");
    const auto part = text_.substr(at_, end - at_);
    at_ = end + 1;
    return part;
  }

  std::uint32_t make(value v) {
    if (values_.size() >= most)
      fail<io_error>(who_, ": the pickle has more than ", most, " values; not read");
    values_.push_back(std::move(v));
    return static_cast<std::uint32_t>(values_.size() - 1);
  }
  void push(value v) { stack_.push_back(make(std::move(v))); }
  void push_number(std::int64_t n) { push({type::number, n}); }
  void push_text(std::string_view t) { push({type::text, 0, t}); }
  std::uint32_t pop() {
    if (stack_.size() <= floor()) damaged("the stack is empty");
    const std::uint32_t v = stack_.back();
    stack_.pop_back();
    return v;
  }
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  value& top(type wanted, std::string_view what) {
    if (stack_.size() <= floor() || values_[stack_.back()].kind != wanted) damaged(what);
    return values_[stack_.back()];
  }
  /// The values above the last mark, which goes too.
  std::vector<std::uint32_t> above_mark() {
    if (marks_.empty()) damaged("there is no mark");
    const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<std::uint32_t> v(from, stack_.end());
    stack_.erase(from, stack_.end());
    marks_.pop_back();
    return v;
  }
  void push_tuple(std::size_t n) {
    value v{type::tuple};
    v.items.resize(n);
    for (std::size_t i = n; i-- > 0;) v.items[i] = pop();
    push(std::move(v));
  }
  void remember(std::uint32_t key) {
    if (stack_.empty()) damaged("nothing to remember");
    memo_[key] = stack_.back();
  }
  void recall(std::uint32_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) damaged("a value that was not remembered");
    if (stack_.size() >= most) damaged("the stack is too deep");
    stack_.push_back(found->second);
  }

  void step(std::uint8_t code) {
    switch (code) {
      case 0x80:  // PROTO
        number(1);
        return;
      case 0x95:  // FRAME
        number(8);
        return;
      case '.':
        root_ = pop();
        done_ = true;
        return;
      case '(':
        if (marks_.size() >= most) damaged("the stack is too deep");
        marks_.push_back(stack_.size());
        return;
      case 'N':
        return push({});
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        return push_number(code == 0x88);
      case 'J':
        return push_number(static_cast<std::int32_t>(static_cast<std::uint32_t>(number(4))));
      case 'K':
        return push_number(static_cast<std::int64_t>(number(1)));
      case 'M':
        return push_number(static_cast<std::int64_t>(number(2)));
      case 0x8a:  // LONG1
        return long_number(static_cast<std::size_t>(number(1)));
      case 'G':
        number(8);
        return push_number(0);  // no float of a checkpoint is used
      case 'X':
      case 'T':
        return push_text(take(number(4)));
      case 0x8c:  // SHORT_BINUNICODE
      case 'U':
        return push_text(take(number(1)));
      case '}':
        return push({type::dict});
      case ']':
        return push({type::list});
      case ')':
        return push({type::tuple});
      case 't': {
        value v{type::tuple};
        v.items = above_mark();
        return push(std::move(v));
      }
      case 0x85:  // TUPLE1
      case 0x86:
      case 0x87:
        return push_tuple(static_cast<std::size_t>(code - 0x84));
      case 'a':
      case 'e': {
        const auto items = code == 'a' ? std::vector{pop()} : above_mark();
        append(top(type::list, "no list to append to"), items);
        return;
      }
      case 's': {
        const std::uint32_t v = pop(), k = pop();
        append(top(type::dict, "no dict to put into"), {k, v});
        return;
      }
      case 'u': {
        const auto items = above_mark();
        if (items.size() % 2 != 0) damaged("a key without value");
        append(top(type::dict, "no dict to put into"), items);
        return;
      }
      case 'q':
        return remember(static_cast<std::uint32_t>(number(1)));
      case 'r':
        return remember(static_cast<std::uint32_t>(number(4)));
      case 0x94:  // MEMOIZE
        return remember(static_cast<std::uint32_t>(memo_.size()));
      case 'h':
        return recall(static_cast<std::uint32_t>(number(1)));
      case 'j':
        return recall(static_cast<std::uint32_t>(number(4)));
      case 'c': {
        const auto module = line(), name = line();
        return push_global(module, name);
      }
      case 0x93: {  // STACK_GLOBAL
        const value &name = values_[pop()], &module = values_[pop()];
        if (name.kind != type::text || module.kind != type::text) damaged("a name that is no text");
        return push_global(module.text, name.text);
      }
      case 'Q':
        return push_storage();
      case 'R':
        return call();
      case 'b':  // BUILD: attributes of a dict, such as a state_dict's _metadata, are not needed
        pop();
        top(type::dict, "attributes for what is no dict");
        return;
      default:
        fail<io_error>(who_, ": the pickle has the instruction ", pickle_instruction(code),
                       "; only those that make tensors are run");
    }
  }

  void append(value& to, const std::vector<std::uint32_t>& items) {
    to.items.insert(to.items.end(), items.begin(), items.end());
  }
  void long_number(std::size_t n) {
    const auto bytes = take(n);
    std::uint64_t v = 0;
    for (std::size_t i = 0; i < 8; ++i) {
      const bool negative = n > 0 && (static_cast<std::uint8_t>(bytes[n - 1]) & 0x80) != 0;
      const std::uint8_t byte = i < n      ? static_cast<std::uint8_t>(bytes[i])
                                : negative ? std::uint8_t{0xFF}
                                           : std::uint8_t{0};
      v |= std::uint64_t{byte} << (8 * i);
    }
    if (n > 8) damaged("a number of more than 64 bits");
    push_number(static_cast<std::int64_t>(v));
  }
  void push_global(std::string_view module, std::string_view name) {
    for (std::size_t i = 0; i < pickle_names.size(); ++i)
      if (pickle_names[i].module == module && pickle_names[i].name == name)
        return push({type::global, static_cast<std::int64_t>(i)});
    fail<io_error>(who_, ": the pickle asks for ", printable(module), ".", printable(name),
                   ", which is never run; only tensors in dicts are read");
  }
  const pickle_name& name_of_global(const value& v, std::string_view what) const {
    if (v.kind != type::global) damaged(what);
    return pickle_names[static_cast<std::size_t>(v.number)];
  }

  /// ("storage", type, key, device, number of elements)
  void push_storage() {
    const value& id = values_[pop()];
    const auto item = [&](std::size_t i, type kind) -> const value& {
      if (id.kind != type::tuple || id.items.size() != 5 || values_[id.items[i]].kind != kind)
        damaged("a persistent id that is no storage");
      return values_[id.items[i]];
    };
    if (item(0, type::text).text != "storage") damaged("a persistent id that is no storage");
    const pickle_name& what = name_of_global(item(1, type::global), "a storage without type");
    if (what.use != pickle_use::storage) damaged("a storage without type");
    (void)item(2, type::text), (void)item(4, type::number);
    value v{type::storage, static_cast<std::int64_t>(what.type)};
    v.items = {id.items[2], id.items[4]};
    push(std::move(v));
  }

  void call() {
    const std::uint32_t given = pop();
    const pickle_name& what = name_of_global(values_[pop()], "a call of what is no function");
    if (values_[given].kind != type::tuple) damaged("a call without arguments");
    const std::vector<std::uint32_t>& with = values_[given].items;  // until something is made
    const auto is = [&](std::size_t i, type kind) { return values_[with[i]].kind == kind; };
    switch (what.use) {
      case pickle_use::ordered_dict:
        if (!with.empty()) damaged("an OrderedDict made of something");
        return push({type::dict});
      case pickle_use::parameter:
        if (with.size() != 3 || !is(0, type::tensor)) damaged("a parameter without tensor");
        return stack_.push_back(with[0]);
      case pickle_use::tensor: {
        // (storage, offset, sizes, strides, requires_grad, hooks, [dtype in v3], [metadata])
        const bool typed = what.name == "_rebuild_tensor_v3";
        const std::size_t least = typed ? 7 : 4;
        if (with.size() < least || with.size() > (typed ? 8u : 7u) || !is(0, type::storage) ||
            !is(1, type::number) || !is(2, type::tuple) || !is(3, type::tuple))
          damaged("a tensor that is not (storage, offset, sizes, strides)");
        value v{type::tensor, values_[with[0]].number};
        if (typed) {
          const pickle_name& t = name_of_global(values_[with[6]], "a tensor without dtype");
          if (t.use != pickle_use::dtype) damaged("a tensor without dtype");
          v.number = static_cast<std::int64_t>(t.type);
        }
        // Metadata would say that the numbers are to be negated or conjugated.
        const std::size_t metadata = typed ? 7 : 6;
        if (with.size() > metadata && !values_[with[metadata]].items.empty())
          damaged("a tensor with metadata");
        v.items = {with[0], with[1], with[2], with[3]};
        return push(std::move(v));
      }
      case pickle_use::storage:
      case pickle_use::dtype:
        break;
    }
    damaged("a call of what is no function");
  }

  std::string_view text_;
  std::string who_;
  std::size_t at_ = 0;
  bool done_ = false;
  std::uint32_t root_ = 0;
  std::vector<value> values_;
  std::vector<std::uint32_t> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, std::uint32_t> memo_;
};

}  // namespace mlmamba::detail
