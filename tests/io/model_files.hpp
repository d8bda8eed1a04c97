// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What tests of model files share: values of models, and files made of them under other names.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "mlmamba/io/checkpoint.hpp"

namespace mlmamba::test {

template <class Model>
std::map<std::string, std::vector<float>> all_values(const Model& m) {
  std::map<std::string, std::vector<float>> v;
  nn::for_each_parameter(m, [&](const std::string& path, const auto& p) {
    for (index_t i = 0; i < p.value.count(); ++i) v[path].push_back(float(p.value.data()[i]));
  });
  return v;
}
template <class Model>
void randomise(Model& m, std::uint64_t seed) {
  nn::for_each_parameter(m, [&](const std::string& path, auto& p) {
    random_stream r = random_stream{seed, 0, 0}.fork(path);
    nn::fill(p, [&] { return r.normal(); });
  });
}
/// Arrays by name, to be written; the float values are kept here.
struct file_maker {
  std::map<std::string, std::pair<std::vector<std::int64_t>, std::vector<float>>> arrays;

  template <class Model>
  explicit file_maker(const Model& m) {
    nn::for_each_parameter(m, [&](const std::string& path, const auto& p) {
      auto& a = arrays[path];
      a.first = detail::shape_of(p);
      for (index_t i = 0; i < p.value.count(); ++i) a.second.push_back(float(p.value.data()[i]));
    });
  }
  void rename(const std::string& from, const std::string& to) {
    auto node = arrays.extract(from);
    REQUIRE(!node.empty());
    node.key() = to;
    arrays.insert(std::move(node));
  }
  void write(const std::filesystem::path& path) const {
    std::vector<safetensors_entry> entries;
    for (const auto& [name, a] : arrays)
      entries.push_back(entry_of<float>(name, a.first, a.second));
    write_safetensors(path, entries);
  }
};

}  // namespace mlmamba::test
