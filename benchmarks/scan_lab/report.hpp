// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Results of the lab, and of others beside them, as one page of HTML that needs nothing else.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "mlmamba/io/json.hpp"
#include "mlmamba/io/write_file.hpp"
#include "mlmamba/train/plot.hpp"

namespace lab {

using namespace mlmamba;

/// A row of a file of results. Only kind, name, shape and seconds must be there: what a foreign row
/// lacks (flops and bytes of the same kind and shape, roofs) comes from the lab's own.
struct result {
  std::string kind, name, shape, dtype, cache, source;
  int threads = 1;
  double seconds = 0, error = -1, flops = 0, bytes = 0, tokens = 0;
  double roof_flops = 0, roof_bytes = 0, of_layer = -1, if_free = -1;
};

namespace detail {

inline std::vector<result> read_results(const std::filesystem::path& path) {
  const std::string who = path.string();
  const json file = read_json(path);
  const json& rows = json_at(file, "results", who);
  if (!rows.is_array()) fail<io_error>(who, ": \"results\" is no array; one of rows is wanted");
  const bool foreign = !json_has(file, "scan_lab");
  std::vector<result> all;
  for (const json& r : rows) {
    result x;
    x.kind = json_get_or<std::string>(r, "kind", "ssd", who);
    x.name = json_get<std::string>(r, "name", who);
    x.shape = json_get<std::string>(r, "shape", who);
    x.dtype = json_get_or<std::string>(r, "dtype", "f32", who);
    x.cache = json_get_or<std::string>(r, "cache", "warm", who);
    x.threads = json_get_or<int>(r, "threads", 1, who);
    x.seconds = json_get<double>(r, "seconds", who);
    if (!(x.seconds > 0)) fail<io_error>(who, ": seconds of \"", x.name, "\" are not above 0");
    x.error = json_get_or<double>(r, "error", -1, who);
    x.flops = json_get_or<double>(r, "flops", 0, who);
    x.bytes = json_get_or<double>(r, "bytes", 0, who);
    x.tokens = json_get_or<double>(r, "tokens", 0, who);
    x.roof_flops = json_get_or<double>(r, "roof_flops", 0, who);
    x.roof_bytes = json_get_or<double>(r, "roof_bytes", 0, who);
    x.of_layer = json_get_or<double>(r, "of_layer", -1, who);
    x.if_free = json_get_or<double>(r, "layer_speedup_if_free", -1, who);
    if (foreign) x.name += " (" + path.stem().string() + ")";
    all.push_back(std::move(x));
  }
  return all;
}
inline void complete(std::vector<result>& all) {
  for (result& r : all)
    for (const result& o : all) {
      if (o.kind != r.kind || o.shape != r.shape) continue;
      if (r.flops <= 0) r.flops = o.flops;
      if (r.bytes <= 0 && o.dtype == r.dtype) r.bytes = o.bytes;
      if (r.tokens <= 0) r.tokens = o.tokens;
    }
}
inline std::string shown(double v, int digits) {
  return v < 0 ? "-" : train::svg_drawing::number(v, digits);
}
inline std::string short_error(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", v);
  return v < 0 ? "-" : text;
}

/// The figures of one kind, dtype and cache state.
inline std::string page_of(const std::string& title, const std::vector<result>& rows) {
  std::vector<std::string> series;
  for (const result& r : rows)
    if (std::find(series.begin(), series.end(), r.name) == series.end()) series.push_back(r.name);
  const auto place = [&](const result& r) {
    return std::size_t(std::find(series.begin(), series.end(), r.name) - series.begin());
  };
  int most = 1;
  double tokens = 0;
  for (const result& r : rows)
    most = std::max(most, r.threads), tokens = std::max(tokens, r.tokens);
  train::plot_page page(title, "useful work of the recurrence, whatever an algorithm does; medians",
                        series);
  std::vector<std::pair<std::string, int>> tables;  // one for each shape and number of threads
  for (const result& r : rows)
    if (const std::pair key{r.shape, r.threads};
        std::find(tables.begin(), tables.end(), key) == tables.end())
      tables.push_back(key);
  for (const auto& [shape, threads] : tables) {
    std::vector<std::vector<std::string>> cells(series.size(), std::vector<std::string>(8, "-"));
    for (const result& r : rows)
      if (r.shape == shape && r.threads == threads)
        cells[place(r)] = {
            shown(1e3 * r.seconds, 3),
            r.tokens > 0 ? shown(1e9 * r.seconds / r.tokens, 0) : "-",
            shown(r.flops / r.seconds * 1e-9, 1),
            r.roof_flops > 0 ? shown(100 * r.flops / r.seconds / r.roof_flops, 0) : "-",
            r.roof_bytes > 0 ? shown(100 * r.bytes / r.seconds / r.roof_bytes, 0) : "-",
            short_error(r.error),
            shown(r.of_layer < 0 ? -1 : 100 * r.of_layer, 1),
            shown(r.if_free, 2)};
    page.table(
        {"ms", "ns/token", "GFLOP/s", "% of FMA", "% of copy", "error", "% of layer", "if free, x"},
        cells, shape + ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads"));
  }
  const auto points = [&](const auto& wanted, const auto& x, const auto& y) {
    std::vector<train::curve> c(series.size());
    for (const result& r : rows)
      if (wanted(r)) c[place(r)].x.push_back(x(r)), c[place(r)].y.push_back(y(r));
    for (train::curve& one : c) {  // lines go from left to right
      std::vector<std::pair<double, double>> p;
      for (std::size_t i = 0; i < one.x.size(); ++i) p.emplace_back(one.x[i], one.y[i]);
      std::sort(p.begin(), p.end());
      for (std::size_t i = 0; i < p.size(); ++i) one.x[i] = p[i].first, one.y[i] = p[i].second;
    }
    return c;
  };
  const auto per_token = [](const result& r) {
    return r.tokens > 0 ? 1e9 * r.seconds / r.tokens : 0;
  };
  const auto speed = [](const result& r) { return r.flops / r.seconds * 1e-9; };
  for (const int threads : {1, most}) {
    if (threads == 1 && most != 1 &&
        std::none_of(rows.begin(), rows.end(), [](const result& r) { return r.threads == 1; }))
      continue;
    train::roof roof{"roof", 0, 0};
    for (const result& r : rows)
      if (r.threads == threads) {
        roof.top = std::max(roof.top, r.roof_flops * 1e-9);
        roof.rate = std::max(roof.rate, r.roof_bytes * 1e-9);
      }
    const std::string on = ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
    page.log_plot("Roofline" + on, "FLOP/byte", "GFLOP/s",
                  points([&](const result& r) { return r.threads == threads && r.bytes > 0; },
                         [](const result& r) { return r.flops / r.bytes; }, speed),
                  false,
                  roof.top > 0 && roof.rate > 0 ? std::vector{roof} : std::vector<train::roof>{});
    page.log_plot("Time over tokens" + on, "tokens", "ns/token",
                  points([&](const result& r) { return r.threads == threads; },
                         [](const result& r) { return r.tokens; }, per_token),
                  true);
    page.log_plot("Error over time" + on, "ns/token", "relative error",
                  points([&](const result& r) { return r.threads == threads; }, per_token,
                         [](const result& r) { return r.error; }),
                  false);
    if (most == 1) break;
  }
  if (most > 1)
    page.log_plot("Speed over threads, most tokens", "threads", "GFLOP/s",
                  points([&](const result& r) { return r.tokens == tokens; },
                         [](const result& r) { return double(r.threads); }, speed),
                  true);
  return page.svg();
}

}  // namespace detail

/// Reads files of results, the lab's and foreign ones, and writes the page. Returns the rows drawn.
inline std::size_t report(const std::vector<std::string>& files, const std::string& to) {
  std::vector<result> all;
  for (const std::string& f : files)
    for (result& r : detail::read_results(f)) all.push_back(std::move(r));
  if (all.empty()) fail<io_error>("report: no results in these files");
  detail::complete(all);
  std::map<std::string, std::vector<result>> groups;
  for (const result& r : all) groups[r.kind + ", " + r.dtype + ", " + r.cache].push_back(r);
  std::string page =
      "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>Scan "
      "lab</title></head>\n"
      "<body style='margin:0'>\n";
  for (const auto& [title, rows] : groups) page += detail::page_of(title, rows);
  write_file(to, page + "</body></html>\n");
  return all.size();
}

}  // namespace lab
