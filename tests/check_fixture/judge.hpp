// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The judgement of what was computed for a fixture.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "check_fixture/fixture.hpp"

namespace mlmamba::check_fixture {

/// What passes: a relative error over the whole array.
struct tolerances {
  double output = 2e-5, gradient = 1e-4;
  bool explicit_wins = false;  // given on the command line
};

struct verdict {
  int passed = 0, failed = 0;
};

/// How far one array is off. Infinities must be equal where they are wanted; the rest is judged
/// over the finite elements, by rel = ||got - want|| / ||want|| and the largest deviation.
struct deviation {
  double relative = 0, worst = 0;
  bool zeros = false;  // all finite elements of the want are zero
};
inline deviation compare(const std::vector<double>& got, const std::vector<double>& want) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  double error = 0, norm = 0, worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (std::isinf(want[i]) && got[i] == want[i]) continue;
    double e = std::fabs(got[i] - want[i]);  // NaN if either is, or of infinities of two signs
    if (std::isinf(want[i]) && !std::isnan(got[i])) e = infinite;
    error += e * e;
    if (std::isfinite(want[i])) norm += want[i] * want[i];
    if (!(e <= worst) && !std::isnan(worst)) worst = e;
  }
  deviation d{0, worst, norm == 0};
  if (norm > 0) d.relative = std::sqrt(error / norm);
  if (norm == 0 && !(error == 0)) d.relative = error > 0 ? infinite : error;
  return d;
}

/// Compares every out.* of the file with what was computed and prints a line for each.
inline verdict judge(const fixture& f, const results& got, const tolerances& t) {
  const std::optional<double> own = f.positive("tolerance");
  for (const safetensors_entry& want : f.file().entries()) {  // all before a line is printed
    const auto at = want.name.starts_with("out.") ? got.find(want.name.substr(4)) : got.end();
    if (at == got.end()) continue;
    if (!at->second.integer) f.check_type<float>(want);
    if (at->second.integer && want.type != dtype::u8) f.check_type<std::int32_t>(want);
  }
  verdict v;
  for (const safetensors_entry& want : f.file().entries()) {
    if (!want.name.starts_with("out.")) continue;
    const std::string name = want.name.substr(4);
    const std::string head = f.path() + " " + f.op() + " " + want.name;
    const auto at = got.find(name);
    if (at == got.end()) {
      if (f.op() == "vit" && name == "final_tokens") continue;  // said to be ignored
      std::printf("%s rel=nan max=nan FAIL (this output is not computed)\n", head.c_str());
      ++v.failed;
      continue;
    }
    const result& r = at->second;
    if (r.shape != want.shape || r.values.size() != std::size_t(want.count())) {
      std::printf("%s rel=nan max=nan FAIL (it has shape %s, wanted is %s)\n", head.c_str(),
                  shape_text(r.shape).c_str(), shape_text(want.shape).c_str());
      ++v.failed;
      continue;
    }
    const deviation d = compare(r.values, read_values<double>(want));
    double limit = r.gradient ? t.gradient : t.output;
    if (own && !t.explicit_wins) limit = *own;
    const bool ok = r.integer ? d.worst == 0 : d.zeros ? d.worst < 1e-6 : d.relative <= limit;
    std::printf("%s rel=%.1e max=%.1e %s\n", head.c_str(), d.relative, d.worst, ok ? "ok" : "FAIL");
    ++(ok ? v.passed : v.failed);
  }
  return v;
}

}  // namespace mlmamba::check_fixture
