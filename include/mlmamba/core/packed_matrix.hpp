// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrices of weights, prepared once for products: f32, bf16, int8 or 4 bits, in the order in which
// products read them.
//
// Layout    32 rows are a strip. A strip holds, for ascending k, a word of 4 bytes of each row: one
//           float; two bf16; four int8 as unsigned q + 128; or eight 4-bit numbers as unsigned
//           q + 8, k to k + 3 in the low halves of the bytes and k + 4 to k + 7 in the high ones.
//           Rows and k that are not there are zero (q = 0). Scales: [strip][group][row], bf16.
// Numerics  w[n, k] is q scale[n, group of k]. int8: q in [-127, 127], the scale is the largest
//           magnitude / 127; 4 bits: q in [-8, 7], the scale is the value of largest magnitude /
//           -8. Scales are rounded to bf16 before q is: what is in a file as q and scales is packed
//           again without loss
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/core/kept_bytes.hpp"

namespace mlmamba {

enum class weight_scheme { f32, bf16, int8, int4 };

inline const char* to_string(weight_scheme s) {
  constexpr const char* names[] = {"f32", "bf16", "int8", "int4"};
  return names[int(s)];
}
inline weight_scheme weight_scheme_of(std::string_view name) {
  for (auto s : {weight_scheme::f32, weight_scheme::bf16, weight_scheme::int8, weight_scheme::int4})
    if (name == to_string(s)) return s;
  fail<error>("weights: \"", name, "\" is no scheme; wanted is f32, bf16, int8 or int4");
}

/// How a matrix is stored. Groups of `group` neighbouring k of a row share a scale; 0: the whole
/// row.
struct weight_format {
  weight_scheme scheme = weight_scheme::f32;
  index_t group = 64;

  bool quantised() const { return scheme == weight_scheme::int8 || scheme == weight_scheme::int4; }
  bool operator==(const weight_format& o) const {
    return scheme == o.scheme && (!quantised() || group == o.group);
  }
};

/// The formats of a model's matrices by their paths.
struct weight_formats {
  weight_format format;
  std::vector<std::string> keep;  ///< matrices with one of these in their path stay float

  weight_format of(std::string_view path) const {
    for (const std::string& k : keep)
      if (path.find(k) != path.npos) return {};
    return format;
  }
};

/// Why not, or null.
inline const char* problem_with(const weight_format& f) {
  if (f.quantised() && (f.group < 0 || f.group % 8 != 0 || f.group > 65536))
    return "weights: a group is a multiple of 8 up to 65536, or 0 for whole rows";
  return nullptr;
}

/// Some rows of a matrix, all in one format.
class packed_rows {
 public:
  static constexpr index_t strip = 32;      // rows; a multiple of what any kernel computes at once
  static constexpr index_t most_k = 65536;  // so that 32 bits hold the sums of products of a group

  packed_rows() = default;
  /// Errors: shape_error for a format or a k that products can't have; error for numbers that are
  /// not finite, if quantised (they have no scale).
  packed_rows(view<const float, 2> w, weight_format f) : packed_rows(f, w.size[0], w.size[1]) {
    std::vector<std::int8_t> q(std::size_t(groups_ * group_));
    for (index_t n = 0; n < n_; ++n) {
      if (!f.quantised()) {
        put_row(n, w);
        continue;
      }
      for (index_t g = 0; g < groups_; ++g) {
        const index_t from = g * group_, count = std::min(group_, k_ - from);
        scale(n, g) = choose_scale(w, n, from, count);
        const float s = float(scale(n, g));
        for (index_t j = 0; j < count; ++j) put(n, from + j, nearest(w(n, from + j), s));
      }
    }
  }

  index_t rows() const { return n_; }
  index_t columns() const { return k_; }
  weight_format format() const { return format_; }
  index_t group() const { return group_; }    // of k; as stored, never 0
  index_t groups() const { return groups_; }  // per row; 0 without scales
  index_t padded_k() const { return padded_k_; }
  const std::byte* data() const { return payload_.data(); }
  const bf16* scales() const { return reinterpret_cast<const bf16*>(scales_.data()); }
  std::size_t bytes() const { return payload_.bytes() + scales_.bytes(); }
  /// Bytes of a strip.
  index_t strip_bytes() const { return words(padded_k_) * strip * 4; }
  /// What unsigned numbers are above their meaning.
  int offset() const { return format_.scheme == weight_scheme::int8 ? 128 : 8; }

  /// As quantised: q of one weight. Only of quantised formats.
  int q(index_t n, index_t k) const {
    const std::uint8_t b = std::uint8_t(payload_.data()[at(n, k)]);
    if (format_.scheme == weight_scheme::int8) return int(b) - 128;
    return int(k % 8 < 4 ? b & 15 : b >> 4) - 8;
  }
  bf16 scale(index_t n, index_t g) const {
    return scales()[(n / strip * groups_ + g) * strip + n % strip];
  }
  /// The number that a product sees.
  float operator()(index_t n, index_t k) const {
    if (format_.quantised()) return float(q(n, k)) * float(scale(n, k / group_));
    if (format_.scheme == weight_scheme::f32) {
      float v;
      std::memcpy(&v, payload_.data() + at(n, k), 4);
      return v;
    }
    bf16 v;
    std::memcpy(&v, payload_.data() + at(n, k), 2);
    return float(v);
  }

 private:
  packed_rows(weight_format f, index_t n, index_t k) : format_(f), n_(n), k_(k) {
    if (const char* p = problem_with(f)) fail<shape_error>(p);
    if (f.quantised() && k > most_k)
      fail<shape_error>("weights: rows of ", k, " numbers; at most ", most_k, " are wanted");
    padded_k_ = k;
    if (f.quantised()) {
      group_ = f.group > 0 ? f.group : std::max<index_t>(8, (k + 7) / 8 * 8);
      groups_ = (k + group_ - 1) / group_;
      padded_k_ = groups_ * group_;
    }
    const index_t strips = (n + strip - 1) / strip;
    payload_ = kept_bytes(std::size_t(strips * strip_bytes()));
    if (!f.quantised()) return;
    const int zero = offset() == 128 ? 128 : 8 * 17;
    allocator<memory::host>::fill(payload_.data(), static_cast<unsigned char>(zero),
                                  payload_.bytes());
    scales_ = kept_bytes(std::size_t(strips * groups_ * strip) * sizeof(bf16));
  }
  /// Words of k numbers of a row.
  index_t words(index_t k) const {
    constexpr index_t per_word[] = {1, 2, 4, 8};
    const index_t e = per_word[int(format_.scheme)];
    return (k + e - 1) / e;
  }
  /// Where the number is; of 4 bits, where its byte is.
  index_t at(index_t n, index_t k) const {
    constexpr index_t per_word[] = {1, 2, 4, 8}, bytes[] = {4, 2, 1, 1};
    const int s = int(format_.scheme);
    const index_t within = format_.scheme == weight_scheme::int4 ? k % 4 : k % per_word[s];
    return n / strip * strip_bytes() + (k / per_word[s] * strip + n % strip) * 4 +
           within * bytes[s];
  }
  bf16& scale(index_t n, index_t g) {
    return reinterpret_cast<bf16*>(scales_.data())[(n / strip * groups_ + g) * strip + n % strip];
  }
  /// A number q.
  void put(index_t n, index_t k, float v) {
    std::byte* p = payload_.data() + at(n, k);
    if (format_.scheme == weight_scheme::int8) {
      *p = std::byte(int(v) + 128);
    } else {
      const int u = int(v) + 8, old = int(*p);
      *p = std::byte(k % 8 < 4 ? (old & 0xf0) | u : (old & 0x0f) | (u << 4));
    }
  }
  /// A row of numbers that stay floats.
  void put_row(index_t n, view<const float, 2> w) {
    std::byte* p = payload_.data() + at(n, 0);
    if (format_.scheme == weight_scheme::f32) {
      for (index_t k = 0; k < k_; ++k) std::memcpy(p + k * strip * 4, &w(n, k), 4);
    } else {
      for (index_t k = 0; k < k_; ++k) {
        const bf16 b(w(n, k));
        std::memcpy(p + k / 2 * strip * 4 + k % 2 * 2, &b, 2);
      }
    }
  }
  bf16 choose_scale(view<const float, 2> w, index_t n, index_t from, index_t count) const {
    float most = 0;  // with its sign
    for (index_t j = 0; j < count; ++j) {
      const float v = w(n, from + j);
      if (!std::isfinite(v))
        fail<error>("weights: [", n, ", ", from + j, "] is ", v, "; finite numbers are wanted");
      if (std::fabs(v) > std::fabs(most)) most = v;
    }
    // Below this the quotients would be denormal or their inverses infinite: zero, to 30 digits.
    if (std::fabs(most) < 1e-30f) return bf16(0.0f);
    return bf16(format_.scheme == weight_scheme::int8 ? std::fabs(most) / 127 : most / -8);
  }
  float nearest(float v, float s) const {
    if (s == 0) return 0;
    const bool bytes = format_.scheme == weight_scheme::int8;
    constexpr float even = 0x1.8p23f;  // adding it rounds to the nearest integer, ties to even
    return std::clamp((v / s + even) - even, bytes ? -127.0f : -8.0f, bytes ? 127.0f : 7.0f);
  }

  weight_format format_;
  index_t n_ = 0, k_ = 0, padded_k_ = 0, group_ = 1, groups_ = 0;
  kept_bytes payload_, scales_;
};

/// A matrix of weights (N, K) for products: rows in its format, and the last ones, if asked for, in
/// float (steps of a scan bear no quantisation).
class packed_matrix {
 public:
  packed_matrix() = default;
  /// A shape without contents yet.
  explicit packed_matrix(mlmamba::shape<2> n) : shape_(n) {}
  packed_matrix(view<const float, 2> w, weight_format f, index_t wide = 0) : shape_(w.shape()) {
    wide = f.quantised() ? std::clamp<index_t>(wide, 0, w.size[0]) : 0;
    const index_t narrow = w.size[0] - wide;
    if (narrow > 0 || wide == 0) parts_.emplace_back(w.slice(0, 0, narrow), f);
    if (wide > 0) parts_.emplace_back(w.slice(0, narrow, wide), weight_format{});
  }
  mlmamba::shape<2> shape() const { return shape_; }
  index_t size(int axis) const { return shape_.n[axis]; }
  index_t count() const { return shape_.n[0] * shape_.n[1]; }
  const std::vector<packed_rows>& parts() const { return parts_; }
  std::size_t bytes() const {
    std::size_t n = 0;
    for (const packed_rows& p : parts_) n += p.bytes();
    return n;
  }
  explicit operator bool() const { return shape_.n[0] > 0 || !parts_.empty(); }
  /// The numbers that products see.
  tensor<float, 2> unpacked() const {
    tensor<float, 2> w(shape_);
    index_t from = 0;
    for (const packed_rows& p : parts_) {
      for (index_t n = 0; n < p.rows(); ++n)
        for (index_t k = 0; k < p.columns(); ++k) w(from + n, k) = p(n, k);
      from += p.rows();
    }
    return w;
  }

 private:
  mlmamba::shape<2> shape_{};
  std::vector<packed_rows> parts_;
};

}  // namespace mlmamba
