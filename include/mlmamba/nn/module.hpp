// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Modules: parameters, the one reflection (`fields`), and what every visitor is written with.
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

#include <string>
#include <type_traits>
#include <vector>

#include "mlmamba/core/context.hpp"
#include "mlmamba/core/packed_matrix.hpp"
#include "mlmamba/core/random.hpp"

namespace mlmamba::nn {

/// A learned array. Matrices are stored as E::weight, vectors and what must stay wide as E::accum;
/// the gradient is in accum and exists only while training.
template <engine E, int R,
          class T = std::conditional_t<R == 1, typename E::accum, typename E::weight>>
struct parameter {
  using engine_type = E;
  using value_type = T;
  static constexpr int rank = R;

  tensor<T, R, typename E::memory> value;
  tensor<typename E::accum, R, typename E::memory> grad;
  bool trainable = true;

  parameter() = default;
  explicit parameter(shape<R> n) : value(n) {}

  void allocate_grad() { grad = tensor<typename E::accum, R, typename E::memory>(value.shape()); }
  /// Is the parameter there? (An optional one, such as a bias, may be absent.)
  explicit operator bool() const { return bool(value); }
};

/// The matrix of a linear map, prepared for products; set_value packs it. It can't be trained.
template <engine E>
struct packed_parameter {
  using engine_type = E;
  using value_type = float;
  static constexpr int rank = 2;
  static_assert(std::is_same_v<typename E::memory, memory::host>);

  packed_matrix value;
  weight_format format;  // what it is packed in
  index_t wide = 0;      // so many last rows stay float
  bool trainable = false;

  packed_parameter() = default;
  explicit packed_parameter(shape<2> n) : value(n) {}
  explicit operator bool() const { return bool(value); }
};

/// The matrix of a linear map on any engine.
template <engine E>
using product_weight = std::conditional_t<packs_weights<E>, packed_parameter<E>, parameter<E, 2>>;

namespace detail {
struct probe {
  template <class T>
  void operator()(const char*, T&) const {}
};
template <class T>
inline constexpr bool is_parameter = false;
template <class E, int R, class T>
inline constexpr bool is_parameter<parameter<E, R, T>> = true;
template <class E>
inline constexpr bool is_parameter<packed_parameter<E>> = true;
template <class T>
inline constexpr bool is_packed = false;
template <class E>
inline constexpr bool is_packed<packed_parameter<E>> = true;
template <class T>
inline constexpr bool is_tensor = false;
template <class T, int R, class M>
inline constexpr bool is_tensor<tensor<T, R, M>> = true;
}  // namespace detail

template <class T>
concept parameter_field = detail::is_parameter<std::remove_cvref_t<T>>;
template <class T>
concept packed_field = detail::is_packed<std::remove_cvref_t<T>>;
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

/// Calls f(path, leaf) for every parameter and every tensor below `m`, in declaration order. Names
/// are joined with dots, elements of a vector are named by their index.
template <class M, class F>
void for_each_leaf(M& m, F&& f, const std::string& path = "") {
  using T = std::remove_cvref_t<M>;
  if constexpr (parameter_field<T> || tensor_field<T>) {
    f(path, m);
  } else if constexpr (composite<T>) {
    T::fields(m, [&](const char* name, auto& field) { for_each_leaf(field, f, join(path, name)); });
  } else {
    index_t i = 0;
    for (auto& item : m) for_each_leaf(item, f, join(path, std::to_string(i++)));
  }
}

/// Calls f(path, parameter) for every parameter that is there.
template <class M, class F>
void for_each_parameter(M& m, F&& f, const std::string& path = "") {
  for_each_leaf(
      m,
      [&](const std::string& here, auto& leaf) {
        if constexpr (parameter_field<decltype(leaf)>) {
          if (leaf) f(here, leaf);
        }
      },
      path);
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

/// Gives a parameter these values.
template <class P>
void set_value(P& p, const tensor<typename P::value_type, P::rank>& host) {
  if constexpr (packed_field<P>) {
    p.value = packed_matrix(host.view(), p.format, p.wide);
  } else {
    from_host(p.value.view(), host.view());
  }
}

/// Sets the formats of packed parameters: before they get values.
template <class M>
void choose_formats(M& m, const weight_formats& f) {
  for_each_parameter(m, [&](const std::string& path, auto& p) {
    if constexpr (packed_field<decltype(p)>) p.format = f.of(path);
  });
}
/// Makes what modules keep in another form than their parameters, once these have their values. A
/// module that does has `static void prepared(auto& self, const weight_formats&, path)`.
template <class M>
void prepare(M& m, const weight_formats& f, const std::string& path = "") {
  using T = std::remove_cvref_t<M>;
  if constexpr (parameter_field<T> || tensor_field<T>) {
  } else if constexpr (composite<T>) {
    if constexpr (requires { T::prepared(m, f, path); }) T::prepared(m, f, path);
    T::fields(m, [&](const char* name, auto& field) { nn::prepare(field, f, join(path, name)); });
  } else {
    index_t i = 0;
    for (auto& item : m) nn::prepare(item, f, join(path, std::to_string(i++)));
  }
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
