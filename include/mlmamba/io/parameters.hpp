// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The parameters of a model from named arrays, and back: by path, checked whole before any is used.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/io/convert.hpp"
#include "mlmamba/io/packed_weights.hpp"
#include "mlmamba/io/safetensors.hpp"
#include "mlmamba/io/safetensors_write.hpp"
#include "mlmamba/nn/module.hpp"

namespace mlmamba {

/// What to do about parameters that no array is for.
enum class missing {
  refuse,  ///< io_error naming them
  keep,    ///< they stay as they are: nn::initialise before fills them as for training from scratch
};

struct load_options {
  mlmamba::missing missing = mlmamba::missing::refuse;
  weight_formats weights{};        ///< of the matrices of an engine with packed weights
  bool ignore_unexpected = false;  ///< arrays that no parameter is for: an error unless set
};

/// Arrays under the paths of a model's parameters.
struct named_arrays {
  std::string who;  ///< where they are from, for messages
  std::map<std::string, safetensors_entry> by_path;

  /// Takes an array under a path; error if there is one already.
  void add(const std::string& path, const safetensors_entry& entry) {
    const auto [at, fresh] = by_path.emplace(path, entry);
    if (!fresh)
      fail<io_error>(who, ": \"", at->second.name, "\" and \"", entry.name, "\" are both \"", path,
                     "\" of the model; wanted is one");
  }
};

namespace detail {

/// Shapes that hold the same numbers in the same order: axes of size 1 don't count, and a kernel
/// (D, C, p, p) is a matrix (D, C p p).
inline bool same_numbers(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
  const auto squeezed = [](std::span<const std::int64_t> s) {
    std::vector<std::int64_t> v;
    for (std::int64_t n : s)
      if (n != 1) v.push_back(n);
    return v;
  };
  const auto matrix = [](std::vector<std::int64_t> v) {
    while (v.size() > 2) {
      v[v.size() - 2] *= v.back();
      v.pop_back();
    }
    return v;
  };
  const auto x = squeezed(a), y = squeezed(b);
  return x == y || (x.size() != y.size() && matrix(x) == matrix(y));
}

template <class P>
std::vector<std::int64_t> shape_of(const P& p) {
  const auto n = p.value.shape();
  return std::vector<std::int64_t>(n.n, n.n + P::rank);
}

/// "a", "b" and 7 more
inline std::string some_of(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < 6; ++i)
    text += (i ? ", \"" : "\"") + names[i] + "\"";
  if (names.size() > 6) text += " and " + std::to_string(names.size() - 6) + " more";
  return text;
}

template <class T, int R>
tensor<T, R> host_tensor(const safetensors_entry& entry, shape<R> n) {
  if constexpr (math::is_complex<T>) {
    tensor<T, R> t(n);
    const auto values = read_values<double>(entry);
    for (std::size_t i = 0; i < values.size(); ++i) t.data()[i] = T(values[i]);
    return t;
  } else {
    if (entry.owner) {
      if (const T* at = values_in_place<T>(entry)) {
        // The mapping is private and copy-on-write: whoever trains the model changes its own pages.
        auto* bytes = const_cast<std::byte*>(entry.bytes.data());
        return tensor<T, R>::adopt({const_cast<T*>(at), n}, bytes_owner(entry.owner, bytes));
      }
    }
    tensor<T, R> t(n);
    read_values(entry, std::span<T>(t.data(), std::size_t(t.count())));
    return t;
  }
}

template <class P>
packed_matrix pack(const std::string& who, const std::string& name, const tensor<float, 2>& values,
                   const P& p) {
  try {
    return packed_matrix(values.view(), p.format, p.wide);
  } catch (const error& e) {
    fail<io_error>(who, ": \"", name, "\": ", e.what());
  }
}

template <class P>
void put(P& p, tensor<typename P::value_type, P::rank> host) {
  if constexpr (std::is_same_v<typename P::engine_type::memory, memory::host>) {
    p.value = std::move(host);
  } else {
    from_host(p.value.view(), std::as_const(host).view());
  }
}

/// What `load_parameters` has judged and converted of all parameters, before the first one changes.
struct parameter_loader {
  const named_arrays& from;
  const std::vector<nn::detail::module_rules>& rules;
  std::vector<std::string> absent{};
  std::set<std::string> wanted{};
  std::vector<std::function<void()>> commits{};

  template <class P>
  void operator()(const std::string& path, P& p) {
    using T = typename P::value_type;
    wanted.insert(path);
    const auto at = from.by_path.find(path);
    if (at == from.by_path.end()) {
      absent.push_back(path);
      return;
    }
    const safetensors_entry& entry = at->second;
    std::shared_ptr<tensor<T, P::rank>> made;
    if (same_numbers(entry.shape, shape_of(p))) {
      made = std::make_shared<tensor<T, P::rank>>(host_tensor<T, P::rank>(entry, p.value.shape()));
    } else {
      const std::vector<float> values = adapted(path, entry, shape_of(p));
      made = std::make_shared<tensor<T, P::rank>>(p.value.shape());
      for (std::size_t i = 0; i < values.size(); ++i) made->data()[i] = T(real_t<T>(values[i]));
    }
    if constexpr (nn::packed_field<P>) {
      auto packed = std::make_shared<packed_matrix>(pack(from.who, entry.name, *made, p));
      commits.push_back([packed, &p] { p.value = std::move(*packed); });
    } else {
      commits.push_back([made, &p] { put(p, std::move(*made)); });
    }
  }

  /// The values that the module at `path` makes of an array of another shape.
  std::vector<float> adapted(const std::string& path, const safetensors_entry& entry,
                             const std::vector<std::int64_t>& want) const {
    std::optional<std::vector<float>> values;
    // Modules further down come later.
    for (auto r = rules.rbegin(); r != rules.rend() && !values; ++r) {
      const std::string above = r->path.empty() ? "" : r->path + ".";
      if (r->adapt && path.starts_with(above))
        values = r->adapt(r->at, path.substr(above.size()), entry.shape, read_values<float>(entry));
    }
    std::int64_t count = 1;
    for (std::int64_t n : want) count *= n;
    if (!values || std::cmp_not_equal(values->size(), count))
      fail<io_error>(from.who, ": \"", entry.name, "\" is ", shape_text(entry.shape),
                     ", the model wants ", shape_text(want));
    return *std::move(values);
  }

  /// Errors    io_error if something is missing (unless it may be) or unexpected
  void judge(const load_options& o) const {
    std::vector<std::string> unexpected;
    for (const auto& [path, entry] : from.by_path)
      if (!wanted.contains(path)) unexpected.push_back(entry.name);
    if (!absent.empty() && o.missing == missing::refuse)
      fail<io_error>(from.who, ": ", absent.size(), " of the ", wanted.size(),
                     " arrays that the model wants are missing: ", some_of(absent));
    if (!unexpected.empty() && !o.ignore_unexpected)
      fail<io_error>(from.who, ": ", unexpected.size(),
                     " arrays are none of the model's: ", some_of(unexpected));
  }
};

template <class E>
void load_parameters(const nn::detail::parameter_list<E>& to, const named_arrays& from,
                     const load_options& o) {
  nn::detail::format_chooser formats{o.weights};
  to.template each<false>(formats);
  parameter_loader loader{from, to.rules};
  to.template each<false>(loader);
  loader.judge(o);
  for (const auto& commit : loader.commits) commit();
  to.prepare(o.weights);
}

}  // namespace detail

/// Fills the parameters of `model`. All is judged and converted before the first one changes, so a
/// failed load leaves the model as it was.
///
/// Numerics  values are converted to the parameter's type, rounding to nearest even. Where the type
///           is the file's, host parameters point into the mapped file: no copy
/// Errors    io_error listing what is missing, unexpected or of another shape
template <nn::module Model>
void load_parameters(Model& model, const named_arrays& from, const load_options& o = {}) {
  detail::load_parameters(nn::detail::list_parameters(model), from, o);
}

/// Which parameters `save_parameters` writes.
enum class parameters { all, only_trainable };

/// Writes the parameters of a model to one safetensors file, atomically, under their paths and in
/// the types they are stored in.
template <class Model>
void save_parameters(const Model& model, const std::filesystem::path& path,
                     const std::map<std::string, std::string>& metadata = {},
                     parameters which = parameters::all) {
  std::vector<safetensors_entry> entries;
  nn::for_each_parameter(model, [&](const std::string& name, const auto& p) {
    using P = std::remove_cvref_t<decltype(p)>;
    using T = typename P::value_type;
    if (which == parameters::only_trainable && !p.trainable) return;
    if constexpr (nn::packed_field<P>) {
      append_packed(entries, name, p.value);
    } else if constexpr (std::is_same_v<typename P::engine_type::memory, memory::host>) {
      entries.push_back(
          entry_of<T>(name, detail::shape_of(p),
                      std::span<const T>(p.value.data(), std::size_t(p.value.count()))));
    } else {
      auto host = std::make_shared<tensor<T, P::rank>>(to_host(p.value.view()));
      entries.push_back(entry_of<T>(name, detail::shape_of(p),
                                    std::span<const T>(host->data(), std::size_t(host->count()))));
      entries.back().owner = host;
    }
  });
  write_safetensors(path, entries, metadata);
}

}  // namespace mlmamba
