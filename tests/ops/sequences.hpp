// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Several sequences in one row: the index arrays that the scans and the convolution are tested
// with.
#pragma once

#include "mlmamba/core/tensor.hpp"

namespace mlmamba::verify {

enum class sequences : std::uint8_t {
  one,     ///< no index array
  packed,  ///< starts at 0, changes every `period` tokens (shifted by one in each row)
  later,   ///< the same, but starts at 2: whatever comes before does not belong to it
  padded,  ///< packed, with -1 at both ends and in between
};

/// For `batch` rows, the first of which is row `first` of a larger batch.

template <class Memory>
tensor<std::int32_t, 2, Memory> make_sequences(sequences kind, index_t batch, index_t length,
                                               index_t period, index_t first = 0) {
  tensor<std::int32_t, 2, Memory> t;
  if (kind == sequences::one) return t;
  tensor<std::int32_t, 2> h({batch, length});
  for (index_t b = 0; b < batch; ++b)
    for (index_t i = 0; i < length; ++i) {
      const index_t row = first + b;
      std::int32_t v = std::int32_t((i + row % period) / period);
      if (kind == sequences::later) v += 2;
      if (kind == sequences::padded && (i < row || i % 7 == 5 || i + 2 >= length)) v = -1;
      h(b, i) = v;
    }
  t = tensor<std::int32_t, 2, Memory>(h.shape());
  from_host(t.view(), view<const std::int32_t, 2>(h.view()));
  return t;
}

}  // namespace mlmamba::verify
