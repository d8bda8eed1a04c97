// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the connector lab found out, as a table on the terminal, JSON, and a page of figures.
#pragma once

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/core/engine.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/write_file.hpp"
#include "mlmamba/train/plot.hpp"
#include "mlmamba/train/vqa_score.hpp"

namespace lab {

namespace train = mlmamba::train;
using mlmamba::index_t, mlmamba::json;

/// All that was found out about one connector.
struct result {
  std::string name;
  index_t parameters = 0, tokens = 0;
  double connector_flops = 0, picture_flops = 0, connector_ms = 0, picture_ms = 0;
  std::vector<std::uint64_t> seeds;
  std::vector<std::vector<double>> losses;  // [seed][update]
  std::vector<train::vqa_report> each;      // [seed]
  std::vector<train::answered> answers;     // of all seeds
  train::vqa_report all;

  const train::share& main() const { return all.all_short.total ? all.all_short : all.all; }
  double last_loss() const {  // mean of the last tenth, and of the seeds
    double sum = 0, n = 0;
    for (const auto& l : losses)
      for (std::size_t i = l.size() - std::max<std::size_t>(1, l.size() / 10); i < l.size(); ++i)
        sum += l[i], ++n;
    return sum / std::max(n, 1.0);
  }
};

/// Types of questions in order of first sight.
inline std::vector<std::string> types_of(const std::vector<result>& results) {
  std::vector<std::string> types;
  for (const auto& r : results)
    for (const auto& row : r.all.rows)
      if (row.kind.empty() && std::find(types.begin(), types.end(), row.type) == types.end())
        types.push_back(row.type);
  return types;
}
inline const train::share* share_of(const train::vqa_report& r, const std::string& type) {
  for (const auto& row : r.rows)
    if (row.kind.empty() && row.type == type) return &row.exact;
  return nullptr;
}

inline const std::vector<std::string> columns = {"right, %", "95 % interval", "last loss",
                                                 "tokens",   "parameters",    "MFLOP",
                                                 "ms",       "MFLOP picture", "ms picture"};
inline std::vector<std::string> cells(const result& r) {
  const auto number = train::svg_drawing::number;
  const auto& s = r.main();
  return {
      number(100 * s.value(), 1),   number(100 * s.low(), 1) + " to " + number(100 * s.high(), 1),
      number(r.last_loss(), 3),     std::to_string(r.tokens),
      std::to_string(r.parameters), number(r.connector_flops / 1e6, 2),
      number(r.connector_ms, 2),    number(r.picture_flops / 1e6, 1),
      number(r.picture_ms, 2)};
}

/// Mean over the seeds, in some hundred windows.
inline train::curve curve_of(const result& r) {
  train::curve c;
  const std::size_t n = r.losses.empty() ? 0 : r.losses[0].size();
  const std::size_t window = std::max<std::size_t>(1, n / 100);
  for (std::size_t at = 0; at + window <= n; at += window) {
    double sum = 0;
    for (const auto& l : r.losses)
      for (std::size_t i = at; i < at + window; ++i) sum += l[i];
    c.x.push_back(double(at) + double(window + 1) / 2);
    c.y.push_back(sum / double(window * r.losses.size()));
  }
  return c;
}

/// Writes lab.json and lab.svg. `blind`: the answers without a picture, if they are the same for
/// all.
inline void write(const std::vector<result>& results, const train::vqa_report* blind,
                  const json& about, const std::string& caption,
                  const std::filesystem::path& folder) {
  const auto types = types_of(results);
  nlohmann::ordered_json j;
  j["run"] = about;
  j["types"] = types;
  for (const result& r : results) {
    nlohmann::ordered_json c;
    c["name"] = r.name;
    c["parameters"] = r.parameters;
    c["tokens"] = r.tokens;
    c["flops"] = {{"connector", r.connector_flops}, {"picture", r.picture_flops}};
    c["milliseconds"] = {{"connector", r.connector_ms}, {"picture", r.picture_ms}};
    c["last_loss"] = r.last_loss();
    c["accuracy"] = train::to_json(r.all);
    for (std::size_t i = 0; i < r.seeds.size(); ++i)
      c["seeds"].push_back(
          {{"seed", r.seeds[i]}, {"accuracy", train::to_json(r.each[i])}, {"loss", r.losses[i]}});
    j["connectors"].push_back(std::move(c));
  }
  if (blind) j["no_picture"] = train::to_json(*blind);

  std::vector<std::string> names;
  std::vector<std::vector<std::string>> rows;
  std::vector<train::curve> curves;
  for (const result& r : results) {
    names.push_back(r.name);
    rows.push_back(cells(r));
    curves.push_back(curve_of(r));
  }
  std::vector<train::bar_panel> panels;
  const auto panel = [&](const std::string& title, auto&& share) {
    train::bar_panel p{title, {}, -1};
    for (const result& r : results) {
      const train::share* s = share(r.all);
      p.bars.push_back(s ? train::bar_panel::bar{s->value(), s->low(), s->high()}
                         : train::bar_panel::bar{});
    }
    if (blind)
      if (const train::share* s = share(*blind)) p.reference = s->value();
    panels.push_back(std::move(p));
  };
  for (const std::string& type : types)
    panel(type, [&](const train::vqa_report& r) { return share_of(r, type); });
  panel("all short answers", [](const train::vqa_report& r) { return &r.all_short; });
  train::plot_page page("Connectors compared", caption, names);
  page.table(columns, rows,
             "right: short answers. MFLOP, ms: the connector for one picture; \"picture\": towers, "
             "connector and language model up to the first logits.");
  page.bars("Right answers by type of question, with 95 % intervals", panels,
            "the same language model without a picture");
  page.curves("Training loss, logarithmic", "update", curves, true);
  mlmamba::write_file(folder / "lab.json", j.dump(1) + "\n");
  mlmamba::write_file(folder / "lab.svg", page.svg());
}

inline void print(const std::vector<result>& results, const train::vqa_report* blind) {
  const auto types = types_of(results);
  std::printf("%-14s", "");
  for (const auto& c : columns) std::printf(" %14s", c.c_str());
  for (const auto& x : results) {
    std::printf("\n%-14s", x.name.c_str());
    for (const auto& c : cells(x)) std::printf(" %14s", c.c_str());
  }
  std::printf("\n\n%-14s", "right, %");
  for (const auto& type : types) std::printf(" %11s", type.c_str());
  const auto row = [&](const std::string& name, const train::vqa_report& report) {
    std::printf("\n%-14s", name.c_str());
    for (const auto& type : types) {
      const auto* share = share_of(report, type);
      std::printf(" %11.1f", share ? 100 * share->value() : 0.0);
    }
  };
  for (const auto& x : results) row(x.name, x.all);
  if (blind) row("(no picture)", *blind);
  std::printf("\n");
}

}  // namespace lab
