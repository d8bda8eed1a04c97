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

#include <cstddef>
#include <string>
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

template <class M, class F>
void walk(M& m, F& f, std::string& path) {
  using T = std::remove_cvref_t<M>;
  if constexpr (parameter_field<T> || tensor_field<T>) {
    f(std::as_const(path), m);
  } else if constexpr (composite<T>) {
    T::fields(m, [&](const char* name, auto& field) {
      const std::size_t up = go_down(path, name);
      walk(field, f, path);
      path.resize(up);
    });
  } else {
    index_t i = 0;
    for (auto& item : m) {
      const std::size_t up = go_down(path, i++);
      walk(item, f, path);
      path.resize(up);
    }
  }
}

/// Lists the parameters that are there.
template <engine E>
struct parameter_list {
  std::vector<std::pair<std::string, any_parameter<E>>> all;

  template <class Leaf>
  void operator()(const std::string& path, Leaf& leaf) {
    if constexpr (parameter_field<Leaf>)
      if (leaf) all.emplace_back(path, any_parameter<E>(leaf));
  }
};
}  // namespace detail

/// Calls f(path, leaf) for every parameter and every tensor below `m`, in declaration order. Names
/// are joined with dots, elements of a vector are named by their index.
template <class M, class F>
void for_each_leaf(M& m, F&& f, std::string path = "") {
  detail::walk(m, f, path);
}

/// Calls f(path, parameter) for every parameter that is there.
template <class M, class F>
void for_each_parameter(M& m, F&& f, const std::string& path = "") {
  if constexpr (requires { typename M::engine_type; }) {
    // The parts of a model are visited by one function, whatever is done to them: with one for
    // every part and every f, models take the compiler a quarter longer.
    detail::parameter_list<typename M::engine_type> found;
    for_each_leaf(const_cast<std::remove_const_t<M>&>(m), found, path);
    for (const auto& one : found.all)
      one.second.template visit<std::is_const_v<M>>([&](auto& p) { f(one.first, p); });
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

/// Sets the formats of packed parameters: before they get values.
template <class M>
void choose_formats(M& m, const weight_formats& f) {
  for_each_parameter(m, [&](const std::string& path, auto& p) {
    if constexpr (packed_field<decltype(p)>) p.format = f.of(path);
  });
}
namespace detail {
template <class M>
void prepare_below(M& m, const weight_formats& f, std::string& path) {
  using T = std::remove_cvref_t<M>;
  if constexpr (parameter_field<T> || tensor_field<T>) {
  } else if constexpr (composite<T>) {
    if constexpr (requires { T::prepared(m, f, path); }) T::prepared(m, f, path);
    T::fields(m, [&](const char* name, auto& field) {
      const std::size_t up = go_down(path, name);
      prepare_below(field, f, path);
      path.resize(up);
    });
  } else {
    index_t i = 0;
    for (auto& item : m) {
      const std::size_t up = go_down(path, i++);
      prepare_below(item, f, path);
      path.resize(up);
    }
  }
}
}  // namespace detail

/// Makes what modules keep in another form than their parameters, once these have their values. A
/// module that does has `static void prepared(auto& self, const weight_formats&, path)`.
template <class M>
void prepare(M& m, const weight_formats& f, std::string path = "") {
  detail::prepare_below(m, f, path);
}

/// Fills a parameter from a function of a random stream; the same numbers on every backend.
template <class P, class F>
void fill(P& p, F&& sample) {
  tensor<typename P::value_type, P::rank> host(p.value.shape());
  for (index_t i = 0; i < host.count(); ++i)
    host.data()[i] = typename P::value_type(real_t<typename P::value_type>(sample()));
  set_value(p, host);
}

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
    T::fields(m, [&](const char* name, auto& field) { nn::initialise(field, r.fork(name)); });
  } else {
    index_t i = 0;
    for (auto& item : m) nn::initialise(item, r.fork(std::to_string(i++)));
  }
}

}  // namespace mlmamba::nn
