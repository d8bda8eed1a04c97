// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Shapes and text as one self-contained SVG.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlmamba::train {

/// What is drawn, in the order in which it is: later things lie on top. Lengths are pixels, y grows
/// downwards; `how` are attributes of the shape.
class svg_drawing {
 public:
  /// `digits` after the point; 0 if v is not finite, which SVG does not know.
  static std::string number(double v, int digits) {
    char buffer[48];
    std::snprintf(buffer, sizeof buffer, "%.*f", digits, std::isfinite(v) ? v : 0.0);
    return buffer;
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
  void circle(double x, double y, double radius, std::string_view fill) {
    body_ += "<circle r='" + number(radius, 0) + "' cx='" + number(x, 1) + "' cy='" + number(y, 1) +
             "' fill='" + std::string(fill) + "'/>\n";
  }
  void polyline(const std::vector<std::pair<double, double>>& points, std::string_view how) {
    body_ += "<polyline fill='none' " + std::string(how) + " points='";
    for (const auto& [x, y] : points) body_ += number(x, 1) + ',' + number(y, 1) + ' ';
    body_ += "'/>\n";
  }

  std::string file(double width, double height) const {
    const std::string w = number(width, 0), h = number(height, 0);
    return "<svg xmlns='http://www.w3.org/2000/svg' width='" + w + "' height='" + h +
           "' viewBox='0 0 " + w + ' ' + h +
           "' font-family='system-ui, \"Helvetica Neue\", Arial, \"DejaVu Sans\", sans-serif' "
           "fill='#111'>\n<rect width='100%' height='100%' fill='#fff'/>\n" +
           body_ + "</svg>\n";
  }

 private:
  std::string body_;
};

}  // namespace mlmamba::train
