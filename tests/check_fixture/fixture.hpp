// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One fixture file: its options and arrays with types, and the judgement of what was computed.
#pragma once

#include <cmath>
#include <cstdio>
#include <limits>
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
  /// (..., D) as (T, D).
  template <class T, class M = memory::host>
  tensor<T, 2, M> optional_rows(const std::string& name) {
    const safetensors_entry* e = find(name);
    if (e == nullptr) return {};
    if (e->shape.empty()) fail<io_error>(path(), ": \"", name, "\" is one number; wanted are rows");
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

/// What passes: a relative error over the whole array.
struct tolerances {
  double output = 2e-5, gradient = 1e-4;
  bool explicit_wins = false;  // given on the command line
  double floor = 0;            // of the engine: a file's tolerance is meant for f32
};

struct verdict {
  int passed = 0, failed = 0;
};

/// Compares every out.* of the file with what was computed and prints a line for each.
inline verdict judge(const fixture& f, const results& got, const tolerances& t) {
  verdict v;
  for (const safetensors_entry& want : f.file().entries()) {
    if (!want.name.starts_with("out.")) continue;
    const std::string name = want.name.substr(4);
    const std::string head = f.path() + " " + f.op() + " " + want.name;
    const auto at = got.find(name);
    if (at == got.end()) {
      if (f.op() == "vit" && name == "final_tokens") continue;  // said to be ignored
      std::printf("%s rel=nan max=nan FAIL (this output is not computed)\n", head.c_str());
      ++v.failed;
      continue;
    }
    if (at->second.values.size() != std::size_t(want.count())) {
      std::printf("%s rel=nan max=nan FAIL (it has shape %s, wanted is %s)\n", head.c_str(),
                  shape_text(at->second.shape).c_str(), shape_text(want.shape).c_str());
      ++v.failed;
      continue;
    }
    const bool integers =
        want.type == dtype::i64 || want.type == dtype::i32 || want.type == dtype::u8;
    const auto values = read_values<double>(want);
    double error = 0, norm = 0, worst = 0;
    bool nan = false;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double g = at->second.values[i], e = std::fabs(g - values[i]);
      if (g == values[i]) continue;  // equal infinities too
      nan = nan || std::isnan(e);
      error += e * e;
      worst = std::max(worst, e);
    }
    for (const double w : values) norm += w * w;
    const double relative = nan         ? std::numeric_limits<double>::quiet_NaN()
                            : norm > 0  ? std::sqrt(error / norm)
                            : error > 0 ? std::numeric_limits<double>::infinity()
                                        : 0;
    double limit = at->second.gradient ? t.gradient : t.output;
    if (!t.explicit_wins) limit = std::max(t.floor, f.number("tolerance", limit));
    const bool ok = integers   ? worst == 0 && !nan
                    : norm > 0 ? relative <= limit
                               : worst < 1e-6 && !nan;
    std::printf("%s rel=%.1e max=%.1e %s\n", head.c_str(), relative,
                nan ? std::numeric_limits<double>::quiet_NaN() : worst, ok ? "ok" : "FAIL");
    ++(ok ? v.passed : v.failed);
  }
  return v;
}

}  // namespace mlmamba::check_fixture
