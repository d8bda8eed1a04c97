// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Axes of a figure: where numbers lie, and which of them are written beside it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/train/svg.hpp"

namespace mlmamba::train {

/// Multiples of 1, 2 or 5 times a power of ten, some six of them, and `least` or more apart.
inline std::vector<double> even_ticks(double low, double high, double least = 0) {
  const double rough = std::max(least, (high - low) / 6),
               power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double m : {5.0, 2.0, 1.0})
    if (m * power >= rough) step = m * power;
  std::vector<double> out;
  for (double k = std::ceil(low / step); k * step <= high && out.size() < 20; ++k)
    out.push_back(k * step);
  return out;
}
/// 1, 2 and 5 times powers of ten between 10^low and 10^high.
inline std::vector<double> log_ticks(double low, double high) {
  std::vector<double> out;
  for (double e = std::floor(low); e <= high && out.size() < 40; ++e)
    for (const double m : {1.0, 2.0, 5.0})
      if (const double u = e + std::log10(m); u >= low && u <= high)
        out.push_back(m * std::pow(10, e));
  return out;
}

/// A rectangle of pixels, and what its edges mean: numbers, or their decimal logarithms.
struct plot_axes {
  double left = 0, top = 0, width = 0, height = 0;
  double x0 = 0, x1 = 1, y0 = 0, y1 = 1;
  bool log_x = false, log_y = false;

  double x_at(double v) const { return left + width * (v - x0) / (x1 - x0); }
  double y_at(double v) const { return top + height - height * (v - y0) / (y1 - y0); }

  /// The axes, ticks with their numbers, lines across at those of y (and of a logarithmic x).
  void draw(svg_drawing& to, std::string_view x_name, const std::vector<double>& x_ticks,
            const std::vector<double>& y_ticks) const {
    const double bottom = top + height;
    for (const double t : y_ticks) {
      const double y = y_at(log_y ? std::log10(t) : t);
      to.line(left, y, left + width, y, "stroke='#e4e4e4'");
      to.text(left - 8, y + 4, written(t), "font-size='11' text-anchor='end' fill='#555'");
    }
    for (const double t : x_ticks) {
      const double x = x_at(log_x ? std::log10(t) : t);
      if (log_x) {
        to.line(x, top, x, bottom, "stroke='#e4e4e4'");
      } else {
        to.line(x, bottom, x, bottom + 4, "stroke='#999'");
      }
      to.text(x, bottom + 17, written(t), "font-size='11' text-anchor='middle' fill='#555'");
    }
    to.line(left, top, left, bottom, "stroke='#999'");
    to.line(left, bottom, left + width, bottom, "stroke='#999'");
    to.text(left + width / 2, bottom + 36, x_name,
            "font-size='12' text-anchor='middle' fill='#555'");
  }

  static std::string written(double v) {
    char buffer[48];
    std::snprintf(buffer, sizeof buffer, "%.6g", v);
    return buffer;
  }
};

}  // namespace mlmamba::train
