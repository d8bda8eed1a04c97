// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SHA-256 and SHA-1, fed in pieces: they tell whether a file is the one that was published.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace mlmamba {

namespace detail {

/// What both have in common: blocks of 64 bytes, a closing 1 bit, the length in bits.
template <class Hash, std::size_t Words>
class sha_base {
 public:
  void update(std::span<const std::byte> bytes) {
    length_ += bytes.size();
    if (filled_ > 0) {
      const std::size_t n = std::min(bytes.size(), block_.size() - filled_);
      std::memcpy(block_.data() + filled_, bytes.data(), n);
      filled_ += n;
      bytes = bytes.subspan(n);
      if (filled_ < block_.size()) return;
      static_cast<Hash*>(this)->mix(load(block_.data()));
      filled_ = 0;
    }
    for (; bytes.size() >= block_.size(); bytes = bytes.subspan(block_.size()))
      static_cast<Hash*>(this)->mix(load(bytes.data()));
    if (!bytes.empty()) std::memcpy(block_.data(), bytes.data(), bytes.size());
    filled_ = bytes.size();
  }
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }

  /// The digest of all that was given, in lower case hexadecimal. Ends the object's use.
  std::string hex() {
    const std::uint64_t bits = length_ * 8;
    const std::byte one{0x80}, zero{0};
    update(std::span(&one, 1));
    while (filled_ != 56) update(std::span(&zero, 1));
    std::array<std::byte, 8> end;
    for (std::size_t i = 0; i < 8; ++i) end[i] = std::byte((bits >> (56 - 8 * i)) & 0xff);
    update(end);
    std::string text;
    for (std::uint32_t word : h_)
      for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[(word >> shift) & 15];
    return text;
  }

 protected:
  explicit sha_base(const std::array<std::uint32_t, Words>& start) : h_(start) {}
  std::array<std::uint32_t, Words> h_;

 private:
  static std::array<std::uint32_t, 16> load(const std::byte* from) {  // big-endian words
    std::array<std::uint32_t, 16> w;
    for (std::size_t i = 0; i < 16; ++i) {
      const auto byte = [&](std::size_t k) {
        return std::to_integer<std::uint32_t>(from[4 * i + k]);
      };
      w[i] = byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
    }
    return w;
  }
  std::array<std::byte, 64> block_{};
  std::size_t filled_ = 0;
  std::uint64_t length_ = 0;
};

/// The first 32 bits of the fractional part of the K-th root of the first primes, K = 2 or 3: the
/// constants of SHA-256 by their definition, in integers.
template <int K, std::size_t N>
constexpr std::array<std::uint32_t, N> prime_root_fractions() {
  std::array<std::uint32_t, N> out{};
  std::uint32_t prime = 1;
  for (std::size_t n = 0; n < N; ++n) {
    for (bool found = false; !found;) {
      ++prime;
      found = true;
      for (std::uint32_t d = 2; d * d <= prime; ++d) found = found && prime % d != 0;
    }
    // the largest r with r^K <= prime 2^(32 K); r has 5 bits before the point at most
    std::uint64_t r = 0;
    for (int bit = 36; bit >= 0; --bit) {
      const std::uint64_t t = r | std::uint64_t{1} << bit;
      unsigned __int128 power = 1;
      for (int k = 0; k < K; ++k) power *= t;
      if (power <= static_cast<unsigned __int128>(prime) << (32 * K)) r = t;
    }
    out[n] = static_cast<std::uint32_t>(r);
  }
  return out;
}

}  // namespace detail

/// Source    FIPS 180-4, section 6.2
class sha256 : public detail::sha_base<sha256, 8> {
 public:
  sha256() : sha_base(detail::prime_root_fractions<2, 8>()) {}

 private:
  friend class detail::sha_base<sha256, 8>;
  void mix(const std::array<std::uint32_t, 16>& block) {
    static constexpr auto K = detail::prime_root_fractions<3, 64>();
    std::array<std::uint32_t, 64> w;
    std::copy(block.begin(), block.end(), w.begin());
    for (std::size_t t = 16; t < 64; ++t) {
      const std::uint32_t a = w[t - 15], b = w[t - 2];
      w[t] = w[t - 16] + w[t - 7] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) +
             (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = h_;
    for (std::size_t t = 0; t < 64; ++t) {
      const std::uint32_t t1 = h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) +
                               ((e & f) ^ (~e & g)) + K[t] + w[t];
      const std::uint32_t t2 =
          (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const std::array<std::uint32_t, 8> add{a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) h_[i] += add[i];
  }
};

/// For names that git gives; not safe against somebody who makes two files alike on purpose.
///
/// Source    FIPS 180-4, section 6.1
class sha1 : public detail::sha_base<sha1, 5> {
 public:
  sha1() : sha_base({0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u}) {}

 private:
  friend class detail::sha_base<sha1, 5>;
  void mix(const std::array<std::uint32_t, 16>& block) {
    std::array<std::uint32_t, 80> w;
    std::copy(block.begin(), block.end(), w.begin());
    for (std::size_t t = 16; t < 80; ++t)
      w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    auto [a, b, c, d, e] = h_;
    for (std::size_t t = 0; t < 80; ++t) {
      const std::uint32_t f = t < 20   ? (b & c) ^ (~b & d)
                              : t < 40 ? b ^ c ^ d
                              : t < 60 ? (b & c) ^ (b & d) ^ (c & d)
                                       : b ^ c ^ d;
      constexpr std::uint32_t K[] = {0x5a827999u, 0x6ed9eba1u, 0x8f1bbcdcu, 0xca62c1d6u};
      const std::uint32_t next = std::rotl(a, 5) + f + e + K[t / 20] + w[t];
      e = d, d = c, c = std::rotl(b, 30), b = a, a = next;
    }
    const std::array<std::uint32_t, 5> add{a, b, c, d, e};
    for (std::size_t i = 0; i < 5; ++i) h_[i] += add[i];
  }
};

}  // namespace mlmamba
