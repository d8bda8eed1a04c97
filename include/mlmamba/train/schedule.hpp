// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The learning rate of each update: warm-up, then constant or a cosine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "mlmamba/core/engine.hpp"
#include "mlmamba/core/error.hpp"

namespace mlmamba::train {

enum class decay_shape : std::uint8_t {
  constant,  ///< the peak after the warm-up
  cosine,    ///< half a cosine from the peak to `last` at the end
};

inline std::string_view name_of(decay_shape d) {
  return d == decay_shape::cosine ? "cosine" : "constant";
}
inline decay_shape decay_shape_of(std::string_view name) {
  for (auto d : {decay_shape::constant, decay_shape::cosine})
    if (name_of(d) == name) return d;
  fail("schedule: decay \"", name, "\"; constant or cosine is wanted");
}

/// Learning rate per update; updates count from 0.
///
///   s < warmup   peak (s + 1) / warmup,  or peak s / warmup if the first update has rate 0
///   s >= warmup  last + (peak - last) (1 + cos(pi (s - warmup) / (steps - warmup))) / 2
///
/// Units     learning rate per update; `warmup` and `steps` in updates
/// Source    Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts
struct schedule {
  double peak = 1e-3;
  double last = 0;
  index_t steps = 1000;
  index_t warmup = 0;
  decay_shape decay = decay_shape::cosine;
  /// Rate 0 for the first update, as the original's scheduler has it: that update then changes only
  /// the moments.
  bool first_update_zero = false;

  /// The warm-up as a share of all steps, rounded down.
  static index_t warmup_of(double ratio, index_t steps) {
    if (!(ratio >= 0 && ratio <= 1))
      fail("schedule: warm-up ratio ", ratio, "; a share in [0, 1] is wanted");
    // A double has no room for the largest counts: one step more would be none.
    return static_cast<index_t>(std::min(static_cast<double>(steps) * ratio, 0x1p62));
  }

  void check() const {
    if (!(peak >= 0) || !std::isfinite(peak) || !(last >= 0) || !(last <= peak))
      fail("schedule: peak ", peak, " and last ", last, "; 0 <= last <= peak is wanted");
    if (steps < 1 || warmup < 0 || warmup > steps)
      fail("schedule: ", warmup, " warm-up updates of ", steps, "; 0 <= warmup <= steps is wanted");
  }

  double operator()(index_t update) const {
    if (update < 0) fail("schedule: update ", update, "; a count from 0 is wanted");
    const double s = static_cast<double>(update);
    if (update < warmup)
      return peak * (first_update_zero ? s : s + 1) / static_cast<double>(warmup);
    if (first_update_zero && update == 0) return 0;
    if (decay == decay_shape::constant) return peak;
    const double rest = static_cast<double>(std::max<index_t>(1, steps - warmup));
    const double progress = std::min(1.0, (s - static_cast<double>(warmup)) / rest);
    return last + (peak - last) * 0.5 * (1 + std::cos(3.14159265358979323846 * progress));
  }
};

}  // namespace mlmamba::train
