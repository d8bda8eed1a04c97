// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Does a row of a batch get the same bits alone as among others?
#pragma once

#include <algorithm>

#include "mlmamba/core/tensor.hpp"

namespace mlmamba::verify {

/// Row `row` of the first axis of `from`, as the whole of `to`.
template <class Tensor>
void copy_row(const Tensor& from, index_t row, Tensor& to) {
  const auto h = to_host(from.view());
  std::remove_cvref_t<decltype(h)> part(to.shape());
  std::copy_n(h.data() + row * part.count(), part.count(), part.data());
  from_host(to.view(), std::as_const(part).view());
}
/// Is `alone` row `row` of `many`, bit for bit?
template <class Tensor>
bool is_row(const Tensor& many, index_t row, const Tensor& alone) {
  const auto a = to_host(many.view()), b = to_host(alone.view());
  return std::equal(b.data(), b.data() + b.count(), a.data() + row * b.count());
}

}  // namespace mlmamba::verify
