// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How a token is chosen from logits: the options, and the arithmetic that every backend shares.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "mlmamba/core/engine.hpp"
#include "mlmamba/core/error.hpp"
#include "mlmamba/core/random.hpp"

namespace mlmamba {

/// How the next token is chosen. The default is greedy; a temperature above 0 draws.
struct sampling {
  double temperature = 0;         // divides the logits; 0: the most probable token
  std::int32_t top_k = 0;         // only the k most probable; 0: all; 1: greedy
  double top_p = 1;               // the most probable until their mass reaches p; 0 and 1: all
  double min_p = 0;               // only those at least min_p times as probable as the best; 0: all
  double repetition_penalty = 1;  // of tokens seen: logit < 0 times, else divided by this; 1: none
  std::uint64_t seed = 0;
  std::int32_t vocabulary = 0;  // only tokens below this (padded logits have more); 0: all

  /// Errors: error that names the option, its value and its range.
  void check() const {
    const auto refuse = [](const char* option, auto value, const char* wanted) {
      fail<error>("sampling: ", option, " is ", value, "; ", wanted, " is wanted");
    };
    if (!(temperature >= 0) || std::isinf(temperature))
      refuse("temperature", temperature, "a finite number, 0 or more,");
    if (top_k < 0) refuse("top_k", top_k, "0 (all) or more");
    if (!(top_p >= 0 && top_p <= 1)) refuse("top_p", top_p, "0 to 1");
    if (!(min_p >= 0 && min_p <= 1)) refuse("min_p", min_p, "0 to 1");
    if (!(repetition_penalty >= 0.001 && repetition_penalty <= 1000))
      refuse("repetition_penalty", repetition_penalty, "0.001 to 1000");
    if (vocabulary < 0) refuse("vocabulary", vocabulary, "0 (all) or more");
  }
  bool greedy() const { return temperature == 0 || top_k == 1; }
  /// Does it matter which tokens were seen?
  bool remembers() const { return repetition_penalty != 1; }
};

/// The options of a row as an op takes them: what needs a logarithm or a division is worked out,
/// once and on the host, so that all backends have the same bits of it.
struct sampling_rule {
  double scale = 0;    // 2^52 log2(e) / temperature: see token_weight
  double least = 0;    // log(min_p): survivors are at most so far below the best
  double top_p = 1;    // as the options
  double penalty = 1;  // as the options
  std::uint64_t seed = 0;
  std::int32_t top_k = 0;
  std::int32_t vocabulary = 0;
  bool greedy = true;

  sampling_rule() = default;
  explicit sampling_rule(const sampling& o)
      : scale(std::min(0x1.71547652b82fep52 / o.temperature, std::numeric_limits<double>::max())),
        least(std::log(o.min_p)),  // of 0: -infinity
        top_p(o.top_p),
        penalty(o.repetition_penalty),
        seed(o.seed),
        top_k(o.top_k),
        vocabulary(o.vocabulary),
        greedy(o.greedy()) {}

  /// Of so many logits, how many tokens there are.
  MLMAMBA_HD index_t tokens(index_t logits) const {
    return vocabulary > 0 && vocabulary < logits ? vocabulary : logits;
  }
  MLMAMBA_HD bool limits_mass() const { return top_p > 0 && top_p < 1; }
  /// The mass that top_p asks for, of the whole mass.
  MLMAMBA_HD std::uint64_t wanted(std::uint64_t mass) const {
    const double part = std::ceil(top_p * double(mass));
    return part >= double(mass) ? mass : std::uint64_t(part);
  }
};

/// The logit of a token that was seen, rounded to float; it stays finite, and -infinity stays.
MLMAMBA_HD inline float penalised(float z, double penalty) {
  constexpr float most = 0x1.fffffep127f;  // the largest
  if (z < -most) return z;
  const double y = z < 0 ? double(z) * penalty : double(z) / penalty;
  return y > double(most) ? most : y < -double(most) ? -most : float(y);
}

// Masses of probability are whole numbers: their sums are the same in any order, so that a choice
// is the same on every backend.

/// The mass of the best token is 2 to this power: the masses of n tokens have a sum below 2^63.
MLMAMBA_HD inline int weight_bits(index_t n) {
  int bits = 0;
  for (; n > 0; n /= 2) ++bits;
  return 63 - bits;
}
inline constexpr int weight_steps = 64;
/// 2^63 2^(-i / 64), i < 64: entry i of the table that token_weight looks into.
MLMAMBA_HD constexpr std::uint64_t weight_step(int i) {
  std::uint64_t y = std::uint64_t{1} << 63;
  if (i & 1) y = multiply_high(y, 0xfd3e0c0cf486c175u);
  if (i & 2) y = multiply_high(y, 0xfa83b2db722a033au);
  if (i & 4) y = multiply_high(y, 0xf5257d152486cc2cu);
  if (i & 8) y = multiply_high(y, 0xeac0c6e7dd24392fu);
  if (i & 16) y = multiply_high(y, 0xd744fccad69d6af4u);
  if (i & 32) y = multiply_high(y, 0xb504f333f9de6484u);
  return y;
}
inline constexpr auto weight_table = [] {
  std::array<std::uint64_t, weight_steps> t{};
  for (int i = 0; i < weight_steps; ++i) t[std::size_t(i)] = weight_step(i);
  return t;
}();

/// floor(2^bits e^((z - best) / temperature)) but for a part of 2^-42: the mass of a token. `scale`
/// is sampling_rule's. In whole numbers: a table of powers of 2^(-1/64), and the first terms of
/// the series, the small ones in 32 bits.
MLMAMBA_HD inline std::uint64_t token_weight(float z, float best, double scale, int bits,
                                             const std::uint64_t* table) {
  const double t = (double(best) - double(z)) * scale;
  if (!(t < 0x1p58)) return 0;  // below 2^-63 of the best
  const auto q = std::uint64_t(t);
  const std::uint64_t r = (q << 18) >> 6;  // the last 46 of 52 binary places, as a part of 2^64
  const std::uint64_t upper = r >> 32, lower = r & 0xffffffffu;
  std::uint64_t y = 0x276556eu - (upper * 0x576200u >> 32);  // ln(2)^k / k!, of 2^32
  y = 0xe35846cu - (upper * y >> 32);
  y = 0x3d7f7bffu - (upper * y >> 32);
  y = 0xb17217f7d1cf79acu - (upper * y + (lower * y >> 32));  // of 2^64
  y = ~multiply_high(r, y);                                   // from 1, which is 2^64
  y = multiply_high(table[q >> 46 & 63], y) + 1;
  const int down = 63 - bits + int(q >> 52);
  return down > 63 ? 0 : y >> down;
}

}  // namespace mlmamba
