// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Parameters: learned arrays, and packed ones that can't be trained.
#pragma once

#include <type_traits>

#include "mlmamba/core/context.hpp"
#include "mlmamba/core/packed_matrix.hpp"

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
}  // namespace detail

template <class T>
concept parameter_field = detail::is_parameter<std::remove_cvref_t<T>>;
template <class T>
concept packed_field = detail::is_packed<std::remove_cvref_t<T>>;

/// Gives a parameter these values.
template <class P>
void set_value(P& p, const tensor<typename P::value_type, P::rank>& host) {
  if constexpr (packed_field<P>) {
    p.value = packed_matrix(host.view(), p.format, p.wide);
  } else {
    from_host(p.value.view(), host.view());
  }
}

namespace detail {
/// A parameter of engine E whose rank and type are known at run time.
template <engine E>
struct any_parameter {
  enum class kind { wide, weight, value, packed };

  void* at;
  int rank;
  kind type;

  template <int R, class T>
  explicit any_parameter(parameter<E, R, T>& p)
      : at(&p),
        rank(R),
        type(std::is_same_v<T, typename E::accum>    ? kind::wide
             : std::is_same_v<T, typename E::weight> ? kind::weight
                                                     : kind::value) {
    static_assert(R >= 1 && R <= 4, "a parameter has one to four axes");
    static_assert(std::is_same_v<T, typename E::accum> || std::is_same_v<T, typename E::weight> ||
                      std::is_same_v<T, typename E::value>,
                  "a parameter is stored as one of the types of its engine");
  }
  explicit any_parameter(packed_parameter<E>& p) : at(&p), rank(2), type(kind::packed) {}

  /// f(parameter) with its own type; `Const`: as a const one.
  template <bool Const, class F>
  void visit(F&& f) const {
    using A = typename E::accum;
    using W = typename E::weight;
    using V = typename E::value;
    if (type == kind::wide) return visit_rank<Const, A>(f);
    if constexpr (!std::is_same_v<W, A>)
      if (type == kind::weight) return visit_rank<Const, W>(f);
    if constexpr (!std::is_same_v<V, A> && !std::is_same_v<V, W>)
      if (type == kind::value) return visit_rank<Const, V>(f);
    if constexpr (packs_weights<E>)
      f(*static_cast<std::conditional_t<Const, const packed_parameter<E>, packed_parameter<E>>*>(
          at));
  }

 private:
  template <bool Const, class T, int R>
  auto& as() const {
    using P = parameter<E, R, T>;
    return *static_cast<std::conditional_t<Const, const P, P>*>(at);
  }
  template <bool Const, class T, class F>
  void visit_rank(F& f) const {
    if (rank == 1) return f(as<Const, T, 1>());
    if (rank == 2) return f(as<Const, T, 2>());
    if (rank == 3) return f(as<Const, T, 3>());
    f(as<Const, T, 4>());
  }
};
}  // namespace detail

}  // namespace mlmamba::nn
