// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What a vision encoder is: pictures in, a grid of tokens out.
#pragma once

#include <concepts>
#include <span>

#include "mlmamba/nn/module.hpp"

namespace mlmamba {

/// The same pictures, once for every tower, each normalised as that tower wants: (B, 3, S, S).
template <engine E>
using pictures = std::span<const in<E, 4>>;

/// Maps pictures to a row-major grid of tokens (B, T, d_vision).
///   forward  keeps in `saved` what backward needs
///   encode   the same numbers in less memory, for inference and frozen towers
///   backward adds to the gradients of the parameters; those of the pixels are not computed
template <class V>
concept vision_encoder = nn::module<V> &&
    requires(V& v, const V& cv, context_of<typename V::engine_type>& ctx,
             pictures<typename V::engine_type> x, in<typename V::engine_type, 3> dy,
             typename V::saved& s) {
  { V::towers } -> std::convertible_to<int>;
  { cv.grid() } -> std::same_as<index_t>;
  { cv.d_vision() } -> std::same_as<index_t>;
  { cv.forward(ctx, x, s) } -> std::same_as<out<typename V::engine_type, 3>>;
  { cv.encode(ctx, x) } -> std::same_as<out<typename V::engine_type, 3>>;
  { v.backward(ctx, dy, s) } -> std::same_as<void>;
};

}  // namespace mlmamba
