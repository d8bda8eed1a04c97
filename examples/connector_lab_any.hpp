// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A connector that is one of several, chosen while the program runs.
#pragma once

#include <tuple>
#include <utility>
#include <variant>

#include "mlmamba/models/connector.hpp"

namespace lab {

namespace nn = mlmamba::nn;
using mlmamba::context_of, mlmamba::in, mlmamba::out;

/// A connector and what it is called on the command line.
template <mlmamba::connector C>
struct named {
  using type = C;
  const char* name;
};

/// Any one of them, chosen while the program runs: the model is compiled once for all.
template <class... C>
struct one_of {
  using engine_type = typename std::variant_alternative_t<0, std::variant<C...>>::engine_type;
  using E = engine_type;
  std::variant<C...> chosen;

  explicit one_of(mlmamba::connector_shape n) : chosen(std::in_place_index<0>, n) {}
  explicit one_of(std::variant<C...> c) : chosen(std::move(c)) {}
  static void fields(auto& self, auto&& f) {
    std::visit([&](auto& c) { std::remove_cvref_t<decltype(c)>::fields(c, f); }, self.chosen);
  }
  static void initialise(auto& self, mlmamba::random_stream r) {
    std::visit([&](auto& c) { nn::initialise(c, r); }, self.chosen);
  }

  using saved = std::tuple<typename C::saved...>;
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    return std::visit(
        [&]<class T>(const T& c) { return c.forward(ctx, x, std::get<typename T::saved>(s)); },
        chosen);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    return std::visit(
        [&]<class T>(T& c) { return c.backward(ctx, dy, std::get<typename T::saved>(s)); }, chosen);
  }
};

/// The one_of that holds any of a list.
template <class... N>
one_of<typename N::type...> any_of(const std::tuple<N...>&);

}  // namespace lab
