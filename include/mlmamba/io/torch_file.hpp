// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Files of torch.save (.pt, .pth, .bin): their tensors, without a copy and without running
// anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/detail/pickle.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "mlmamba/io/safetensors.hpp"
#include "mlmamba/io/zip_archive.hpp"

namespace mlmamba {

/// A file of torch.save, checked whole before any of it is used.
///
///   NAME/data.pkl    a pickle: dicts of tensors, each (storage, offset, sizes, strides)
///   NAME/data/KEY    the bytes of storage KEY
///   NAME/byteorder   "little", or not there
///
/// Tensors in dicts within dicts are named by their keys joined by dots; numbers and texts beside
/// them are passed over. Tensors may share storages. Row-major ones borrow from the file; others
/// are copied into order.
///
/// Checked   the zip archive (zip_archive.hpp); the pickle, of which nothing is run that is not a
///           tensor (detail/pickle.hpp); every element of a tensor lies in its storage; no name
///           twice
/// Errors    io_error naming the file and what is wrong or not supported: a class or function in
///           the pickle by its name; files of PyTorch before 1.6, which are no zip archives
class torch_file {
 public:
  /// Is this such a file, of the present or the old format? Others have other first bytes.
  static bool is_torch(std::span<const std::byte> bytes) {
    return zip_archive::is_zip(bytes) || is_old(bytes);
  }
  static torch_file open(const std::filesystem::path& path) {
    auto mapping = std::make_shared<const mapped_file>(path);
    const auto bytes = mapping->bytes();
    return parse(bytes, path.string(), std::move(mapping));
  }
  /// The same from memory. `owner` keeps `bytes` alive; without one that is the caller's duty.
  static torch_file parse(std::span<const std::byte> bytes, std::string who,
                          std::shared_ptr<const void> owner = nullptr) {
    torch_file file;
    file.who_ = std::move(who);
    file.owner_ = std::move(owner);
    file.read(bytes);
    return file;
  }

  const std::string& who() const { return who_; }
  const std::vector<safetensors_entry>& entries() const { return entries_; }  // in file order
  /// The names of the dicts inside the outermost one, outer ones first: "model", "model.mlp".
  const std::vector<std::string>& dicts() const { return dicts_; }

 private:
  using value = detail::pickle_value;
  using type = value::type;

  static bool is_old(std::span<const std::byte> bytes) {  // a pickle of a number of 10 bytes
    return bytes.size() >= 4 && std::memcmp(bytes.data(), "\x80\2\x8a\n", 4) == 0;
  }

  void read(std::span<const std::byte> bytes) {
    if (is_old(bytes))
      fail<io_error>(who_, ": a file of PyTorch before 1.6; one of today's torch.save is wanted ",
                     "(load it there and save it again)");
    const zip_archive zip(bytes, who_);
    std::string root;
    const std::span<const std::byte>* pickle = nullptr;
    for (const auto& [name, entry] : zip.entries()) {
      if (name.size() < 8 || !name.ends_with("data.pkl")) continue;
      const std::string folder = name.substr(0, name.size() - 8);
      if (folder.empty() || folder.find('/') != folder.size() - 1) continue;
      if (pickle != nullptr)
        fail<io_error>(who_, ": it has ", root, "data.pkl and ", name, "; one is wanted");
      root = folder, pickle = zip.find(name);
    }
    if (pickle == nullptr)
      fail<io_error>(who_, ": a zip archive without NAME/data.pkl; a file of torch.save is wanted");
    if (zip.entries().contains(root + "constants.pkl"))
      fail<io_error>(who_, ": a TorchScript program; a state_dict that torch.save wrote is wanted");
    if (const auto* order = zip.find(root + "byteorder"); order != nullptr)
      if (text_of(*order) != "little")
        fail<io_error>(who_, ": its byte order is ", detail::printable(text_of(*order)),
                       "; little is wanted");
    const detail::pickle_reader values(text_of(*pickle), who_);
    if (values.root().kind != type::dict)
      fail<io_error>(who_, ": its pickle is no dict; a dict of tensors is wanted");
    copies_left_ = bytes.size();
    collect(values, values.root(), "", 0, [&](const value& storage) {
      const std::string key(values.at(storage.items[0]).text);
      const auto* data = zip.find(root + "data/" + key);
      if (data == nullptr)
        fail<io_error>(who_, ": there is no storage ", root, "data/", detail::printable(key));
      return *data;
    });
  }

  /// The tensors of a dict and the dicts in it. A pickle can say that a dict is inside itself, or
  /// a thousand times inside another: depth and the length of all names are bounded.
  template <class Find>
  void collect(const detail::pickle_reader& values, const value& dict, const std::string& path,
               int depth, const Find& find) {
    if (depth > 32) fail<io_error>(who_, ": dicts nested deeper than 32 levels; not read");
    for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const value &key = values.at(dict.items[i]), &v = values.at(dict.items[i + 1]);
      constexpr std::size_t most = std::size_t{1} << 24;  // ten times a large model's
      names_size_ += path.size() + key.text.size() + v.items.size() + 64;
      if (names_size_ > most)
        fail<io_error>(who_, ": the names of its tensors take more than ", most,
                       " bytes; not read");
      const bool named = key.kind == type::text || key.kind == type::number;
      const std::string last =
          key.kind == type::number ? std::to_string(key.number) : std::string(key.text);
      const std::string name = path.empty() ? last : path + "." + last;
      if (v.kind == type::none || v.kind == type::number || v.kind == type::text) continue;
      if (!named) fail<io_error>(who_, ": a key in \"", path, "\" is neither text nor number");
      if (v.kind == type::dict) {
        dicts_.push_back(name);
        collect(values, v, name, depth + 1, find);
      } else if (v.kind == type::tensor) {
        const value& storage = values.at(v.items[0]);
        add(values, v, name, storage, find(storage));
      } else if (v.kind == type::list || v.kind == type::tuple) {
        for (const std::uint32_t item : v.items)
          if (values.at(item).kind > type::text)
            fail<io_error>(
                who_, ": \"", detail::printable(name),
                "\" is a list of more than numbers and texts; tensors are wanted in dicts");
      } else {
        fail<io_error>(who_, ": \"", detail::printable(name), "\" is no tensor and no dict");
      }
    }
  }

  void add(const detail::pickle_reader& values, const value& v, const std::string& name,
           const value& storage, std::span<const std::byte> data) {
    const auto stop = [&](const auto&... what) {
      fail<io_error>(who_, ": \"", detail::printable(name), "\" ", what...);
    };
    safetensors_entry e;
    e.name = name;
    e.type = static_cast<dtype>(v.number);
    const auto numbers_of = [&](std::uint32_t tuple) {
      std::vector<std::int64_t> n;
      for (const std::uint32_t item : values.at(tuple).items) {
        if (values.at(item).kind != type::number || values.at(item).number < 0)
          stop("has a size or stride that is no number, or negative");
        n.push_back(values.at(item).number);
      }
      return n;
    };
    const std::size_t axes = values.at(v.items[2]).items.size();
    if (axes > 64) stop("has ", axes, " axes; at most 64 are read");
    if (values.at(v.items[3]).items.size() != axes)
      stop("has ", axes, " sizes and ", values.at(v.items[3]).items.size(), " strides");
    e.shape = numbers_of(v.items[2]);
    const auto strides = numbers_of(v.items[3]);
    const std::int64_t offset = values.at(v.items[1]).number;
    const std::int64_t held = values.at(storage.items[1]).number;  // elements of the storage's type
    const std::size_t size = bytes_of(e.type);
    const auto kept = bytes_of(static_cast<dtype>(storage.number));
    if (held < 0 || data.size() % kept != 0 || std::cmp_not_equal(held, data.size() / kept))
      stop("is in a storage of ", held, " elements of ", kept, " bytes, which has ", data.size(),
           " bytes (is the file truncated?)");
    const auto want = detail::byte_count(e.type, e.shape);
    // More elements than the storage has: an expanded tensor, which a small file could make huge.
    if (!want || *want > data.size() || offset < 0 || std::cmp_greater(offset, data.size() / size))
      stop("is ", shape_text(e.shape), " from element ", offset, " on; its storage has ",
           data.size() / size);
    std::uint64_t last = static_cast<std::uint64_t>(offset);
    bool ordered = true;
    std::uint64_t next = 1;  // the stride of row-major order
    for (std::size_t i = e.shape.size(); *want > 0 && i-- > 0;) {
      const auto n = static_cast<std::uint64_t>(e.shape[i]),
                 s = static_cast<std::uint64_t>(strides[i]);
      if (n > 1 && s > (data.size() / size) / (n - 1))
        stop("has a stride of ", s, " over ", n, "; its storage has ", data.size() / size,
             " elements");
      last += (n - 1) * s;
      ordered = ordered && (n == 1 || s == next);
      next *= n;
    }
    if (*want > 0 && last >= data.size() / size)
      stop("ends at element ", last, "; its storage has ", data.size() / size);
    const std::size_t begin = static_cast<std::size_t>(offset) * size;
    if (ordered) {
      e.bytes = data.subspan(begin, static_cast<std::size_t>(*want));
      e.owner = owner_;
    } else {
      if (*want > copies_left_)
        stop("can't be put in order: such tensors take more memory than the file");
      copies_left_ -= *want;
      copy(e, data.subspan(begin), strides, static_cast<std::size_t>(*want));
    }
    if (!names_.insert(name).second) stop("is there twice; once is wanted");
    entries_.push_back(std::move(e));
  }

  /// Elements of any strides into row-major order.
  static void copy(safetensors_entry& e, std::span<const std::byte> from,
                   const std::vector<std::int64_t>& strides, std::size_t n) {
    const std::size_t size = bytes_of(e.type);
    auto made = std::make_shared<std::vector<std::byte>>(n);
    std::vector<std::int64_t> index(e.shape.size(), 0);
    std::size_t at = 0;  // in elements
    for (std::size_t to = 0; to < n; to += size) {
      std::memcpy(made->data() + to, from.data() + at * size, size);
      for (std::size_t k = index.size(); k-- > 0;) {
        at += static_cast<std::size_t>(strides[k]);
        if (++index[k] < e.shape[k]) break;
        at -= static_cast<std::size_t>(strides[k] * e.shape[k]);
        index[k] = 0;
      }
    }
    e.bytes = *made;
    e.owner = made;
  }

  static std::string_view text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  std::string who_;
  std::shared_ptr<const void> owner_;
  std::vector<safetensors_entry> entries_;
  std::vector<std::string> dicts_;
  std::set<std::string> names_;
  std::size_t names_size_ = 0;
  std::uint64_t copies_left_ = 0;
};

}  // namespace mlmamba
