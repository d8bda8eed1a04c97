// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pictures of results as one self-contained SVG: a table, bars with intervals, curves.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"

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
      box(margin, y_ - 10, 11, 11, color(r));
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
        box(x, top, at(b.value) - x, 13, color(s));
        line(at(b.low), middle, at(b.high), middle, "stroke='#111' stroke-width='1.3'");
        for (const double end : {b.low, b.high})
          line(at(end), middle - 3, at(end), middle + 3, "stroke='#111' stroke-width='1.3'");
        text(x + span + 8, middle + 4.5, number(100 * b.value, 1), "font-size='12'");
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
    const double left = margin + 60, top = y_ + 16, w = width - 2 * margin - 60 - 150, h = 320;
    const auto there = [&](const curve& c, std::size_t i) {
      return std::isfinite(c.x[i]) && std::isfinite(c.y[i]) && (!log_y || c.y[i] > 0);
    };
    const auto up = [&](double v) { return log_y ? std::log10(v) : v; };
    bool any = false;
    double x0 = 0, x1 = 1, y0 = 0, y1 = 1;
    for (const curve& c : curves)
      for (std::size_t i = 0; i < std::min(c.x.size(), c.y.size()); ++i) {
        if (!there(c, i)) continue;
        const double u = up(c.y[i]);
        x0 = any ? std::min(x0, c.x[i]) : c.x[i], x1 = any ? std::max(x1, c.x[i]) : c.x[i];
        y0 = any ? std::min(y0, u) : u, y1 = any ? std::max(y1, u) : u;
        any = true;
      }
    if (!(x1 > x0)) x0 -= 0.5, x1 += 0.5;
    const double pad = y1 > y0 ? 0.05 * (y1 - y0) : 0.05;
    y0 -= pad, y1 += pad;
    const auto px = [&](double v) { return left + w * (v - x0) / (x1 - x0); };
    const auto py = [&](double u) { return top + h - h * (u - y0) / (y1 - y0); };
    std::vector<double> ticks = log_y ? log_ticks(y0, y1) : even_ticks(y0, y1);
    if (log_y && ticks.size() < 3) ticks = even_ticks(std::pow(10, y0), std::pow(10, y1));
    for (const double t : ticks) {
      line(left, py(up(t)), left + w, py(up(t)), "stroke='#e4e4e4'");
      text(left - 8, py(up(t)) + 4, short_number(t),
           "font-size='11' text-anchor='end' fill='#555'");
    }
    for (const double t : even_ticks(x0, x1, 1)) {
      line(px(t), top + h, px(t), top + h + 4, "stroke='#999'");
      text(px(t), top + h + 17, short_number(t), "font-size='11' text-anchor='middle' fill='#555'");
    }
    line(left, top, left, top + h, "stroke='#999'");
    line(left, top + h, left + w, top + h, "stroke='#999'");
    text(left + w / 2, top + h + 36, x_name, "font-size='12' text-anchor='middle' fill='#555'");
    for (std::size_t s = 0; s < curves.size(); ++s) {
      const curve& c = curves[s];
      body_ += "<polyline fill='none' stroke-width='1.8' stroke-linejoin='round' stroke='" +
               std::string(color(s)) + "' points='";
      for (std::size_t i = 0; i < std::min(c.x.size(), c.y.size()); ++i)
        if (there(c, i)) body_ += number(px(c.x[i]), 1) + ',' + number(py(up(c.y[i])), 1) + ' ';
      body_ += "'/>\n";
      const double row = top + 12 + 20 * double(s), at = left + w + 20;
      line(at, row, at + 22, row, ("stroke-width='3' stroke='" + std::string(color(s)) + "'"));
      text(at + 30, row + 4, series_[s], "font-size='12'");
    }
    y_ = std::max(top + h + 44, top + 20 * double(series_.size()) + 10);
  }

  /// Points of each series on two logarithmic axes, with dashed roofs; joined in order, or not.
  /// Points that are not above 0 are left out.
  void log_plot(std::string_view title, std::string_view x_name, std::string_view y_name,
                const std::vector<curve>& points, bool joined,
                const std::vector<roof>& roofs = {}) {
    expect(points.size(), "log_plot");
    heading(title);
    const double left = margin + 60, top = y_ + 30, w = width - 2 * margin - 60 - 190, h = 320;
    std::vector<double> xs, ys;
    const auto each = [&](const curve& c, const auto& f) {
      for (std::size_t i = 0; i < std::min(c.x.size(), c.y.size()); ++i)
        if (c.x[i] > 0 && c.y[i] > 0 && std::isfinite(c.x[i]) && std::isfinite(c.y[i]))
          f(std::log10(c.x[i]), std::log10(c.y[i]));
    };
    for (const curve& c : points)
      each(c, [&](double x, double y) { xs.push_back(x), ys.push_back(y); });
    if (xs.empty()) xs = {0}, ys = {0};
    const auto [x_low, x_high] = std::minmax_element(xs.begin(), xs.end());
    const double x0 = *x_low - 0.15, x1 = *x_high + 0.15;
    const auto bound = [](const roof& r, double x) {
      return std::log10(std::min(r.rate * std::pow(10, x), r.top));
    };
    for (const roof& r : roofs)
      for (const double y : {bound(r, x0), bound(r, x1)})
        if (std::isfinite(y)) ys.push_back(y);
    const auto [y_low, y_high] = std::minmax_element(ys.begin(), ys.end());
    const double y0 = *y_low - 0.1, y1 = *y_high + 0.1;
    const auto px = [&](double x) { return left + w * (x - x0) / (x1 - x0); };
    const auto py = [&](double y) { return top + h - h * (y - y0) / (y1 - y0); };
    const auto ticks = [](double low, double high) {
      std::vector<double> t = log_ticks(low, high);
      if (t.size() > 9)  // whole powers of ten
        std::erase_if(
            t, [](double v) { return std::abs(std::log10(v) - std::round(std::log10(v))) > 1e-6; });
      return t;
    };
    for (const double t : ticks(y0, y1)) {
      line(left, py(std::log10(t)), left + w, py(std::log10(t)), "stroke='#e4e4e4'");
      text(left - 8, py(std::log10(t)) + 4, short_number(t),
           "font-size='11' text-anchor='end' fill='#555'");
    }
    for (const double t : ticks(x0, x1)) {
      line(px(std::log10(t)), top, px(std::log10(t)), top + h, "stroke='#e4e4e4'");
      text(px(std::log10(t)), top + h + 17, short_number(t),
           "font-size='11' text-anchor='middle' fill='#555'");
    }
    line(left, top, left, top + h, "stroke='#999'");
    line(left, top + h, left + w, top + h, "stroke='#999'");
    text(left, top - 8, y_name, "font-size='12' fill='#555'");
    text(left + w / 2, top + h + 36, x_name, "font-size='12' text-anchor='middle' fill='#555'");
    for (const roof& r : roofs) {
      const double knee = std::clamp(r.rate > 0 ? std::log10(r.top / r.rate) : x0, x0, x1);
      for (const auto& [a, b] : {std::pair{x0, knee}, std::pair{knee, x1}})
        if (b > a)
          line(px(a), py(bound(r, a)), px(b), py(bound(r, b)),
               "stroke='#111' stroke-width='1.2' stroke-dasharray='5 4'");
      text(px(x1) - 4, py(bound(r, x1)) - 5, r.name, "font-size='11' text-anchor='end'");
    }
    for (std::size_t s = 0; s < points.size(); ++s) {
      const std::string ink(color(s));
      std::string path;
      each(points[s], [&](double x, double y) {
        path += number(px(x), 1) + ',' + number(py(y), 1) + ' ';
        body_ += "<circle r='4' cx='" + number(px(x), 1) + "' cy='" + number(py(y), 1) +
                 "' fill='" + ink + "'/>\n";
      });
      if (joined)
        body_ += "<polyline fill='none' stroke-width='1.6' stroke='" + ink + "' points='" + path +
                 "'/>\n";
      const double row = top + 12 + 20 * double(s), at = left + w + 20;
      body_ += "<circle r='4' cx='" + number(at + 8, 1) + "' cy='" + number(row, 1) + "' fill='" +
               ink + "'/>\n";
      text(at + 20, row + 4, series_[s], "font-size='12'");
    }
    y_ = std::max(top + h + 44, top + 20 * double(series_.size()) + 10);
  }

  std::string svg() const {
    const std::string w = number(width, 0), h = number(y_ + 24, 0);
    return "<svg xmlns='http://www.w3.org/2000/svg' width='" + w + "' height='" + h +
           "' viewBox='0 0 " + w + ' ' + h +
           "' font-family='system-ui, \"Helvetica Neue\", Arial, \"DejaVu Sans\", sans-serif' "
           "fill='#111'>\n<rect width='100%' height='100%' fill='#fff'/>\n" +
           body_ + "</svg>\n";
  }

  /// Colours that differ for the colour-blind too, at least where they are neighbours.
  static std::string_view color(std::size_t series) {
    static constexpr std::array<std::string_view, 12> colors = {
        "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00",
        "#7f5fc7", "#8a8a1f", "#c0392b", "#3f7f93", "#a0734a", "#777777"};
    return colors[series % colors.size()];
  }

  static std::string number(double v, int digits) {
    char buffer[48];
    std::snprintf(buffer, sizeof buffer, "%.*f", digits, std::isfinite(v) ? v : 0.0);
    return buffer;
  }
  static std::string short_number(double v) {
    char buffer[48];
    std::snprintf(buffer, sizeof buffer, "%.6g", v);
    return buffer;
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

  void text(double x, double y, std::string_view what, std::string_view how) {
    body_ += "<text x='" + number(x, 1) + "' y='" + number(y, 1) + "' " + std::string(how) + '>';
    for (const char c : what) {
      if (c == '<') {
        body_ += "&lt;";
      } else if (c == '>') {
        body_ += "&gt;";
      } else if (c == '&') {
        body_ += "&amp;";
      } else if (static_cast<unsigned char>(c) >= ' ') {  // control characters are no XML
        body_ += c;
      }
    }
    body_ += "</text>\n";
  }
  void line(double x0, double y0, double x1, double y1, std::string_view how) {
    body_ += "<line x1='" + number(x0, 1) + "' y1='" + number(y0, 1) + "' x2='" + number(x1, 1) +
             "' y2='" + number(y1, 1) + "' " + std::string(how) + "/>\n";
  }
  void box(double x, double y, double w, double h, std::string_view fill) {
    body_ += "<rect x='" + number(x, 1) + "' y='" + number(y, 1) + "' width='" + number(w, 1) +
             "' height='" + number(h, 1) + "' fill='" + std::string(fill) + "'/>\n";
  }

  /// Multiples of 1, 2 or 5 times a power of ten, some six of them, and `least` or more apart.
  static std::vector<double> even_ticks(double low, double high, double least = 0) {
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
  static std::vector<double> log_ticks(double low, double high) {
    std::vector<double> out;
    for (double e = std::floor(low); e <= high && out.size() < 40; ++e)
      for (const double m : {1.0, 2.0, 5.0})
        if (const double u = e + std::log10(m); u >= low && u <= high)
          out.push_back(m * std::pow(10, e));
    return out;
  }

  std::vector<std::string> series_;
  std::string body_;
  double y_ = 0;
};

}  // namespace mlmamba::train
