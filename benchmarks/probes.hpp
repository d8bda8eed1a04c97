// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What does this machine allow? Reads, copies and multiply-adds with the threads of a context.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>

#include "mlmamba/backend/cpu/simd/level.hpp"
#include "mlmamba/core/context.hpp"
#if defined(__x86_64__)
#include <immintrin.h>
#include <unistd.h>
#endif

namespace bench {

using namespace mlmamba;

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds that f takes, with what it started on a device.
template <class Context, class F>
double seconds_of(Context& ctx, F&& f) {
  auto wait = [&] {
    if constexpr (requires { ctx.synchronize(); }) ctx.synchronize();
  };
  wait();
  const double from = seconds();
  f();
  wait();
  return seconds() - from;
}

namespace detail {

// The widest vectors of the machine, whatever this file is compiled for. Plain loads and stores, as
// the kernels have them: a library's memcpy may use others.
#if defined(__x86_64__)
__attribute__((target("avx512f"))) inline std::uint64_t read_512(const std::byte* p, index_t n) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (; n >= 256; n -= 256, p += 256) {
    a = _mm512_xor_si512(a, _mm512_loadu_si512(p));
    b = _mm512_xor_si512(b, _mm512_loadu_si512(p + 64));
    c = _mm512_xor_si512(c, _mm512_loadu_si512(p + 128));
    d = _mm512_xor_si512(d, _mm512_loadu_si512(p + 192));
  }
  std::uint64_t s[8];
  _mm512_storeu_si512(s, _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d)));
  return s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
}
__attribute__((target("avx512f"))) inline void copy_512(std::byte* to, const std::byte* p,
                                                        index_t n) {
  for (; n >= 128; n -= 128, p += 128, to += 128) {
    const __m512i a = _mm512_loadu_si512(p), b = _mm512_loadu_si512(p + 64);
    _mm512_storeu_si512(to, a);
    _mm512_storeu_si512(to + 64, b);
  }
}
// 16 sums: 2 units of 4 cycles need 8.
__attribute__((target("avx512f"))) inline float fma_512(index_t rounds) {
  __m512 s[16], a = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(0x1p-20f);
  for (auto& v : s) v = _mm512_setzero_ps();
  for (index_t i = 0; i < rounds; ++i)
    for (auto& v : s) v = _mm512_fmadd_ps(a, b, v);
  for (int i = 1; i < 16; ++i) s[0] = _mm512_add_ps(s[0], s[i]);
  float sums[16];
  _mm512_storeu_ps(sums, s[0]);
  return sums[0];
}
__attribute__((target("avx512f,avx512bf16"))) inline float dot_512(index_t rounds) {
  const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
  __m512 s[16];
  for (auto& v : s) v = _mm512_setzero_ps();
  for (index_t i = 0; i < rounds; ++i)
    for (auto& v : s) v = _mm512_dpbf16_ps(v, ones, ones);
  for (int i = 1; i < 16; ++i) s[0] = _mm512_add_ps(s[0], s[i]);
  float sums[16];
  _mm512_storeu_ps(sums, s[0]);
  return sums[0];
}
__attribute__((target("avx512f,avx512vnni"))) inline float bytes_512(index_t rounds) {
  const __m512i ones = _mm512_set1_epi32(0x01010101);
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a;
  // 10 sums: 2 units of 5 cycles. In assembly: a sum of constants would be computed at once.
  for (index_t n = 0; n < rounds; ++n)
    __asm__ volatile(
        "vpdpbusd %10,%10,%0\n\tvpdpbusd %10,%10,%1\n\tvpdpbusd %10,%10,%2\n\t"
        "vpdpbusd %10,%10,%3\n\tvpdpbusd %10,%10,%4\n\tvpdpbusd %10,%10,%5\n\t"
        "vpdpbusd %10,%10,%6\n\tvpdpbusd %10,%10,%7\n\tvpdpbusd %10,%10,%8\n\t"
        "vpdpbusd %10,%10,%9"
        : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f), "+v"(g), "+v"(h), "+v"(i), "+v"(j)
        : "v"(ones));
  int first[16];
  _mm512_storeu_si512(first, a);
  return float(first[0]);
}
__attribute__((target("avx2,fma"))) inline float fma_256(index_t rounds) {
  __m256 s[12], a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(0x1p-20f);
  for (auto& v : s) v = _mm256_setzero_ps();
  for (index_t i = 0; i < rounds; ++i)
    for (auto& v : s) v = _mm256_fmadd_ps(a, b, v);
  for (int i = 1; i < 12; ++i) s[0] = _mm256_add_ps(s[0], s[i]);
  float sums[8];
  _mm256_storeu_ps(sums, s[0]);
  return sums[0];
}
#if defined(__linux__) && defined(__GNUC__)
#define MLMAMBA_BENCH_TILES
// 4 x 2 products of tiles, of numbers that were loaded: tiles as they are configured, all zero, are
// multiplied faster than any others.
__attribute__((target("amx-tile,amx-bf16,amx-int8"))) inline float tiles(index_t rounds,
                                                                         bool bytes) {
  alignas(64) std::uint8_t setting[64] = {1};
  for (int i = 0; i < 8; ++i) setting[48 + i] = 16, setting[16 + 2 * i] = 64;
  alignas(64) std::uint16_t ones[512];
  std::fill_n(ones, 512, std::uint16_t(bytes ? 0x0101 : 0x3f80));
  asm volatile("" ::"r"(setting), "r"(ones) : "memory");
  _tile_loadconfig(setting);
  _tile_loadd(4, ones, 64);
  _tile_loadd(5, ones, 64);
  _tile_loadd(6, ones, 64);
  _tile_loadd(7, ones, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  if (bytes) {
    for (index_t i = 0; i < rounds; ++i) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    }
  } else {
    for (index_t i = 0; i < rounds; ++i) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  alignas(64) float sums[256];
  _tile_stored(0, sums, 64);
  _tile_release();
  return sums[0];
}
#endif
inline bool has_avx512() { return __builtin_cpu_supports("avx512f"); }
#endif

inline std::uint64_t read(const std::byte* p, index_t n) {
#if defined(__x86_64__)
  if (has_avx512()) return read_512(p, n);
#endif
  std::uint64_t s[8] = {}, v[8];
  for (; n >= 64; n -= 64, p += 64) {
    std::memcpy(v, p, 64);
    for (int l = 0; l < 8; ++l) s[l] ^= v[l];
  }
  return s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
}
inline void copy(std::byte* to, const std::byte* p, index_t n) {
#if defined(__x86_64__)
  if (has_avx512()) return copy_512(to, p, n);
#endif
  std::uint64_t v[8];
  for (; n >= 64; n -= 64, p += 64, to += 64) {
    std::memcpy(v, p, 64);
    std::memcpy(to, v, 64);
  }
}

}  // namespace detail

/// Reads an array with all threads of a context, in parts of 1 MiB: what memory lets a program do
/// that must see so many bytes. The array comes from the allocator of weights, so that its pages
/// are of the same kind.
class read_probe {
 public:
  read_probe() = default;
  explicit read_probe(double bytes) : array_(shape<1>{{(index_t(bytes) + 255) / 256 * 256}}) {
    std::memset(array_.data(), 1, array_.bytes());
  }
  double bytes() const { return double(array_.bytes()); }
  template <class Context>
  double seconds(Context& ctx) {
    return seconds_of(ctx, [&] { (*this)(ctx, array_.data(), array_.count()); });
  }
  /// The same of somebody's array.
  template <class Context>
  void operator()(Context& ctx, const std::byte* p, index_t bytes) {
    constexpr index_t part = index_t{1} << 20;
    ctx.parallel_for((bytes + part - 1) / part, [&](index_t i) {
      sum_ ^= detail::read(p + i * part, std::min(part, bytes - i * part));
    });
  }

 private:
  tensor<std::byte, 1> array_;
  std::atomic<std::uint64_t> sum_{0};  // so that nobody leaves the reads out
};

/// Copies the same number of bytes as an op moves, half of them read and half written, with the
/// threads of a context: what memory lets an op do at best.
class same_copy {
 public:
  explicit same_copy(double bytes)
      : from_(shape<1>{{(index_t(bytes / 2) + 127) / 128 * 128}}), to_(from_.shape()) {
    std::memset(from_.data(), 1, from_.bytes());
    std::memset(to_.data(), 1, to_.bytes());
  }
  template <class Context>
  double seconds(Context& ctx) {
    // Parts of 64 KiB, tens of microseconds at most, as tasks of ops are.
    constexpr index_t part = index_t{1} << 16;
    const index_t n = from_.count();
    return seconds_of(ctx, [&] {
      ctx.parallel_for((n + part - 1) / part, [&](index_t i) {
        detail::copy(to_.data() + i * part, from_.data() + i * part, std::min(part, n - i * part));
      });
    });
  }

 private:
  tensor<std::byte, 1> from_, to_;
};

/// Puts other data into all caches.
template <class Context>
void evict(Context& ctx) {
  long cache = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
  static read_probe other(2.0 * double(std::clamp(cache, 32L << 20, 512L << 20)));
  other.seconds(ctx);
}

/// Operations per second of independent dot products of bytes in registers; 0: the machine has
/// none.
template <class Context>
double byte_probe([[maybe_unused]] Context& ctx) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx512vnni")) return 0;
  std::atomic<float> sum{0};
  const index_t parts = 16 * ctx.threads.size(), rounds = 20000;
  const double s = seconds_of(ctx, [&] {
    ctx.parallel_for(parts, [&](index_t) { sum.store(detail::bytes_512(rounds)); });
  });
  return double(parts) * double(rounds) * 10 * 128.0 / s;
#else
  return 0;
#endif
}

/// Operations per second of products of tiles in registers, of bytes or of bf16, on all threads of
/// a context; 0: the kernels have none here.
template <class Context>
double tile_probe([[maybe_unused]] Context& ctx, [[maybe_unused]] bool bytes) {
#if defined(MLMAMBA_BENCH_TILES)
  using namespace backend::simd;
  if (current_cpu_level() < cpu_level::amx) return 0;
  std::atomic<float> sum{0};
  const index_t parts = 16 * ctx.threads.size(), rounds = 2000;
  const double s = seconds_of(ctx, [&] {
    ctx.parallel_for(parts, [&](index_t) { sum.store(detail::tiles(rounds, bytes)); });
  });
  return double(parts) * double(rounds) * 4 * (bytes ? 32768.0 : 16384.0) / s;
#else
  return 0;
#endif
}

/// FLOP/s of independent multiply-adds in registers, on all threads of a context. For bf16 dot
/// products where they are faster than multiply-adds of float (on some machines they are not).
/// 0: unknown on this machine.
template <class T, class Context>
double compute_probe(Context& ctx) {
#if defined(__x86_64__)
  std::atomic<float> sum{0};  // so that nobody leaves the work out
  const index_t parts = 16 * ctx.threads.size(), rounds = 20000;
  auto rate = [&](auto f, double flops) {
    const double s =
        seconds_of(ctx, [&] { ctx.parallel_for(parts, [&](index_t) { sum.store(f(rounds)); }); });
    return double(parts) * double(rounds) * flops / s;
  };
  double best = 0;
  if (detail::has_avx512()) {
    best = rate(detail::fma_512, 16 * 32.0);
    if (sizeof(T) == 2 && __builtin_cpu_supports("avx512bf16"))
      best = std::max(best, rate(detail::dot_512, 16 * 64.0));
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    best = rate(detail::fma_256, 12 * 16.0);
  }
  return best;
#else
  (void)ctx;
  return 0;
#endif
}

}  // namespace bench
