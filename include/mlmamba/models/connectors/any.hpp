// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A connector that is one of several, chosen while the program runs: one model type for all.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>

#include "mlmamba/models/connector.hpp"
#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/connectors/pool.hpp"
#include "mlmamba/models/connectors/scan.hpp"

namespace mlmamba {

namespace detail {
template <class C>
concept knows_its_tokens = requires(const C& c) {
  { c.tokens() } -> std::same_as<index_t>;
};
}  // namespace detail

/// One of the connectors C, chosen by its `kind`, or given. The model is compiled once for all of
/// them, and computes what it would with the chosen one itself, to the bit.
///
///   using any = one_of_connectors<linear_connector<E>, my_connector<E>>;
///   any c(shape, "linear");   any mine(shape, my_connector<E>(shape, options));
///
/// Names     as a model with the chosen connector has them
/// Errors    error for a kind that none of them has; what the chosen one throws
template <connector... C>
requires(sizeof...(C) > 0) struct one_of_connectors {
  using choices = std::variant<C...>;
  using engine_type = typename std::variant_alternative_t<0, choices>::engine_type;
  using E = engine_type;
  static constexpr bool names_are_top_level = true;

  connector_shape shape;
  choices chosen;

  /// The first of them.
  explicit one_of_connectors(connector_shape n)
      : one_of_connectors(n, choices(std::in_place_index<0>, n)) {}
  one_of_connectors(connector_shape n, std::string_view kind)
      : one_of_connectors(
            n, choose(kind, [&]<class T>(std::in_place_type_t<T> t) { return choices(t, n); })) {}
  one_of_connectors(connector_shape n, choices c) : shape(n), chosen(std::move(c)) {}

  static void fields(auto& self, auto&& f) {
    std::visit(
        [&](auto& c) {
          using T = std::remove_cvref_t<decltype(c)>;
          if constexpr (requires { T::names_are_top_level; }) {
            T::fields(c, f);
          } else {
            f("projector", c);
          }
        },
        self.chosen);
  }
  static void initialise(auto& self, random_stream r) {
    std::visit([&](auto& c) { nn::initialise(c, r); }, self.chosen);
  }
  index_t tokens() const requires(detail::knows_its_tokens<C>&&...) {
    return std::visit([](const auto& c) { return c.tokens(); }, chosen);
  }

  using saved = std::tuple<typename C::saved...>;
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    return std::visit(
        [&]<class T>(const T& c) { return c.forward(ctx, x, std::get<index_of<T>()>(s)); }, chosen);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    return std::visit(
        [&]<class T>(T& c) { return c.backward(ctx, dy, std::get<index_of<T>()>(s)); }, chosen);
  }

  /// What make(std::in_place_type<T>) returns for the T that is called `kind`.
  template <class Make>
  static choices choose(std::string_view kind, Make&& make) {
    std::optional<choices> made;
    std::string names;
    const auto look = [&]<class T>(std::in_place_type_t<T> t) {
      if constexpr (requires { T::kind; }) {
        if (!made && kind == T::kind) made.emplace(make(t));
        names += (names.empty() ? "" : ", ") + std::string(T::kind);
      }
    };
    (look(std::in_place_type<C>), ...);
    if (!made) fail("connector \"", kind, "\" is not known; one of ", names, " is wanted");
    return std::move(*made);
  }

 private:
  template <class T>
  static constexpr std::size_t index_of() {
    std::size_t i = 0;
    (void)((std::is_same_v<T, C> || (++i, false)) || ...);
    return i;
  }
};

/// Any of the library's connectors; ML-Mamba's if none is named.
template <engine E>
struct any_connector
    : one_of_connectors<scan_connector<E>, cross_scan_connector<E>, linear_connector<E>,
                        mlp_connector<E>, fused_mlp_connector<E>, ldp_connector<E>,
                        fused_ldp_connector<E>, average_pool_connector<E>,
                        pixel_shuffle_connector<E>> {
  using base = one_of_connectors<scan_connector<E>, cross_scan_connector<E>, linear_connector<E>,
                                 mlp_connector<E>, fused_mlp_connector<E>, ldp_connector<E>,
                                 fused_ldp_connector<E>, average_pool_connector<E>,
                                 pixel_shuffle_connector<E>>;
  using base::base;
};

}  // namespace mlmamba
