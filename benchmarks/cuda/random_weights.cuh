// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Weights of usual sizes for models on a GPU.
#pragma once

#include "measure.cuh"

namespace bench {

/// Normal numbers again and again: drawing billions of them on the host would take minutes.
template <class T, int R>
void fill_again(tensor<T, R, memory::device>& t, double scale, double shift) {
  static const std::vector<float> normal = [] {
    random_stream r{5, 0, 0};
    std::vector<float> v(1048573);
    for (float& x : v) x = float(r.normal());
    return v;
  }();
  std::vector<T> some;
  const index_t period = std::min<index_t>(t.count(), index_t(normal.size()));
  for (index_t i = 0; i < period; ++i)
    some.push_back(T(float(shift + scale * double(normal[std::size_t(i)]))));
  for (index_t i = 0; i < t.count(); i += period)
    allocator<memory::device>::from_host(t.data() + i, some.data(),
                                         std::size_t(std::min(period, t.count() - i)) * sizeof(T));
}

/// Weights of usual sizes; returns their bytes.
template <class M>
double randomise(M& model) {
  double bytes = 0;
  nn::for_each_parameter(model, [&](const std::string& path, auto& p) {
    const auto ends = [&](const char* s) { return path.ends_with(s); };
    constexpr int rank = std::remove_cvref_t<decltype(p)>::rank;
    double scale = 0.02, shift = 0;
    if (ends("A_log")) scale = 0.5, shift = 1.5;
    if (ends("dt_bias")) scale = 0.5, shift = -4;
    if (ends("D") || (rank == 1 && ends("norm.weight")) || ends("norm_f.weight")) shift = 1;
    if (ends("conv1d.weight")) scale = 0.3;
    fill_again(p.value, scale, shift);
    bytes += double(p.value.bytes());
  });
  return bytes;
}

}  // namespace bench
