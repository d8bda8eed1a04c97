// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Quantised weights in files of safetensors. A matrix "X" of N rows of K numbers is
//
//   X.q8 (I8, (n, K)), or X.q4 (U8, (n, K / 2 rounded up)): its first n rows; of 4 bits q + 8 is
//     stored, even k in the low half of a byte, and an odd K leaves the last high half 8
//   X.scales (BF16, (n, groups of K by `group`)): a weight is q times the scale of its group
//   X.layout (I64, (3)): N, K, group
//   X.rest (F32, (N - n, K)): its last rows, if n < N
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/packed_matrix.hpp"
#include "mlmamba/io/convert.hpp"

namespace mlmamba {

namespace detail {

/// An array with an owner.
template <class T>
safetensors_entry owned_entry(std::string name, std::vector<std::int64_t> shape,
                              std::vector<T> values) {
  auto owner = std::make_shared<std::vector<T>>(std::move(values));
  auto entry = entry_of<T>(std::move(name), std::move(shape), std::span<const T>(*owner));
  entry.owner = owner;
  return entry;
}

class packed_reader {
 public:
  packed_reader(const std::map<std::string, const safetensors_entry*>& all, std::string name,
                const std::string& who)
      : all_(all), name_(std::move(name)), who_(who) {}

  safetensors_entry read() {
    const safetensors_entry& layout = part(".layout", dtype::i64, {3});
    const auto sizes = read_values<std::int64_t>(layout);
    rows_ = sizes[0], k_ = sizes[1], group_ = sizes[2];
    constexpr std::int64_t most = std::int64_t{1} << 31;
    if (rows_ < 0 || rows_ > most || k_ < 1 || k_ > packed_rows::most_k || group_ < 8 ||
        group_ % 8 != 0 || group_ > packed_rows::most_k)
      fail<io_error>(who_, ": \"", layout.name, "\" is ", rows_, ", ", k_, ", ", group_,
                     "; rows, columns up to ", packed_rows::most_k,
                     " and a group of a multiple of 8 are wanted");
    const bool nibbles = all_.contains(name_ + ".q4");
    const std::string payload = nibbles ? ".q4" : ".q8";
    const auto found = all_.find(name_ + payload);
    if (found == all_.end() || found->second->shape.size() != 2 || found->second->shape[0] > rows_)
      fail<io_error>(who_, ": \"", name_, ".layout\" wants \"", name_, ".q8\" or \"", name_,
                     ".q4\" of up to ", rows_, " rows");
    const std::int64_t n = found->second->shape[0], groups = (k_ + group_ - 1) / group_;
    const safetensors_entry& q =
        part(payload, nibbles ? dtype::u8 : dtype::i8, {n, nibbles ? (k_ + 1) / 2 : k_});
    const safetensors_entry& scales = part(".scales", dtype::bf16, {n, groups});
    const auto scale = read_values<float>(scales);
    for (const float s : scale)
      if (!std::isfinite(s))
        fail<io_error>(who_, ": \"", scales.name, "\" has ", s, "; finite scales are wanted");
    // Before memory is asked for: so many numbers are in the file.
    const auto rest = n < rows_ ? read_values<float>(part(".rest", dtype::f32, {rows_ - n, k_}))
                                : std::vector<float>{};
    std::vector<float> w(std::size_t(rows_ * k_));
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t k = 0; k < k_; ++k)
        w[std::size_t(i * k_ + k)] =
            float(number(q, nibbles, i, k)) * scale[std::size_t(i * groups + k / group_)];
    std::copy(rest.begin(), rest.end(), w.begin() + n * k_);
    return owned_entry<float>(name_, {rows_, k_}, std::move(w));
  }

 private:
  int number(const safetensors_entry& q, bool nibbles, std::int64_t i, std::int64_t k) const {
    if (!nibbles) {
      const int v = std::int8_t(q.bytes[std::size_t(i * k_ + k)]);
      if (v == -128) fail<io_error>(who_, ": \"", q.name, "\" has -128; -127 to 127 are wanted");
      return v;
    }
    const int b = int(q.bytes[std::size_t(i * ((k_ + 1) / 2) + k / 2)]);
    return (k % 2 ? b >> 4 : b & 15) - 8;
  }
  const safetensors_entry& part(const std::string& suffix, dtype type,
                                const std::vector<std::int64_t>& shape) const {
    const auto at = all_.find(name_ + suffix);
    if (at == all_.end())
      fail<io_error>(who_, ": \"", name_, suffix, "\" is missing; ", name_of(type), " ",
                     shape_text(shape), " is wanted");
    const safetensors_entry& e = *at->second;
    if (e.type != type || e.shape != shape)
      fail<io_error>(who_, ": \"", e.name, "\" is ", name_of(e.type), " ", shape_text(e.shape),
                     "; ", name_of(type), " ", shape_text(shape), " is wanted");
    return e;
  }
  const std::map<std::string, const safetensors_entry*>& all_;
  std::string name_;
  const std::string& who_;
  std::int64_t rows_ = 0, k_ = 0, group_ = 0;
};

}  // namespace detail

/// Appends a packed matrix: as one array if it is not quantised.
inline void append_packed(std::vector<safetensors_entry>& to, const std::string& name,
                          const packed_matrix& w) {
  const std::int64_t rows = w.size(0), k = w.size(1);
  if (w.parts().empty() || !w.parts()[0].format().quantised()) {
    const auto values = std::make_shared<tensor<float, 2>>(w.unpacked());
    if (!w.parts().empty() && w.parts()[0].format().scheme == weight_scheme::bf16) {
      std::vector<bf16> narrow(values->data(), values->data() + values->count());
      return to.push_back(detail::owned_entry<bf16>(name, {rows, k}, std::move(narrow)));
    }
    to.push_back(entry_of<float>(
        name, {rows, k}, std::span<const float>(values->data(), std::size_t(values->count()))));
    to.back().owner = values;
    return;
  }
  const packed_rows& p = w.parts()[0];
  const std::int64_t n = p.rows(), half = (k + 1) / 2;
  if (p.format().scheme == weight_scheme::int8) {
    std::vector<std::int8_t> q(std::size_t(n * k));
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < k; ++j) q[std::size_t(i * k + j)] = std::int8_t(p.q(i, j));
    to.push_back(detail::owned_entry<std::int8_t>(name + ".q8", {n, k}, std::move(q)));
  } else {
    std::vector<std::uint8_t> q(std::size_t(n * half), 0x88);
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < k; ++j) {
        std::uint8_t& b = q[std::size_t(i * half + j / 2)];
        const int u = p.q(i, j) + 8;
        b = std::uint8_t(j % 2 ? (b & 0x0f) | (u << 4) : (b & 0xf0) | u);
      }
    to.push_back(detail::owned_entry<std::uint8_t>(name + ".q4", {n, half}, std::move(q)));
  }
  std::vector<bf16> scales(std::size_t(n * p.groups()));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t g = 0; g < p.groups(); ++g)
      scales[std::size_t(i * p.groups() + g)] = p.scale(i, g);
  to.push_back(detail::owned_entry<bf16>(name + ".scales", {n, p.groups()}, std::move(scales)));
  to.push_back(detail::owned_entry<std::int64_t>(name + ".layout", {3}, {rows, k, p.group()}));
  if (n == rows) return;
  std::vector<float> rest;
  for (std::int64_t i = 0; i < rows - n; ++i)
    for (std::int64_t j = 0; j < k; ++j) rest.push_back(w.parts()[1](i, j));
  to.push_back(detail::owned_entry<float>(name + ".rest", {rows - n, k}, std::move(rest)));
}

/// Arrays with quantised matrices as the float ones that they stand for; packing these in the same
/// format gives the same numbers again. Other arrays as they are.
///
/// Errors    io_error if a part of a matrix is missing, or of another type or shape
inline std::vector<safetensors_entry> unpacked_weights(std::vector<safetensors_entry> all,
                                                       const std::string& who) {
  constexpr std::string_view suffix = ".layout";
  std::map<std::string, const safetensors_entry*> by_name;
  std::set<std::string> names, used;
  for (const safetensors_entry& e : all) {
    by_name[e.name] = &e;
    if (e.name.ends_with(suffix)) names.insert(e.name.substr(0, e.name.size() - suffix.size()));
  }
  if (names.empty()) return all;
  std::vector<safetensors_entry> result;
  for (const std::string& name : names) {
    for (const char* part : {".q8", ".q4", ".scales", ".layout", ".rest"}) used.insert(name + part);
    result.push_back(detail::packed_reader(by_name, name, who).read());
  }
  for (safetensors_entry& e : all)
    if (!used.contains(e.name)) result.push_back(std::move(e));
  return result;
}

}  // namespace mlmamba
