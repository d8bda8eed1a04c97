// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Modules: the one reflection (`fields`), and what every visitor is written with.
//
// A module is a plain struct on an engine E with
//   using engine_type = E;
//   static void fields(auto& self, auto&& f);      f("name", self.member) for each part
//   struct saved { ... };                          what the backward needs, typed
//   out<E, 3> forward(context_of<E>&, in<E, 3> x, saved&) const;
//   out<E, 3> backward(context_of<E>&, in<E, 3> dy, const saved&);
//
// Gradient rule: gradients of parameters accumulate; gradients of activations are returned fresh;
// where two paths meet, the caller adds. A parameter without a gradient array is frozen: a backward
// then skips its product.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "mlmamba/core/random.hpp"
#include "mlmamba/nn/parameter.hpp"

namespace mlmamba::nn {

namespace detail {
struct probe {
  template <class T>
  void operator()(const char*, T&) const {}
};
template <class T>
inline constexpr bool is_tensor = false;
template <class T, int R, class M>
inline constexpr bool is_tensor<tensor<T, R, M>> = true;
}  // namespace detail

template <class T>
concept tensor_field = detail::is_tensor<std::remove_cvref_t<T>>;

/// Something with parts: a module, a state.
template <class M>
concept composite = requires(std::remove_cvref_t<M>& m) {
  std::remove_cvref_t<M>::fields(m, detail::probe{});
};
template <class M>
concept module = composite<M> && requires {
  typename M::engine_type;
};

inline std::string join(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

namespace detail {
/// Lengthens a path by a name, or by a number; returns its length before.
inline std::size_t go_down(std::string& path, const char* name) {
  const std::size_t before = path.size();
  if (before != 0) path += '.';
  path += name;
  return before;
}
inline std::size_t go_down(std::string& path, index_t i) {
  return go_down(path, std::to_string(i).c_str());
}

/// Calls f(path, leaf) for the leaves below a module, and f.enter(path, module) before those of
/// each module if f has that. What `fields` gets is one type for all modules: with a lambda in
/// each, a model takes the compiler a quarter longer.
template <class F>
struct walker {
  F& f;
  std::string& path;

  template <class M>
  void walk(M& m) const {
    using T = std::remove_cvref_t<M>;
    if constexpr (parameter_field<T> || tensor_field<T>) {
      f(std::as_const(path), m);
    } else {
      if constexpr (requires { f.enter(std::as_const(path), m); }) f.enter(std::as_const(path), m);
      if constexpr (composite<T>) {
        T::fields(m, *this);
      } else {
        index_t i = 0;
        for (auto& item : m) (*this)(i++, item);
      }
    }
  }
  /// A part by its name or its index.
  template <class Key, class Part>
  void operator()(Key key, Part& part) const {
    const std::size_t up = go_down(path, key);
    walk(part);
    path.resize(up);
  }
};
}  // namespace detail

/// Calls f(path, leaf) for every parameter and every tensor below `m`, in declaration order. Names
/// are joined with dots, elements of a vector are named by their index.
template <class M, class F>
void for_each_leaf(M& m, F&& f, std::string path = "") {
  detail::walker<std::remove_reference_t<F>>{f, path}.walk(m);
}

/// A module that can use an array of another shape for a parameter: `adapt` gets the parameter's
/// path below the module and returns the values it wants, or nothing if the shape is none that it
/// knows.
template <class M>
concept adapts_weights = requires(const M& m, std::string_view name,
                                  std::span<const std::int64_t> shape, std::vector<float> values) {
  { m.adapt(name, shape, values) } -> std::same_as<std::optional<std::vector<float>>>;
};
/// A module that keeps something in another form than its parameters, and makes it once these have
/// their values.
template <class M>
concept prepares_weights = requires(M& m, const weight_formats& f, const std::string& path) {
  M::prepared(m, f, path);
};

namespace detail {
/// What a module does with its parameters by a rule of its own; null: nothing.
struct module_rules {
  std::string path;
  void* at;
  void (*prepare)(void* at, const weight_formats&, const std::string& path) = nullptr;
  std::optional<std::vector<float>> (*adapt)(const void* at, std::string_view name,
                                             std::span<const std::int64_t> shape,
                                             std::vector<float> values) = nullptr;
};

/// The parameters of a model that are there, and the modules with rules. What is done to all
/// parameters is written for these lists, which are one type for all models of an engine.
template <engine E>
struct parameter_list {
  std::vector<std::pair<std::string, any_parameter<E>>> all;
  std::vector<module_rules> rules;

  template <class Leaf>
  void operator()(const std::string& path, Leaf& leaf) {
    if constexpr (parameter_field<Leaf>)
      if (leaf) all.emplace_back(path, any_parameter<E>(leaf));
  }
  template <class M>
  requires(prepares_weights<M> || adapts_weights<M>) void enter(const std::string& path, M& m) {
    module_rules r{path, &m};
    if constexpr (prepares_weights<M>)
      r.prepare = [](void* at, const weight_formats& f, const std::string& here) {
        M::prepared(*static_cast<M*>(at), f, here);
      };
    if constexpr (adapts_weights<M>)
      r.adapt = [](const void* at, std::string_view name, std::span<const std::int64_t> shape,
                   std::vector<float> values) {
        return static_cast<const M*>(at)->adapt(name, shape, std::move(values));
      };
    rules.push_back(std::move(r));
  }
  /// f(path, parameter); `Const`: of const ones.
  template <bool Const, class F>
  void each(F& f) const {
    for (const auto& one : all) one.second.template visit<Const>([&](auto& p) { f(one.first, p); });
  }
  void prepare(const weight_formats& f) const {
    for (const module_rules& r : rules)
      if (r.prepare) r.prepare(r.at, f, r.path);
  }
};
template <module M>
auto list_parameters(M& m, const std::string& path = "") {
  parameter_list<typename M::engine_type> found;
  for_each_leaf(const_cast<std::remove_const_t<M>&>(m), found, path);
  return found;
}
}  // namespace detail

/// Calls f(path, parameter) for every parameter that is there.
template <class M, class F>
void for_each_parameter(M& m, F&& f, const std::string& path = "") {
  if constexpr (module<M>) {
    detail::list_parameters(m, path).template each<std::is_const_v<M>>(f);
  } else {  // parts of several modules
    for_each_leaf(
        m,
        [&](const std::string& here, auto& leaf) {
          if constexpr (parameter_field<decltype(leaf)>) {
            if (leaf) f(here, leaf);
          }
        },
        path);
  }
}

template <class M>
index_t parameter_count(const M& m) {
  index_t n = 0;
  for_each_parameter(m, [&](const std::string&, const auto& p) { n += p.value.count(); });
  return n;
}

/// Gives every trainable parameter a gradient of zeros, and takes it from the others.
template <class M>
void allocate_grads(M& m) {
  for_each_parameter(m, [](const std::string&, auto& p) {
    if (p.trainable) {
      p.allocate_grad();
    } else {
      p.grad = {};
    }
  });
}

/// Freezes (or thaws) every parameter whose path starts with `prefix`, at a dot or as a whole.
/// Returns how many there were; error if there was none.
template <class M>
index_t freeze(M& m, const std::string& prefix, bool trainable = false) {
  index_t n = 0;
  for_each_parameter(m, [&](const std::string& path, auto& p) {
    if (!path.starts_with(prefix)) return;
    if (!prefix.empty() && path.size() > prefix.size() && path[prefix.size()] != '.') return;
    p.trainable = trainable;
    if (!trainable) p.grad = {};
    ++n;
  });
  if (n == 0)
    fail("freeze: no parameter starts with \"", prefix,
         "\"; wanted is a path such as the names "
         "that for_each_parameter gives");
  return n;
}

namespace detail {
struct format_chooser {
  const weight_formats& formats;
  template <class P>
  void operator()(const std::string& path, P& p) const {
    if constexpr (packed_field<P>) p.format = formats.of(path);
  }
};
}  // namespace detail
/// Sets the formats of packed parameters: before they get values.
template <class M>
void choose_formats(M& m, const weight_formats& f) {
  for_each_parameter(m, detail::format_chooser{f});
}

/// Makes what modules keep in another form than their parameters, once these have their values. A
/// module that does has `static void prepared(auto& self, const weight_formats&, path)`.
template <module M>
void prepare(M& m, const weight_formats& f) {
  detail::list_parameters(m).prepare(f);
}

/// Fills a parameter from a function of a random stream; the same numbers on every backend.
template <class P>
void fill(P& p, const std::function<double()>& sample) {
  tensor<typename P::value_type, P::rank> host(p.value.shape());
  for (index_t i = 0; i < host.count(); ++i)
    host.data()[i] = typename P::value_type(real_t<typename P::value_type>(sample()));
  set_value(p, host);
}

template <class M>
void initialise(M& m, random_stream r);
namespace detail {
struct initialiser {
  const random_stream& r;
  template <class Field>
  void operator()(const char* name, Field& field) const {
    nn::initialise(field, r.fork(name));
  }
};
}  // namespace detail
/// Initialises every part: a module with `static void initialise(auto& self, random_stream r)` does
/// it by its own rule (its parts included), others part by part. Streams are named by the path, so
/// a module's numbers don't depend on what stands before it. A bare parameter stays as it is.
template <class M>
void initialise(M& m, random_stream r) {
  using T = std::remove_cvref_t<M>;
  if constexpr (requires { T::initialise(m, r); }) {
    T::initialise(m, r);
  } else if constexpr (parameter_field<T> || tensor_field<T>) {
  } else if constexpr (composite<T>) {
    T::fields(m, detail::initialiser{r});
  } else {
    index_t i = 0;
    for (auto& item : m) nn::initialise(item, r.fork(std::to_string(i++)));
  }
}

}  // namespace mlmamba::nn
