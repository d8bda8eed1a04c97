// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Counter-based random numbers: the same on every backend, thread count and machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "mlmamba/core/scalar.hpp"

namespace mlmamba {

struct philox_block {
  std::uint32_t v[4];
};

/// Philox 4x32 with 10 rounds: 128 random bits that depend on (key, counter) only.
/// Source    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"
MLMAMBA_HD inline philox_block philox(std::uint64_t key, std::uint64_t counter_high,
                                      std::uint64_t counter_low) {
  std::uint32_t k0 = std::uint32_t(key), k1 = std::uint32_t(key >> 32);
  philox_block c{{std::uint32_t(counter_low), std::uint32_t(counter_low >> 32),
                  std::uint32_t(counter_high), std::uint32_t(counter_high >> 32)}};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c.v[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c.v[2];
    c = {{std::uint32_t(p1 >> 32) ^ c.v[1] ^ k0, std::uint32_t(p1),
          std::uint32_t(p0 >> 32) ^ c.v[3] ^ k1, std::uint32_t(p0)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

/// The number that a stream has at a place.
MLMAMBA_HD inline std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream,
                                            std::uint64_t counter) {
  const philox_block b = philox(seed, stream, counter);
  return std::uint64_t{b.v[0]} | std::uint64_t{b.v[1]} << 32;
}

/// The upper half of the product.
MLMAMBA_HD constexpr std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) {
  __extension__ typedef unsigned __int128 wide;
  return std::uint64_t((static_cast<wide>(a) * b) >> 64);
}

/// FNV-1a, to name a stream by a string (a parameter's path).
inline std::uint64_t hash(std::string_view text) {
  std::uint64_t h = 14695981039346656037ull;
  for (char c : text) h = (h ^ std::uint64_t(static_cast<unsigned char>(c))) * 1099511628211ull;
  return h;
}

/// A stream of random numbers. Its whole state is three numbers: save them to resume it.
struct random_stream {
  std::uint64_t seed = 0, stream = 0, counter = 0;

  std::uint64_t bits() { return random_bits(seed, stream, counter++); }
  /// Uniform in [0, 1), 53 bits.
  double uniform() { return double(bits() >> 11) * 0x1p-53; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform in {0, ..., n - 1}, n > 0 (multiply-shift: bias below n / 2^64).
  std::uint64_t below(std::uint64_t n) { return multiply_high(bits(), n); }
  /// Standard normal, by Box and Muller.
  double normal() {
    const double u = 1.0 - uniform(), v = uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586477 * v);
  }
  /// An independent stream named `name`; forks of forks are named by the whole path.
  random_stream fork(std::string_view name) const {
    const philox_block b = philox(seed, stream, ~hash(name));
    return {seed, std::uint64_t{b.v[0]} | std::uint64_t{b.v[1]} << 32, 0};
  }
};

}  // namespace mlmamba
