// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Arrays of numbers on a GPU, for tests.
#pragma once

#include "mlmamba/core/random.hpp"
#include "mlmamba/core/tensor.hpp"

namespace mlmamba::verify {

template <class T, int R>
tensor<T, R, memory::device> numbers(shape<R> n, std::uint64_t seed) {
  random_stream r{seed, 2, 3};
  tensor<T, R> host(n);
  for (index_t i = 0; i < host.count(); ++i) host.data()[i] = T(float(r.normal()));
  tensor<T, R, memory::device> t(n);
  from_host(t.view(), std::as_const(host).view());
  return t;
}

}  // namespace mlmamba::verify
