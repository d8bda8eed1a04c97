// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Writing files that torch.load reads, also with weights_only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/detail/pickle_names.hpp"
#include "mlmamba/io/detail/zip_writer.hpp"
#include "mlmamba/io/safetensors.hpp"
#include "mlmamba/io/write_file.hpp"

namespace mlmamba {

namespace detail {

/// The pickle of dicts of tensors, protocol 2. Arrays that share bytes share a storage.
class torch_pickle {
 public:
  using place = std::pair<const std::byte*, std::size_t>;

  std::string text = "\x80\2";
  std::vector<std::span<const std::byte>> storages;

  void begin_dict() { text += "}("; }
  void end_dict() { text += 'u'; }
  void key(std::string_view name) {
    text += 'X';
    put_number(text, name.size(), 4);
    text += name;
  }
  void tensor(const safetensors_entry& e) {
    const auto known =
        storage_of_.emplace(std::tuple(e.bytes.data(), e.bytes.size(), e.type), storages.size());
    if (known.second || e.bytes.empty()) {
      known.first->second = storages.size();
      storages.push_back(e.bytes);
    }
    const pickle_name* type = named(pickle_use::storage, e.type);
    const bool untyped = type == nullptr || type->module != "torch";
    const auto count =
        static_cast<std::int64_t>(untyped ? e.bytes.size() : e.bytes.size() / bytes_of(e.type));
    global("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
    text += "((";
    key("storage");
    untyped ? global("torch.storage", "UntypedStorage") : global(type->module, type->name);
    key(std::to_string(known.first->second));
    key("cpu");
    number(count);
    text += "tQ";
    number(0);
    std::vector<std::int64_t> strides(e.shape.size(), 1);
    for (std::size_t i = strides.size(); i-- > 1;)
      strides[i - 1] = strides[i] * std::max<std::int64_t>(e.shape[i], 1);
    for (const auto& list : {e.shape, strides}) {
      text += '(';
      for (const std::int64_t n : list) number(n);
      text += 't';
    }
    text += '\x89';  // no gradient
    global("collections", "OrderedDict");
    text += ")R";
    if (untyped) {
      const pickle_name* d = named(pickle_use::dtype, e.type);
      global(d->module, d->name);  // the table has every dtype
    }
    text += "tR";
  }

 private:
  static const pickle_name* named(pickle_use use, dtype type) {
    for (const pickle_name& n : pickle_names)
      if (n.use == use && n.type == type) return &n;
    return nullptr;
  }
  void global(std::string_view module, std::string_view name) {
    text += 'c';
    text.append(module).append("\n").append(name).append("\n");
  }
  void number(std::int64_t n) {
    if (n >= 0 && n < std::int64_t{1} << 31) {
      text += 'J';
      put_number(text, static_cast<std::uint64_t>(n), 4);
    } else {
      text += "\x8a\x08";
      put_number(text, static_cast<std::uint64_t>(n), 8);
    }
  }

  std::map<std::tuple<const std::byte*, std::size_t, dtype>, std::size_t> storage_of_;
};

}  // namespace detail

/// Writes the arrays, in their order, as torch.save writes a dict of tensors; atomically.
/// `dicts` are the names of dicts (torch_file::dicts): an array "model.mlp.0.weight" goes into the
/// longest of them that begins its name, under the rest of it. Arrays of one dict must follow each
/// other.
///
/// Errors    io_error for a name given twice, bytes that don't match dtype and shape, arrays of a
///           dict that don't follow each other, or a place that can't be written
inline void write_torch_file(const std::filesystem::path& path,
                             std::span<const safetensors_entry> entries,
                             const std::vector<std::string>& dicts = {}) {
  const std::string who = path.string();
  const std::set<std::string> known(dicts.begin(), dicts.end());
  detail::torch_pickle pickle;
  pickle.begin_dict();
  std::vector<std::string> open;  // the dicts that are being written, outer ones first
  std::set<std::string> names, done;
  const auto close_until = [&](const std::string& name) {
    while (!open.empty() && !name.starts_with(open.back() + ".")) {
      pickle.end_dict();
      done.insert(open.back());
      open.pop_back();
    }
  };
  for (const safetensors_entry& e : entries) {
    const auto want = detail::byte_count(e.type, e.shape);
    if (!want || *want != e.bytes.size())
      fail<io_error>(who, ": \"", e.name, "\" has ", e.bytes.size(), " bytes; ", name_of(e.type),
                     " ", shape_text(e.shape), " has ",
                     want ? std::to_string(*want) : std::string("more than can be addressed"));
    if (!names.insert(e.name).second || known.contains(e.name))
      fail<io_error>(who, ": two arrays or dicts named \"", e.name, "\"; one is wanted");
    close_until(e.name);
    for (std::size_t dot = 0; (dot = e.name.find('.', dot)) != std::string::npos; ++dot) {
      const std::string dict = e.name.substr(0, dot);
      if (!known.contains(dict) || (!open.empty() && dict.size() <= open.back().size())) continue;
      if (done.contains(dict))
        fail<io_error>(who, ": the arrays of \"", dict, "\" don't follow each other");
      pickle.key(dict.substr(open.empty() ? 0 : open.back().size() + 1));
      pickle.begin_dict();
      open.push_back(dict);
    }
    pickle.key(e.name.substr(open.empty() ? 0 : open.back().size() + 1));
    pickle.tensor(e);
  }
  close_until("");
  pickle.end_dict();
  pickle.text += '.';

  atomic_file file(path);
  detail::zip_writer zip(file);
  const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text)); };
  zip.add("archive/data.pkl", bytes(pickle.text));
  zip.add("archive/byteorder", bytes("little"));
  for (std::size_t i = 0; i < pickle.storages.size(); ++i)
    zip.add("archive/data/" + std::to_string(i), pickle.storages[i]);
  zip.add("archive/version", bytes("3\n"));
  zip.finish();
  file.commit();
}

}  // namespace mlmamba
