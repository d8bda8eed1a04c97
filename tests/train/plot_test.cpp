// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tests of the SVG writer: what is drawn, that it is well-formed, and what is refused.
#include "mlmamba/train/plot.hpp"

#include <doctest/doctest.h>

#include <limits>

using namespace mlmamba;
using train::plot_page;

namespace {

std::size_t count(const std::string& text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

/// Every tag closes, and nothing but tags has an angle bracket.
bool well_formed(const std::string& svg) {
  std::vector<std::string> open;
  for (std::size_t at = 0; (at = svg.find('<', at)) != std::string::npos;) {
    const std::size_t end = svg.find_first_of("<>", at + 1);
    if (end == std::string::npos || svg[end] == '<') return false;
    const std::string tag = svg.substr(at + 1, end - at - 1);
    if (tag.starts_with('/')) {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (!tag.ends_with('/')) {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    at = end + 1;
  }
  return open.empty();
}

}  // namespace

TEST_CASE("plot: a page has a bar and a whisker for each series, and its texts escaped") {
  plot_page page("a < b & c", "", {"one", "<two>"});
  page.table({"right"}, {{"1"}, {"2"}});
  const std::size_t before = count(page.svg(), "<rect");
  page.bars("bars", {{"count", {{0.5, 0.4, 0.6}, {0.25, 0, 1}}, 0.3}}, "chance");
  const std::string svg = page.svg();
  CHECK(count(svg, "<rect") == before + 2);
  CHECK(count(svg, "stroke-width='1.3'") == 2 * 3);  // a line and two ends
  CHECK(count(svg, "stroke-dasharray") == 2);        // the line and its legend
  CHECK(count(svg, ">50.0</text>") == 1);
  CHECK(count(svg, ">25.0</text>") == 1);
  CHECK(svg.find("a &lt; b &amp; c") != std::string::npos);
  CHECK(svg.find("<two>") == std::string::npos);
  CHECK(well_formed(svg));
}

TEST_CASE("plot: the length of a bar is its share") {
  const auto width_of = [](double share) {
    plot_page page("", "", {"one"});
    page.bars("", {{"", {{share, share, share}}}});
    const std::string svg = page.svg();
    const std::size_t at = svg.find("width='", svg.rfind("<rect"));
    return std::stod(svg.substr(at + 7));
  };
  CHECK(width_of(0) == 0);
  CHECK(width_of(1) > 100);
  CHECK(width_of(0.5) == doctest::Approx(width_of(1) / 2).epsilon(0.001));
  CHECK(width_of(7) == width_of(1));  // never out of its panel
}

TEST_CASE("plot: curves keep points that are numbers, and stay inside the axes") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const bool log : {false, true}) {
    plot_page page("", "", {"one", "none"});
    page.curves("loss", "update", {{{1, 2, 3, 4}, {8, nan, 2, 0.5}}, {}}, log);
    const std::string svg = page.svg();
    CHECK(count(svg, "<polyline") == 2);
    CHECK(svg.find("nan") == std::string::npos);
    const std::size_t at = svg.find("points='") + 8;
    CHECK(count(svg.substr(at, svg.find('\'', at) - at), ",") == 3);
    CHECK(well_formed(svg));
  }
  plot_page two("", "", {"one"});
  two.curves("whole updates", "update", {{{1, 2}, {3, 4}}});
  CHECK(count(two.svg(), ">1.2</text>") == 0);
  plot_page flat("", "", {"one"});
  flat.curves("one point", "update", {{{1}, {2}}});
  CHECK(flat.svg().find("inf") == std::string::npos);
  plot_page zero("", "", {"one"});
  zero.curves("zero has no logarithm", "update", {{{1, 2}, {0, -1}}}, true);
  CHECK(zero.svg().find("inf") == std::string::npos);
}

TEST_CASE("plot: one entry for each series is wanted") {
  plot_page page("", "", {"one", "two"});
  CHECK_THROWS_AS(page.table({"right"}, {{"1"}}), error);
  CHECK_THROWS_AS(page.bars("", {{"count", {{}}}}), error);
  CHECK_THROWS_AS(page.curves("", "", {{}}), error);
}
