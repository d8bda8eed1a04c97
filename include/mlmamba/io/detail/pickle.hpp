// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Python pickles of tensors, without Python: an interpreter that knows a few names and runs
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/detail/pickle_names.hpp"
#include "mlmamba/io/detail/pickle_stack.hpp"

namespace mlmamba::detail {

/// Runs the program that a pickle is, as far as it makes dicts of tensors.
///
/// Allowed   the instructions that PyTorch writes; the names in pickle_names.hpp
/// Errors    io_error that names any other name or instruction, for a stack that runs empty, for a
///           pickle that ends early, and beyond pickle_stack::most values
/// Source    Lib/pickletools.py of CPython describes the instructions
class pickle_reader {
 public:
  using value = pickle_value;
  using type = pickle_value::type;

  pickle_reader(std::string_view text, std::string who) : text_(text), stack_(std::move(who)) {
    while (!done_) step(static_cast<std::uint8_t>(take(1)[0]));
  }
  const value& root() const { return stack_[root_]; }
  const value& at(std::uint32_t i) const { return stack_[i]; }

 private:
  [[noreturn]] void damaged(std::string_view what) const { stack_.damaged(what); }
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

  void push(value v) { stack_.push(std::move(v)); }
  void push_number(std::int64_t n) { push({type::number, n}); }
  void push_text(std::string_view t) { push({type::text, 0, t}); }
  void push_tuple(std::size_t n) {
    value v{type::tuple};
    v.items.resize(n);
    for (std::size_t i = n; i-- > 0;) v.items[i] = stack_.pop();
    push(std::move(v));
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
        root_ = stack_.pop();
        done_ = true;
        return;
      case '(':
        stack_.mark();
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
        v.items = stack_.above_mark();
        return push(std::move(v));
      }
      case 0x85:  // TUPLE1
      case 0x86:
      case 0x87:
        return push_tuple(static_cast<std::size_t>(code - 0x84));
      case 'a':
      case 'e': {
        const auto items = code == 'a' ? std::vector{stack_.pop()} : stack_.above_mark();
        append(stack_.top(type::list, "no list to append to"), items);
        return;
      }
      case 's': {
        const std::uint32_t v = stack_.pop(), k = stack_.pop();
        append(stack_.top(type::dict, "no dict to put into"), {k, v});
        return;
      }
      case 'u': {
        const auto items = stack_.above_mark();
        if (items.size() % 2 != 0) damaged("a key without value");
        append(stack_.top(type::dict, "no dict to put into"), items);
        return;
      }
      case 'q':
        return stack_.remember(number(1));
      case 'r':
        return stack_.remember(number(4));
      case 0x94:  // MEMOIZE
        return stack_.remember_next();
      case 'h':
        return stack_.recall(number(1));
      case 'j':
        return stack_.recall(number(4));
      case 'c': {
        const auto module = line(), name = line();
        return push_global(module, name);
      }
      case 0x93: {  // STACK_GLOBAL
        const value &name = stack_[stack_.pop()], &module = stack_[stack_.pop()];
        if (name.kind != type::text || module.kind != type::text) damaged("a name that is no text");
        return push_global(module.text, name.text);
      }
      case 'Q':
        return push_storage();
      case 'R':
        return call();
      case 'b':  // BUILD: attributes of a dict, such as a state_dict's _metadata, are not needed
        stack_.pop();
        stack_.top(type::dict, "attributes for what is no dict");
        return;
      default:
        fail<io_error>(stack_.who(), ": the pickle has the instruction ", pickle_instruction(code),
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
    fail<io_error>(stack_.who(), ": the pickle asks for ", printable(module), ".", printable(name),
                   ", which is never run; only tensors in dicts are read");
  }
  const pickle_name& name_of_global(const value& v, std::string_view what) const {
    if (v.kind != type::global) damaged(what);
    return pickle_names[static_cast<std::size_t>(v.number)];
  }

  /// ("storage", type, key, device, number of elements)
  void push_storage() {
    const value& id = stack_[stack_.pop()];
    const auto item = [&](std::size_t i, type kind) -> const value& {
      if (id.kind != type::tuple || id.items.size() != 5 || stack_[id.items[i]].kind != kind)
        damaged("a persistent id that is no storage");
      return stack_[id.items[i]];
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
    const std::uint32_t given = stack_.pop();
    const pickle_name& what = name_of_global(stack_[stack_.pop()], "a call of what is no function");
    if (stack_[given].kind != type::tuple) damaged("a call without arguments");
    const std::vector<std::uint32_t>& with = stack_[given].items;  // until something is made
    const auto is = [&](std::size_t i, type kind) { return stack_[with[i]].kind == kind; };
    switch (what.use) {
      case pickle_use::ordered_dict:
        if (!with.empty()) damaged("an OrderedDict made of something");
        return push({type::dict});
      case pickle_use::parameter:
        if (with.size() != 3 || !is(0, type::tensor)) damaged("a parameter without tensor");
        return stack_.push_again(with[0]);
      case pickle_use::tensor: {
        // (storage, offset, sizes, strides, requires_grad, hooks, [dtype in v3], [metadata])
        const bool typed = what.name == "_rebuild_tensor_v3";
        const std::size_t least = typed ? 7 : 4;
        if (with.size() < least || with.size() > (typed ? 8u : 7u) || !is(0, type::storage) ||
            !is(1, type::number) || !is(2, type::tuple) || !is(3, type::tuple))
          damaged("a tensor that is not (storage, offset, sizes, strides)");
        value v{type::tensor, stack_[with[0]].number};
        if (typed) {
          const pickle_name& t = name_of_global(stack_[with[6]], "a tensor without dtype");
          if (t.use != pickle_use::dtype) damaged("a tensor without dtype");
          v.number = static_cast<std::int64_t>(t.type);
        }
        // Metadata would say that the numbers are to be negated or conjugated.
        const std::size_t metadata = typed ? 7 : 6;
        if (with.size() > metadata && !stack_[with[metadata]].items.empty())
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
  std::size_t at_ = 0;
  bool done_ = false;
  std::uint32_t root_ = 0;
  pickle_stack stack_;
};

}  // namespace mlmamba::detail
