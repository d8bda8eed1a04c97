// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One fixture file: its options and arrays with types.
#pragma once

#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/core/tensor.hpp"
#include "mlmamba/io/convert.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/safetensors.hpp"

namespace mlmamba::check_fixture {

/// What was computed for one out.* array.
struct result {
  std::vector<std::int64_t> shape;
  std::vector<double> values;
  bool gradient = false;  // judged by the wider default tolerance
  bool integer = false;   // must be equal
};
using results = std::map<std::string, result>;

/// Numbers of a host or device view, in order.
template <class T, int R, class M>
std::vector<double> numbers(const view<T, R, M>& v) {
  std::vector<double> out;
  const auto host = to_host(v);
  out.reserve(std::size_t(host.count()));
  for (index_t i = 0; i < host.count(); ++i) out.push_back(double(host.data()[i]));
  return out;
}

class fixture {
 public:
  explicit fixture(const std::string& path) : file_(safetensors_file::open(path)) {
    if (!file_.metadata().contains("op"))
      fail<io_error>(path, ": its metadata has no \"op\"; wanted is the name of one");
    op_ = file_.metadata().at("op");
  }

  const std::string& path() const { return file_.who(); }
  const std::string& op() const { return op_; }
  const safetensors_file& file() const { return file_; }

  // Options. All are strings; Python's spelling of booleans and infinities is understood.
  bool has_option(const std::string& key) const { return file_.metadata().contains(key); }
  std::string option(const std::string& key, const std::string& fallback) const {
    const auto at = file_.metadata().find(key);
    return at == file_.metadata().end() ? fallback : at->second;
  }
  std::string option(const std::string& key) const {
    if (!has_option(key))
      fail<io_error>(path(), ": there is no option \"", key, "\"; it is needed");
    return file_.metadata().at(key);
  }
  double number(const std::string& key, double fallback) const {
    if (!has_option(key) || option(key) == "None" || option(key) == "null") return fallback;
    const std::string text = option(key);
    char* end = nullptr;
    const double v = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || std::isnan(v)) wrong(key, "a number");
    return v;
  }
  index_t integer(const std::string& key, index_t fallback) const {
    const double v = number(key, double(fallback));
    if (v != std::floor(v) || std::fabs(v) > 1e15) wrong(key, "an integer");
    return index_t(v);
  }
  /// A number above zero, as tolerances are; nothing if the option is not there.
  std::optional<double> positive(const std::string& key) const {
    if (!has_option(key)) return std::nullopt;
    const double v = number(key, -1);
    if (!(v > 0) || std::isinf(v)) wrong(key, "a finite number above 0");
    return v;
  }
  bool flag(const std::string& key, bool fallback) const {
    const std::string v = option(key, fallback ? "true" : "false");
    if (v == "true" || v == "True" || v == "1") return true;
    if (v == "false" || v == "False" || v == "0" || v == "None") return false;
    wrong(key, "true or false");
  }
  json object(const std::string& key) const {
    return parse_json(option(key), path() + ": option " + key, 32);
  }

  // Arrays. Each that is asked for is known; `refuse_unknown` names those that nobody asked for.
  const safetensors_entry* find(const std::string& name) {
    asked_.insert(name);
    return file_.find(name);
  }
  template <class T, int R, class M = memory::host>
  tensor<T, R, M> optional(const std::string& name) {
    const safetensors_entry* e = find(name);
    if (e == nullptr) return {};
    if (e->shape.size() != std::size_t(R))
      fail<io_error>(path(), ": \"", name, "\" is ", shape_text(e->shape), "; wanted is rank ", R);
    shape<R> n;
    for (int i = 0; i < R; ++i) n.n[i] = e->shape[std::size_t(i)];
    return read<T, R, M>(*e, n);
  }
  template <class T, int R, class M = memory::host>
  tensor<T, R, M> needed(const std::string& name) {
    if (find(name) == nullptr)
      fail<io_error>(path(), ": there is no \"", name, "\"; ", op_, " needs it");
    return optional<T, R, M>(name);
  }
  /// (..., D) as (T, D); of the shape of `like`, if that is given.
  template <class T, class M = memory::host>
  tensor<T, 2, M> optional_rows(const std::string& name, const std::string& like = "") {
    const safetensors_entry* e = find(name);
    if (e == nullptr) return {};
    if (e->shape.empty()) fail<io_error>(path(), ": \"", name, "\" is one number; wanted are rows");
    if (!like.empty() && e->shape != shape_of(like))
      fail<io_error>(path(), ": \"", name, "\" is ", shape_text(e->shape), "; wanted is ",
                     shape_text(shape_of(like)), " as \"", like, "\"");
    std::int64_t t = 1;
    for (std::size_t i = 0; i + 1 < e->shape.size(); ++i) t *= e->shape[i];
    return read<T, 2, M>(*e, shape<2>{{t, e->shape.back()}});
  }
  /// The array with other axes; the count must be the same.
  template <class T, int R, class M = memory::host>
  tensor<T, R, M> shaped(const std::string& name, shape<R> n) {
    const safetensors_entry* e = find(name);
    if (e == nullptr) fail<io_error>(path(), ": there is no \"", name, "\"; ", op_, " needs it");
    return read<T, R, M>(*e, n);
  }
  std::vector<std::int64_t> shape_of(const std::string& name) {
    const safetensors_entry* e = find(name);
    return e == nullptr ? std::vector<std::int64_t>{} : e->shape;
  }
  /// Floating arrays are F32 and indices I32 or I64 (images U8): what else an array could be
  /// converted from is another question than the file's author asked.
  template <class T>
  void check_type(const safetensors_entry& e) const {
    constexpr bool index = std::is_same_v<T, std::int32_t>, byte = std::is_same_v<T, std::uint8_t>;
    const bool ok = index  ? e.type == dtype::i32 || e.type == dtype::i64
                    : byte ? e.type == dtype::u8
                           : e.type == dtype::f32;
    if (!ok)
      fail<io_error>(path(), ": \"", e.name, "\" is ", name_of(e.type), "; ",
                     index  ? "I32 or I64"
                     : byte ? "U8"
                            : "F32",
                     " is wanted");
  }
  void ask_prefix(const std::string& prefix) { prefixes_.push_back(prefix); }

  /// Errors if an array other than out.* was never asked for: to ignore an operand is to answer
  /// another question.
  void refuse_unknown() const {
    for (const safetensors_entry& e : file_.entries()) {
      if (e.name.starts_with("out.") || asked_.contains(e.name)) continue;
      bool known = false;
      for (const std::string& p : prefixes_) known = known || e.name.starts_with(p);
      if (!known)
        fail<io_error>(path(), ": \"", e.name, "\" is no operand that ", op_, " knows of");
    }
  }

 private:
  template <class T, int R, class M>
  tensor<T, R, M> read(const safetensors_entry& e, shape<R> n) const {
    check_type<T>(e);
    tensor<T, R> host(n);
    try {
      read_values(e, std::span<T>(host.data(), std::size_t(host.count())));
    } catch (const error& why) {
      fail<io_error>(path(), ": ", why.what());
    }
    if constexpr (std::is_same_v<M, memory::host>) {
      return host;
    } else {
      tensor<T, R, M> there(n);
      from_host(there.view(), std::as_const(host).view());
      return there;
    }
  }
  [[noreturn]] void wrong(const std::string& key, const char* wanted) const {
    fail<io_error>(path(), ": option ", key, " is \"", option(key, ""), "\"; ", wanted,
                   " is wanted");
  }

  safetensors_file file_;
  std::string op_;
  std::set<std::string> asked_;
  std::vector<std::string> prefixes_;
};

}  // namespace mlmamba::check_fixture
