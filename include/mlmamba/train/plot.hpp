// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pictures of results as one self-contained SVG: a table, bars with intervals, curves.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/train/plot_axes.hpp"
#include "mlmamba/train/svg.hpp"

namespace mlmamba::train {

/// Bars of one panel, one for each series. Shares in [0, 1].
struct bar_panel {
  struct bar {
    double value = 0, low = 0, high = 0;
  };
  std::string title;
  std::vector<bar> bars;
  double reference = -1;  ///< a dashed line, such as chance; negative: none
};

/// One curve over a count, such as updates; points that are not finite are left out, and with a log
/// axis those not above 0.
struct curve {
  std::vector<double> x, y;
};

/// A line of a log_plot that bounds the points: y = min(rate x, top); infinite: no such bound.
struct roof {
  std::string name;
  double rate = 0, top = 0;
};

/// A page of figures, one below the other. Series have the same colour in every figure.
///
///   plot_page page("Connectors", "1000 updates", {"linear", "mlp"});
///   page.bars("Right answers", {{"count", {{.5, .4, .6}, {.7, .6, .8}}}}, "without picture");
///   page.curves("Loss", "update", {first, second}, true);
///   write_file("lab.svg", page.svg());
///
/// Errors    mlmamba::error if a figure has other than one entry for each series
class plot_page {
 public:
  plot_page(std::string_view title, std::string_view subtitle, std::vector<std::string> series)
      : series_(std::move(series)) {
    y_ = 44;
    text(margin, y_, title, "font-size='22' font-weight='600'");
    y_ += 22;
    text(margin, y_, subtitle, "font-size='13' fill='#555'");
    y_ += 14;
  }

  /// A row for each series; the first column is its name, the others are right-aligned.
  void table(const std::vector<std::string>& head,
             const std::vector<std::vector<std::string>>& rows, std::string_view note = {}) {
    expect(rows.size(), "table");
    y_ += 30;
    const double first = 150;
    const double step =
        (width - 2 * margin - first) / double(std::max<std::size_t>(1, head.size()));
    const auto column = [&](std::size_t i) { return margin + first + step * double(i + 1); };
    for (std::size_t i = 0; i < head.size(); ++i)
      text(column(i), y_, head[i], "font-size='12' text-anchor='end' fill='#555'");
    line(margin, y_ + 8, width - margin, y_ + 8, "stroke='#999'");
    for (std::size_t r = 0; r < rows.size(); ++r) {
      y_ += 24;
      drawing_.box(margin, y_ - 10, 11, 11, color(r));
      text(margin + 18, y_, series_[r], "font-size='13'");
      for (std::size_t i = 0; i < std::min(rows[r].size(), head.size()); ++i)
        text(column(i), y_, rows[r][i], "font-size='13' text-anchor='end'");
    }
    if (!note.empty()) text(margin, y_ += 24, note, "font-size='12' fill='#555'");
    y_ += 12;
  }

  /// Panels in rows of four: a bar for each series from 0 to 100 %, its interval as a whisker.
  void bars(std::string_view title, const std::vector<bar_panel>& panels,
            std::string_view reference_name = {}) {
    heading(title);
    constexpr std::size_t across = 4;
    const double names = 110, cell = (width - 2 * margin - names) / double(across), value = 44;
    const double row = 19, span = cell - value - 24;
    const double height = row * double(series_.size());
    bool any_reference = false;
    for (std::size_t p = 0; p < panels.size(); ++p) {
      const bar_panel& panel = panels[p];
      expect(panel.bars.size(), "bars");
      if (p % across == 0) {
        y_ += p == 0 ? 24 : height + 66;
        for (std::size_t s = 0; s < series_.size(); ++s)
          text(margin + names - 8, y_ + 12 + row * double(s) + 12, series_[s],
               "font-size='12' text-anchor='end'");
      }
      const double x = margin + names + cell * double(p % across), y = y_ + 10;
      const auto at = [&](double share) { return x + span * std::clamp(share, 0.0, 1.0); };
      text(x, y_, panel.title, "font-size='13' font-weight='600'");
      for (const int percent : {0, 25, 50, 75, 100}) {
        const double here = at(percent / 100.0);
        line(here, y, here, y + height + 4, percent == 0 ? "stroke='#999'" : "stroke='#e4e4e4'");
        if (percent % 50 == 0)
          text(here, y + height + 17, std::to_string(percent) + (percent == 100 ? " %" : ""),
               "font-size='11' text-anchor='middle' fill='#555'");
      }
      for (std::size_t s = 0; s < panel.bars.size(); ++s) {
        const auto& b = panel.bars[s];
        const double top = y + 3 + row * double(s), middle = top + 6.5;
        drawing_.box(x, top, at(b.value) - x, 13, color(s));
        line(at(b.low), middle, at(b.high), middle, "stroke='#111' stroke-width='1.3'");
        for (const double end : {b.low, b.high})
          line(at(end), middle - 3, at(end), middle + 3, "stroke='#111' stroke-width='1.3'");
        text(x + span + 8, middle + 4.5, svg_drawing::number(100 * b.value, 1), "font-size='12'");
      }
      if (panel.reference >= 0) {
        any_reference = true;
        const double here = at(panel.reference);
        line(here, y - 2, here, y + height + 4,
             "stroke='#111' stroke-width='1.2' stroke-dasharray='4 3'");
      }
    }
    if (!panels.empty()) y_ += height + 50;
    if (any_reference && !reference_name.empty()) {
      line(margin + names, y_ - 4, margin + names + 28, y_ - 4,
           "stroke='#111' stroke-width='1.2' stroke-dasharray='4 3'");
      text(margin + names + 36, y_, reference_name, "font-size='12' fill='#555'");
      y_ += 12;
    }
  }

  /// A curve for each series, with axes and a legend.
  void curves(std::string_view title, std::string_view x_name, const std::vector<curve>& curves,
              bool log_y = false) {
    expect(curves.size(), "curves");
    heading(title);
    plot_axes axes{.left = margin + 60,
                   .top = y_ + 16,
                   .width = width - 2 * margin - 60 - 150,
                   .height = 320,
                   .log_y = log_y};
    const auto each = [&](const curve& c, const auto& f) {
      for (std::size_t i = 0; i < std::min(c.x.size(), c.y.size()); ++i)
        if (std::isfinite(c.x[i]) && std::isfinite(c.y[i]) && (!log_y || c.y[i] > 0))
          f(c.x[i], log_y ? std::log10(c.y[i]) : c.y[i]);
    };
    bool any = false;
    double &x0 = axes.x0, &x1 = axes.x1, &y0 = axes.y0, &y1 = axes.y1;
    for (const curve& c : curves)
      each(c, [&](double x, double y) {
        x0 = any ? std::min(x0, x) : x, x1 = any ? std::max(x1, x) : x;
        y0 = any ? std::min(y0, y) : y, y1 = any ? std::max(y1, y) : y;
        any = true;
      });
    if (!(x1 > x0)) x0 -= 0.5, x1 += 0.5;
    const double pad = y1 > y0 ? 0.05 * (y1 - y0) : 0.05;
    y0 -= pad, y1 += pad;
    std::vector<double> ticks = log_y ? log_ticks(y0, y1) : even_ticks(y0, y1);
    if (log_y && ticks.size() < 3) ticks = even_ticks(std::pow(10, y0), std::pow(10, y1));
    axes.draw(drawing_, x_name, even_ticks(x0, x1, 1), ticks);
    for (std::size_t s = 0; s < curves.size(); ++s) {
      const std::string ink = "stroke='" + std::string(color(s)) + "'";
      std::vector<std::pair<double, double>> path;
      each(curves[s], [&](double x, double y) { path.emplace_back(axes.x_at(x), axes.y_at(y)); });
      drawing_.polyline(path, "stroke-width='1.8' stroke-linejoin='round' " + ink);
      const auto [x, y] = legend(axes, s);
      line(x, y, x + 22, y, "stroke-width='3' " + ink);
      text(x + 30, y + 4, series_[s], "font-size='12'");
    }
    end_figure(axes);
  }

  /// Points of each series on two logarithmic axes, with dashed roofs; joined in order, or not.
  /// Points that are not above 0 are left out.
  void log_plot(std::string_view title, std::string_view x_name, std::string_view y_name,
                const std::vector<curve>& points, bool joined,
                const std::vector<roof>& roofs = {}) {
    expect(points.size(), "log_plot");
    heading(title);
    plot_axes axes{.left = margin + 60,
                   .top = y_ + 30,
                   .width = width - 2 * margin - 60 - 190,
                   .height = 320,
                   .log_x = true,
                   .log_y = true};
    std::vector<double> xs, ys;
    const auto each = [&](const curve& c, const auto& f) {
      for (std::size_t i = 0; i < std::min(c.x.size(), c.y.size()); ++i)
        if (c.x[i] > 0 && c.y[i] > 0 && std::isfinite(c.x[i]) && std::isfinite(c.y[i]))
          f(std::log10(c.x[i]), std::log10(c.y[i]));
    };
    for (const curve& c : points)
      each(c, [&](double x, double y) { xs.push_back(x), ys.push_back(y); });
    if (xs.empty()) xs = {0}, ys = {0};
    double &x0 = axes.x0, &x1 = axes.x1, &y0 = axes.y0, &y1 = axes.y1;
    const auto [x_low, x_high] = std::minmax_element(xs.begin(), xs.end());
    x0 = *x_low - 0.15, x1 = *x_high + 0.15;
    const auto bound = [](const roof& r, double x) {
      return std::log10(std::min(r.rate * std::pow(10, x), r.top));
    };
    for (const roof& r : roofs)
      for (const double y : {bound(r, x0), bound(r, x1)})
        if (std::isfinite(y)) ys.push_back(y);
    const auto [y_low, y_high] = std::minmax_element(ys.begin(), ys.end());
    y0 = *y_low - 0.1, y1 = *y_high + 0.1;
    const auto ticks = [](double low, double high) {
      std::vector<double> t = log_ticks(low, high);
      if (t.size() > 9)  // whole powers of ten
        std::erase_if(
            t, [](double v) { return std::abs(std::log10(v) - std::round(std::log10(v))) > 1e-6; });
      return t;
    };
    axes.draw(drawing_, x_name, ticks(x0, x1), ticks(y0, y1));
    text(axes.left, axes.top - 8, y_name, "font-size='12' fill='#555'");
    for (const roof& r : roofs) {
      const double knee = std::clamp(r.rate > 0 ? std::log10(r.top / r.rate) : x0, x0, x1);
      for (const auto& [a, b] : {std::pair{x0, knee}, std::pair{knee, x1}})
        if (b > a)
          line(axes.x_at(a), axes.y_at(bound(r, a)), axes.x_at(b), axes.y_at(bound(r, b)),
               "stroke='#111' stroke-width='1.2' stroke-dasharray='5 4'");
      text(axes.x_at(x1) - 4, axes.y_at(bound(r, x1)) - 5, r.name,
           "font-size='11' text-anchor='end'");
    }
    for (std::size_t s = 0; s < points.size(); ++s) {
      const std::string_view ink = color(s);
      std::vector<std::pair<double, double>> path;
      each(points[s], [&](double x, double y) {
        path.emplace_back(axes.x_at(x), axes.y_at(y));
        drawing_.circle(path.back().first, path.back().second, 4, ink);
      });
      if (joined) drawing_.polyline(path, "stroke-width='1.6' stroke='" + std::string(ink) + "'");
      const auto [x, y] = legend(axes, s);
      drawing_.circle(x + 8, y, 4, ink);
      text(x + 20, y + 4, series_[s], "font-size='12'");
    }
    end_figure(axes);
  }

  std::string svg() const { return drawing_.file(width, y_ + 24); }

  /// Colours that differ for the colour-blind too, at least where they are neighbours.
  static std::string_view color(std::size_t series) {
    static constexpr std::array<std::string_view, 12> colors = {
        "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
        "#7f5fc7", "#8a8a1f", "#c0392b", "#3f7f93", "#a0734a", "#777777"};
    return colors[series % colors.size()];
  }

 private:
  static constexpr double width = 1120, margin = 36;

  void expect(std::size_t n, const char* what) const {
    if (n != series_.size())
      fail("plot: ", what, " with ", n, " entries; one for each of ", series_.size(),
           " series is wanted");
  }
  void heading(std::string_view title) {
    y_ += 34;
    text(margin, y_, title, "font-size='16' font-weight='600'");
  }

  /// Where the entry of a series begins, beside the axes.
  static std::pair<double, double> legend(const plot_axes& axes, std::size_t series) {
    return {axes.left + axes.width + 20, axes.top + 12 + 20 * double(series)};
  }
  void end_figure(const plot_axes& axes) {
    y_ = std::max(axes.top + axes.height + 44, axes.top + 20 * double(series_.size()) + 10);
  }

  void text(double x, double y, std::string_view what, std::string_view how) {
    drawing_.text(x, y, what, how);
  }
  void line(double x0, double y0, double x1, double y1, std::string_view how) {
    drawing_.line(x0, y0, x1, y1, how);
  }

  std::vector<std::string> series_;
  svg_drawing drawing_;
  double y_ = 0;
};

}  // namespace mlmamba::train
