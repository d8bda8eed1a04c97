// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Position embeddings of one grid of patches resampled to another, once, when weights are loaded.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/core/view.hpp"

namespace mlmamba {

/// Bicubic resampling of a square grid of vectors, averaging when it shrinks.
///
///   along each axis  y[i] = sum_j w[i,j] x[j],   w[i,j] ~ k((j + 1/2 - c_i) / s), sum_j w[i,j] = 1
///   c_i = (i + 1/2) from/to,  s = max(from/to, 1),  k Keys' cubic with a = -1/2, support 2
///
/// Shapes    x (prefix + from^2, D), y (prefix + to^2, D); the prefix is copied
/// Numerics  weights and sums in double; float between the passes, as the published towers have it;
///           the passes go over columns first, then over rows
/// Errors    shape_error if the sizes are not those
inline std::vector<float> resample_positions(const std::vector<float>& x, index_t prefix,
                                             index_t from, index_t to, index_t d) {
  if (prefix < 0 || from < 1 || to < 1 || d < 1 || index_t(x.size()) != (prefix + from * from) * d)
    fail<shape_error>("resample_positions: ", x.size(), " numbers, prefix ", prefix, ", grid ",
                      from, " to ", to, ", width ", d, "; wanted are (prefix + grid^2) width");
  struct taps {
    index_t first;
    std::vector<double> weight;
  };
  const double ratio = double(from) / double(to), stretch = std::max(ratio, 1.0);
  const auto cubic = [](double t) {
    constexpr double a = -0.5;
    t = std::fabs(t);
    if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
    if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
    return 0.0;
  };
  std::vector<taps> windows;
  for (index_t i = 0; i < to; ++i) {
    const double center = (double(i) + 0.5) * ratio;
    const index_t low = std::max<index_t>(index_t(center - 2 * stretch + 0.5), 0);
    const index_t high = std::min<index_t>(index_t(center + 2 * stretch + 0.5), from);
    taps t{low, {}};
    double sum = 0;
    for (index_t j = low; j < high; ++j) {
      t.weight.push_back(cubic((double(j) - center + 0.5) / stretch));
      sum += t.weight.back();
    }
    for (double& w : t.weight) w /= sum;
    windows.push_back(std::move(t));
  }
  // One pass: `outer` lines of `from` vectors of `width` numbers become lines of `to`.
  const auto pass = [&](const float* in, float* out, index_t outer, index_t width) {
    for (index_t o = 0; o < outer; ++o)
      for (index_t i = 0; i < to; ++i)
        for (index_t k = 0; k < width; ++k) {
          const taps& t = windows[std::size_t(i)];
          double sum = 0;
          for (std::size_t j = 0; j < t.weight.size(); ++j)
            sum += t.weight[j] * double(in[(o * from + t.first + index_t(j)) * width + k]);
          out[(o * to + i) * width + k] = float(sum);
        }
  };
  std::vector<float> across(std::size_t(from * to * d));
  std::vector<float> y(std::size_t((prefix + to * to) * d));
  std::copy_n(x.begin(), prefix * d, y.begin());
  pass(x.data() + prefix * d, across.data(), from, d);
  pass(across.data(), y.data() + prefix * d, 1, to * d);
  return y;
}

}  // namespace mlmamba
