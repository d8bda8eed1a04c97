// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Python's random numbers, for subsets that were drawn with them.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace mlmamba::evaluate {

/// random.Random(seed) of Python 3 for 0 <= seed < 2^32: a Mersenne Twister that is seeded with the
/// array [seed].
///
/// Source    Matsumoto and Nishimura 1998, doi:10.1145/272991.272995
class python_random {
 public:
  explicit python_random(std::uint32_t seed) {
    state_[0] = 19650218u;
    for (std::uint32_t i = 1; i < n; ++i)
      state_[i] = 1812433253u * (state_[i - 1] ^ state_[i - 1] >> 30) + i;
    std::uint32_t i = 1;
    const auto next = [&] {
      if (++i == n) state_[0] = state_[n - 1], i = 1;
    };
    for (std::uint32_t k = 0; k < n; ++k, next())
      state_[i] = (state_[i] ^ (state_[i - 1] ^ state_[i - 1] >> 30) * 1664525u) + seed;
    for (std::uint32_t k = 1; k < n; ++k, next())
      state_[i] = (state_[i] ^ (state_[i - 1] ^ state_[i - 1] >> 30) * 1566083941u) - i;
    state_[0] = 0x80000000u;
  }

  std::uint32_t bits() {
    if (at_ == n) twist();
    std::uint32_t y = state_[at_++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9D2C5680u;
    y ^= y << 15 & 0xEFC60000u;
    return y ^ y >> 18;
  }
  /// Uniform in [0, end), end > 0: drawn anew until it fits.
  std::uint32_t below(std::uint32_t end) {
    const int width = int(std::bit_width(end));
    std::uint32_t x = end;
    while (x >= end) x = bits() >> (32 - width);
    return x;
  }
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i)
      std::swap(items[i - 1], items[below(static_cast<std::uint32_t>(i))]);
  }

 private:
  static constexpr std::uint32_t n = 624, m = 397;

  void twist() {
    for (std::uint32_t i = 0; i < n; ++i) {
      const std::uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % n] & 0x7FFFFFFFu);
      state_[i] = state_[(i + m) % n] ^ y >> 1 ^ (y & 1 ? 0x9908B0DFu : 0u);
    }
    at_ = 0;
  }

  std::array<std::uint32_t, n> state_{};
  std::uint32_t at_ = n;
};

}  // namespace mlmamba::evaluate
