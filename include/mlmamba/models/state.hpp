// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// States of language models as values: compare, save, load.
//
// The file (all numbers little-endian):
//
//   0    8  "mlmstate"
//   8    4  version, 1
//   12   4  number of arrays
//   16   8  position: tokens read
//   24   8  bytes of the table
//   32   8  bytes of the data
//   40      table, per array: u8 length of the name, the name (printable ASCII), u8 element type
//           (1 f32, 2 bf16, 3 f16, 4 f64), u8 rank, rank x u64 sizes
//           data: the arrays in the table's order, row-major, without gaps
//   end  4  CRC-32C of everything before
#pragma once

#include <bit>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/core/crc32c.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "mlmamba/io/write_file.hpp"
#include "mlmamba/nn/module.hpp"

namespace mlmamba {

static_assert(std::endian::native == std::endian::little,
              "state files are written as this machine has its numbers; a little-endian one is "
              "wanted");

namespace detail {

template <class T>
constexpr std::uint8_t state_element() {
  if constexpr (std::is_same_v<T, float>) return 1;
  if constexpr (std::is_same_v<T, bf16>) return 2;
  if constexpr (std::is_same_v<T, f16>) return 3;
  if constexpr (std::is_same_v<T, double>) return 4;
  return 0;
}
inline std::string_view state_element_name(std::uint8_t e) {
  constexpr std::string_view names[] = {"an unknown type", "f32", "bf16", "f16", "f64"};
  return names[e < 5 ? e : 0];
}
inline std::size_t state_element_size(std::uint8_t e) {
  constexpr std::size_t sizes[] = {0, 4, 2, 2, 8};
  return sizes[e < 5 ? e : 0];
}
template <class T>
void put(std::string& to, T x) {
  to.append(reinterpret_cast<const char*>(&x), sizeof x);
}
inline std::string sizes_text(std::span<const index_t> n) {
  return sizes_text(n.data(), int(n.size()));
}
template <class Leaf>
std::vector<index_t> sizes_of(const Leaf& leaf) {
  const auto v = leaf.view();
  return {v.size, v.size + Leaf::rank};
}

inline constexpr std::string_view state_magic = "mlmstate";
inline constexpr std::size_t state_header = 40;

}  // namespace detail

/// What a state file holds, checked: the arrays' bytes lie inside the file.
struct state_file {
  struct array {
    std::string_view name;
    std::uint8_t element;
    std::vector<index_t> sizes;
    std::span<const std::byte> bytes;
  };
  index_t position = 0;
  std::vector<array> arrays;

  /// Views into `file`, which must live on. Errors: io_error; `who` names the file in them.
  static state_file parse(std::span<const std::byte> file, const std::string& who) {
    using namespace detail;
    if (file.size() < state_header + 4)
      fail<io_error>(who, ": ", file.size(), " bytes; a state file has at least ",
                     state_header + 4);
    if (std::memcmp(file.data(), state_magic.data(), state_magic.size()) != 0)
      fail<io_error>(who, ": it does not begin with \"mlmstate\"; a state file is wanted");
    const auto version = read<std::uint32_t>(file, 8);
    if (version != 1)
      fail<io_error>(who, ": it has version ", version, "; this program reads version 1");
    const auto count = read<std::uint32_t>(file, 12);
    const auto position = read<std::uint64_t>(file, 16);
    const auto table_bytes = read<std::uint64_t>(file, 24);
    const auto data_bytes = read<std::uint64_t>(file, 32);
    const std::uint64_t rest = file.size() - state_header - 4;
    if (table_bytes > rest || data_bytes != rest - table_bytes)
      fail<io_error>(who, ": a table of ", table_bytes, " and data of ", data_bytes,
                     " bytes; the file has ", rest, " for both: it was cut or is damaged");
    const auto sum = read<std::uint32_t>(file, file.size() - 4);
    if (crc32c(file.first(file.size() - 4)) != sum)
      fail<io_error>(who, ": the checksum is wrong: it is damaged");
    if (position >= std::uint64_t{1} << 62)
      fail<io_error>(who, ": position ", position, "; less than 2^62 is wanted");

    state_file f;
    f.position = index_t(position);
    auto table = file.subspan(state_header, std::size_t(table_bytes));
    auto data = file.subspan(state_header + std::size_t(table_bytes), std::size_t(data_bytes));
    const auto take = [&](std::size_t n) {
      if (n > table.size()) fail<io_error>(who, ": the table ends within an array's entry");
      const auto part = table.first(n);
      table = table.subspan(n);
      return part;
    };
    for (std::uint32_t i = 0; i < count; ++i) {
      array a;
      const auto name = take(read<std::uint8_t>(take(1), 0));
      a.name = {reinterpret_cast<const char*>(name.data()), name.size()};
      for (const char c : a.name)
        if (c < 0x20 || c > 0x7E)
          fail<io_error>(who, ": the name of array ", i, " is not printable ASCII");
      const auto kind = take(2);
      a.element = read<std::uint8_t>(kind, 0);
      const auto rank = read<std::uint8_t>(kind, 1);
      if (state_element_size(a.element) == 0 || rank > 8)
        fail<io_error>(who, ": array \"", a.name, "\" has element type ", int{a.element},
                       " and rank ", int{rank}, "; 1 to 4 and at most 8 are wanted");
      std::uint64_t bytes = state_element_size(a.element);
      for (int r = 0; r < rank; ++r) {
        const auto n = read<std::uint64_t>(take(8), 0);
        if (n > std::uint64_t{1} << 40 || (n > 0 && bytes > (std::uint64_t{1} << 62) / n))
          fail<io_error>(who, ": array \"", a.name, "\" has a size of ", n, "; it is damaged");
        bytes *= n;
        a.sizes.push_back(index_t(n));
      }
      if (bytes > data.size())
        fail<io_error>(who, ": array \"", a.name, "\" has ", bytes, " bytes; ", data.size(),
                       " are left");
      a.bytes = data.first(std::size_t(bytes));
      data = data.subspan(std::size_t(bytes));
      f.arrays.push_back(std::move(a));
    }
    if (!table.empty() || !data.empty())
      fail<io_error>(who, ": ", table.size(), " bytes of the table and ", data.size(),
                     " of the data belong to no array");
    return f;
  }

 private:
  template <class T>
  static T read(std::span<const std::byte> from, std::size_t at) {
    T x;
    std::memcpy(&x, from.data() + at, sizeof x);
    return x;
  }
};

/// Have two states read the same: the same position, shapes and bits?
template <nn::composite State>
bool equal(const State& a, const State& b) {
  std::vector<std::string> bits[2];
  const State* both[] = {&a, &b};
  for (int k = 0; k < 2; ++k)
    nn::for_each_leaf(*both[k], [&](const std::string& path, const auto& leaf) {
      bits[k].push_back(path + detail::sizes_text(detail::sizes_of(leaf)));
      if (!leaf) return;
      const auto host = to_host(leaf.view());
      bits[k].back().append(reinterpret_cast<const char*>(host.data()), host.bytes());
    });
  if constexpr (requires { a.position; }) {
    if (a.position != b.position) return false;
  }
  return bits[0] == bits[1];
}

/// The bytes of a state file.
template <nn::composite State>
std::string state_bytes(const State& state) {
  std::string table, data;
  std::uint32_t count = 0;
  nn::for_each_leaf(state, [&](const std::string& path, const auto& leaf) {
    using T = typename std::remove_cvref_t<decltype(leaf)>::value_type;
    static_assert(detail::state_element<T>() != 0, "a state of this element type has no file form");
    if (path.empty() || path.size() > 255)
      fail<io_error>("save_state: the name \"", path, "\"; 1 to 255 characters are wanted");
    detail::put(table, std::uint8_t(path.size()));
    table += path;
    detail::put(table, detail::state_element<T>());
    detail::put(table, std::uint8_t(std::remove_cvref_t<decltype(leaf)>::rank));
    for (const index_t n : detail::sizes_of(leaf)) detail::put(table, std::uint64_t(n));
    ++count;
    if (!leaf) return;
    const auto host = to_host(leaf.view());
    data.append(reinterpret_cast<const char*>(host.data()), host.bytes());
  });
  index_t position = 0;
  if constexpr (requires { state.position; }) position = state.position;
  std::string file(detail::state_magic);
  detail::put(file, std::uint32_t{1});
  detail::put(file, count);
  detail::put(file, std::uint64_t(position));
  detail::put(file, std::uint64_t(table.size()));
  detail::put(file, std::uint64_t(data.size()));
  file += table;
  file += data;
  detail::put(file, crc32c(std::as_bytes(std::span(file))));
  return file;
}

/// Writes a state, complete or not at all. Errors: io_error.
template <nn::composite State>
void save_state(const State& state, const std::string& path) {
  write_file(path, state_bytes(state));
}

/// A state of `model` from the bytes of a file; the batch is the file's. A state belongs to the
/// weights that made it: sizes and element types are checked, the weights are not.
///
/// Errors    io_error if it is no state file, damaged, or of a model of other sizes or precision
template <class Model>
typename Model::state load_state(const Model& model, std::span<const std::byte> bytes,
                                 const std::string& who) {
  const state_file file = state_file::parse(bytes, who);
  if (!file.arrays.empty() && file.arrays[0].sizes.empty())
    fail<io_error>(who, ": array \"", file.arrays[0].name, "\" has no batch axis");
  const index_t batch = file.arrays.empty() ? 0 : file.arrays[0].sizes[0];
  // The model's arrays for no rows tell every other size: memory is asked for once all is right.
  auto state = model.make_state(0);
  std::size_t k = 0;
  nn::for_each_leaf(state, [&](const std::string& path, auto& leaf) {
    using T = std::remove_cvref_t<decltype(leaf)>;
    if (k >= file.arrays.size())
      fail<io_error>(who, ": \"", path, "\" is missing; the model's state has it");
    const state_file::array& a = file.arrays[k++];
    auto want = detail::sizes_of(leaf);
    want[0] = batch;
    if (a.name != path)
      fail<io_error>(who, ": array ", k - 1, " is \"", a.name, "\"; the model wants \"", path,
                     "\"");
    constexpr auto element = detail::state_element<typename T::value_type>();
    if (a.element != element)
      fail<io_error>(who, ": \"", path, "\" is ", detail::state_element_name(a.element),
                     "; the model wants ", detail::state_element_name(element));
    if (a.sizes != want)
      fail<io_error>(who, ": \"", path, "\" is ", detail::sizes_text(a.sizes), "; the model wants ",
                     detail::sizes_text(want));
  });
  if (k != file.arrays.size())
    fail<io_error>(who, ": it has ", file.arrays.size(), " arrays; the model wants ", k);
  state = model.make_state(batch);
  k = 0;
  nn::for_each_leaf(state, [&](const std::string&, auto& leaf) {
    using T = std::remove_cvref_t<decltype(leaf)>;
    const auto from = file.arrays[k++].bytes;
    allocator<typename T::memory>::from_host(leaf.data(), from.data(), from.size());
  });
  if constexpr (requires { state.position; }) state.position = file.position;
  return state;
}
template <class Model>
typename Model::state load_state(const Model& model, const std::string& path) {
  const mapped_file file(path);
  return load_state(model, file.bytes(), path);
}

}  // namespace mlmamba
